"""ncnn's layers as operators (Tencent/ncnn, src/layer/*.cpp and docs/developer-guide/operators.md).

Values have no batch: their axis 0 is the channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Protocol

import numpy as np

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.activations import FUNCTIONS, shortest
from converter.structures.following import following
from converter.structures.ops import Compute, Kind, Op, Weight, Window
from converter.structures.parts import Structure
from converter.structures.weights import one_number
from converter.structures.wiring import read_wiring

NAME = "ncnn"


class Layer(Protocol):
    """A line of a ``.param``, as ``converter/formats/ncnn.py`` has it."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lists: Mapping[int, tuple[float, ...]]
    weights: Mapping[str, Tensor]

    def number(self, key: int, default: float = 0) -> float:
        """A parameter."""

    def int(self, key: int, default: int = 0) -> int:
        """A parameter that is an integer."""


def read_ncnn(checkpoint: Checkpoint) -> Structure | None:
    """The network of ncnn's layers.

    Raises:
        NotADenseNet: they are not a DenseNet's; names the layer.
    """
    if checkpoint.graph is None:
        return None
    with following(checkpoint.path, "its layers have parameters"):
        return _structure(checkpoint.graph, checkpoint.head)


def _structure(layers: Sequence[Layer], head: str) -> Structure:
    fed = [layer for layer in layers if layer.kind == "Input"]
    if len(fed) != 1 or not fed[0].outputs:
        raise NotADenseNet(f"it takes {len(fed)} inputs; a DenseNet takes one, the image")
    start = fed[0].outputs[0]
    width, height = fed[0].int(0), fed[0].int(1)
    constants = {
        layer.outputs[0]: Weight(layer.name, layer.weights["weight"], (f"{layer.name}.weight",))
        for layer in layers
        if layer.kind == "MemoryData" and layer.outputs
    }
    ops = [op for layer in layers if layer.kind not in ("Input", "MemoryData") for op in _ops(layer, constants)]
    taken = {name for layer in layers for name in layer.inputs}
    results = [name for layer in layers if layer.inputs for name in layer.outputs if name not in taken]
    size = (height, width) if height > 0 and width > 0 else ()
    names = [f"{layer.name}.{leaf}" for layer in layers for leaf in layer.weights]
    return read_wiring(NAME, ops, start, results, size=size, constants=names, head=head)


def _ops(layer: Layer, constants: Mapping[str, Weight]) -> Iterator[Op]:
    """A layer as operators, the activation that is part of some the last."""
    title = f"{layer.kind} {layer.name}"
    data = tuple(name for name in layer.inputs if name not in constants)
    if layer.kind == "Split":
        yield from (Op("skip", data, y, title) for y in layer.outputs)
        return
    plain = len(layer.outputs) == 1 and (len(data) == 1 or layer.kind in SEVERAL) and data
    if not plain:
        yield from (Op("other", layer.inputs, y, title) for y in layer.outputs)
        return
    y = layer.outputs[0]
    weights = {leaf: Weight(f"{layer.name}.{leaf}", t, (f"{layer.name}.{leaf}",)) for leaf, t in layer.weights.items()}
    base = Op("other", data, y, title, weights=weights)
    reader = READERS.get(layer.kind)
    op = reader(layer, base, constants) if reader else base
    then = FUSED_AT.get(layer.kind)
    code = layer.int(then) if then else 0
    if not code:
        yield op
        return
    inner = f"{y} before its activation"
    compute = _fused(code, layer.lists.get(10, ()))
    kind: Kind = {1: "relu", 4: "sigmoid"}.get(code, "other")  # type: ignore[assignment]
    yield replace(op, y=inner)
    yield Op(kind, (inner,), y, f"the activation of {title}", compute=compute)


SEVERAL = ("Concat", "BinaryOp", "Eltwise")
FUSED_AT = {"Convolution": 9, "ConvolutionDepthWise": 9, "InnerProduct": 9}


def _fused(code: int, values: Sequence[float]) -> Compute | None:
    """activation_type (src/layer/fused_activation.h)."""
    given = [shortest(value) for value in values]
    match code, given:
        case 2, [slope, *_]:
            return lambda x: FUNCTIONS["leaky_relu"](x, slope)
        case 3, [low, high, *_]:
            return lambda x: np.clip(x, low, high)
        case 5, _:
            return lambda x: FUNCTIONS["mish"](x, 0.0)
        case 6, [alpha, beta, *_]:
            return _hardswish(alpha, beta)
    return None


def _hardswish(alpha: float, beta: float) -> Compute:
    return lambda x: x * np.clip(x * alpha + beta, 0, 1)


# -- windows -------------------------------------------------------------------------------------

SAME_UPPER, SAME_LOWER = -233, -234


def _window(layer: Layer, groups: int, pads: tuple[int, int, int, int]) -> Window:
    """1 and 11 the window, then strides and dilations at keys of the caller's."""
    kernel = (layer.int(11, layer.int(1)), layer.int(1))
    left, top, right, bottom = pads
    return Window(kernel, (1, 1), (top, left), (bottom, right), (), groups)


def _conv(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    left = layer.int(4)
    pads = (left, layer.int(14, left), layer.int(15, left), layer.int(16, layer.int(14, left)))
    if min(pads) < 0 and set(pads) != {SAME_UPPER}:
        return op
    if layer.number(18) and any(pads):
        return op
    same = min(pads) < 0
    groups = layer.int(7, 1) if layer.kind == "ConvolutionDepthWise" else 1
    window = replace(
        _window(layer, groups, (0, 0, 0, 0) if same else pads),
        strides=(layer.int(13, layer.int(3, 1)), layer.int(3, 1)),
        dilations=(layer.int(12, layer.int(2, 1)), layer.int(2, 1)),
        same=same,
    )
    shape = op.weights["weight"].tensor.shape
    if prod(shape) != layer.int(6) or (groups > 1 and shape[0] % groups):
        raise NotADenseNet(f"{op.name} has {layer.int(6)} weights, which is no number of windows")
    return replace(op, kind="conv", window=window)


def _pool(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    """0 maximum or average; 4 global; 5 how borders are padded: full (rounding up), valid, SAME; 7 adaptive."""
    average = layer.int(0) == 1
    if layer.int(0) not in (0, 1):
        return op
    if layer.int(4) or (layer.int(7) and layer.int(8) == 1 == layer.int(18, layer.int(8))):
        return replace(op, kind="global_avg" if average else "global_max")
    left, mode = layer.int(3), layer.int(5)
    top = layer.int(13, left)
    pads = (left, top, layer.int(14, left), layer.int(15, top))
    if layer.int(7) or mode not in (0, 1, 2) or min(pads) < 0 or (average and mode == 0 and layer.int(6)):
        return op
    window = replace(
        _window(layer, 1, (0, 0, 0, 0) if mode == 2 else pads),
        strides=(layer.int(12, layer.int(2, 1)), layer.int(2, 1)),
        ceil=mode == 0,
        same=mode == 2,
    )
    return replace(op, kind="avg_pool" if average else "max_pool", window=window)


def _reduction(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    """0 what, 1 whether along all axes, 2 a factor, 3 the axes."""
    axes = {int(axis) % 3 for axis in layer.lists.get(3, ())}
    kind: Kind = {3: "global_avg", 4: "global_max"}.get(layer.int(0), "other")  # type: ignore[assignment]
    return replace(op, kind=kind) if axes == {1, 2} and not layer.int(1) and layer.number(2, 1) == 1 else op


# -- others ----------------------------------------------------------------------------------------


def _kind(kind: Kind) -> Callable[[Layer, Op, Mapping[str, Weight]], Op]:
    return lambda layer, op, _: replace(op, kind=kind)


def _function(name: str) -> Callable[[Layer, Op, Mapping[str, Weight]], Op]:
    return lambda layer, op, _: replace(op, compute=lambda x: FUNCTIONS[name](x, 1.0))


def _norm(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    return replace(op, kind="norm", eps=shortest(layer.number(1)))


def _linear(_layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    return replace(op, kind="linear")


def _concat(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    return replace(op, kind="concat") if layer.int(0) in (0, -3) else op


def _relu(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    slope = shortest(layer.number(0))
    return replace(op, kind="relu") if not slope else replace(op, compute=lambda x: FUNCTIONS["leaky_relu"](x, slope))


def _prelu(_layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    slope = one_number(op.weights["weight"])
    return op if slope is None else replace(op, compute=lambda x: FUNCTIONS["leaky_relu"](x, slope))


def _elu(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    alpha = shortest(layer.number(0, 0.1))
    return replace(op, compute=lambda x: FUNCTIONS["elu"](x, alpha))


def _gelu(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    name = "gelu_tanh" if layer.int(0) else "gelu"
    return replace(op, compute=lambda x: FUNCTIONS[name](x, 1.0))


def _clip(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    low, high = shortest(layer.number(0, -3.4e38)), shortest(layer.number(1, 3.4e38))
    return replace(op, compute=lambda x: np.clip(x, low, high))


def _hard(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    swish = _hardswish(layer.number(0, 0.2), layer.number(1, 0.5))
    sigmoid = layer.kind == "HardSigmoid"
    alpha, beta = layer.number(0, 0.2), layer.number(1, 0.5)
    return replace(op, compute=(lambda x: np.clip(x * alpha + beta, 0, 1)) if sigmoid else swish)


def _dropout(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    return replace(op, kind="skip") if layer.number(0, 1) == 1 else op


def _softmax(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    kind: Kind = "softmax" if layer.kind == "Softmax" else "end"
    return replace(op, kind=kind) if layer.int(0) in (0, -1) else op


def _reshape(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    """To one axis, or to maps of one position: 0 width, 1 height, 2 channels, with -233 for those that are absent."""
    sizes = [layer.int(key, -233) for key in (0, 1, 2, 11)]
    one = sizes[1:] == [-233] * 3 or (sizes[:2] == [1, 1] and sizes[3] == -233)
    return replace(op, kind="flatten") if one else op


def _scale(_layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    return replace(op, kind="affine") if op.weights else op


def _binary(layer: Layer, op: Op, constants: Mapping[str, Weight]) -> Op:
    """0 what: + - * / maximum minimum power, and - / with their operands turned round; 1 and 2 a number."""
    what = layer.int(0)
    if layer.int(1):
        return _with(op, what, Weight(op.name, Tensor.of(np.full(1, layer.number(2)))), first=True)
    if len(op.x) == 2:
        return replace(op, kind="add") if what == 0 else op
    constant = next((constants[name] for name in layer.inputs if name in constants), None)
    if constant is None or len(layer.inputs) != 2:
        return op
    shape, size = constant.tensor.shape, prod(constant.tensor.shape)
    if size != 1 and shape != (size, 1, 1):
        return op
    flat = Tensor((size,), constant.tensor.dtype, lambda: constant.tensor.read().reshape(-1))
    return _with(op, what, replace(constant, tensor=flat), first=layer.inputs[0] == op.x[0])


def _with(op: Op, what: int, number: Weight, *, first: bool) -> Op:
    """Arithmetic with a constant; ``first`` if the value is the left operand."""
    values = number.tensor.read().astype(np.float64)
    if not first and what in (1, 3, 7, 8):
        what = {1: 7, 3: 8, 7: 1, 8: 3}[what]
    made: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]
    match what:
        case 0:
            made = {"bias": values}
        case 1:
            made = {"bias": -values}
        case 2:
            made = {"weight": values}
        case 3:
            made = {"weight": 1 / values}
        case 7:
            made = {"weight": np.full(1, -1.0), "bias": values}
        case _:
            return op
    weights = {leaf: Weight(f"{op.name} ({leaf})", Tensor.of(value), number.sources) for leaf, value in made.items()}
    return replace(op, kind="affine", weights=weights)


def _eltwise(layer: Layer, op: Op, _: Mapping[str, Weight]) -> Op:
    return replace(op, kind="add") if layer.int(0) == 1 and not layer.lists.get(1) and len(op.x) == 2 else op


READERS: Mapping[str, Callable[[Layer, Op, Mapping[str, Weight]], Op]] = {
    "Convolution": _conv,
    "ConvolutionDepthWise": _conv,
    "InnerProduct": _linear,
    "BatchNorm": _norm,
    "Scale": _scale,
    "Bias": _scale,
    "Pooling": _pool,
    "Reduction": _reduction,
    "Concat": _concat,
    "ReLU": _relu,
    "PReLU": _prelu,
    "ELU": _elu,
    "GELU": _gelu,
    "Clip": _clip,
    "HardSwish": _hard,
    "HardSigmoid": _hard,
    "Swish": _function("silu"),
    "SELU": _function("selu"),
    "TanH": _function("tanh"),
    "Mish": _function("mish"),
    "Softplus": _function("softplus"),
    "Dropout": _dropout,
    "Noop": _kind("skip"),
    "Cast": _kind("skip"),
    "Sigmoid": _kind("sigmoid"),
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Flatten": _kind("flatten"),
    "Squeeze": _kind("flatten"),
    "ExpandDims": _kind("flatten"),
    "Reshape": _reshape,
    "BinaryOp": _binary,
    "Eltwise": _eltwise,
}
"""Layers by kind; one that does what a DenseNet does not stays ``other``."""
