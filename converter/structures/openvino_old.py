"""Layers of OpenVINO's IR before version 10 as ONNX's nodes (its documentation of 2020, "IR notation reference").

Constants are blobs of the layer that uses them, flat, and kernels have an attribute for each axis in the oldest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from converter.core.checkpoint import Tensor
from converter.core.errors import NotADenseNet
from converter.structures.onnx_constants import Node
from converter.structures.openvino_description import Layer
from converter.structures.openvino_nodes import READERS, Names, Reader, Scope, ints, node, plain, refused, truth, window

ONE_BY_ONE = (("kernel", "kernel"), ("strides", "stride"), ("pads_begin", "pad"), ("dilations", "dilation"))
"""What the oldest versions say for each axis, as ``kernel-x``."""
ENDS = {"pad-x": "pad-r", "pad-y": "pad-b"}


def start_without(means: Sequence[float] | None, image: str, nodes: list[Node], scope: Scope) -> list[Node]:
    """What a section ``pre-process`` does to the image, as a node before all others.

    Raises:
        NotADenseNet: it does more than to subtract a number of each channel.
    """
    if means is None:
        raise NotADenseNet("its images are normalised by a section pre-process that says more than means")
    if not means:
        return nodes
    prepared = f"{image} less its means"
    values = scope.add("pre-process/mean", Tensor.of(np.array(means, np.float32).reshape(-1, 1, 1)))
    first: Node = {
        **{"op": "Sub", "domain": "", "name": "pre-process", "inputs": [image, values], "outputs": [prepared]},
        **{"attributes": {}, "references": {}},
    }
    return [
        first,
        *({**each, "inputs": [prepared if name == image else name for name in each["inputs"]]} for each in nodes),
    ]


def _blob(scope: Scope, layer: Layer, what: str, shape: Sequence[int]) -> list[str]:
    """The name of a layer's constant in its shape, in a list that is empty where it has none.

    Raises:
        NotADenseNet: it is of a type that no weight has, of 8 bits say.
        ValueError: it has another number of values.
    """
    if what not in layer.constants:
        return []
    flat = layer.constants[what]
    if flat is None or flat.dtype.kind not in "fV":
        refused(scope, layer, (), ())
    if flat is None or flat.shape != (prod(shape),):
        raise ValueError(f"{layer.name} has other {what} than its kernel needs")
    name = f"{layer.name}/{what}"
    return [scope.add(name, Tensor(tuple(shape), flat.dtype, lambda: flat.read().reshape(shape)))]


def _axes(layer: Layer) -> dict[str, str]:
    """The attributes of a window as newer versions have them."""
    found = layer.attributes
    result = dict(found)
    for new, old in ONE_BY_ONE:
        if f"{old}-x" in found:
            result[new] = ",".join(found[f"{old}-{axis}"] for axis in "yx")
    if "pad-x" in found:
        result["pads_end"] = ",".join(found.get(ENDS[f"pad-{axis}"], found[f"pad-{axis}"]) for axis in "yx")
    return result


def _spatial(layer: Layer) -> tuple[Sequence[int], Sequence[int]]:
    """Sizes of the maps it takes and gives."""
    return layer.inputs[0].sizes[2:], layer.outputs[0].sizes[2:]


def _conv(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    said, group, out = _axes(layer), int(layer.attributes.get("group", "1")), int(layer.attributes["output"])
    kernel = ints(said["kernel"])
    weights = _blob(scope, layer, "weights", (out, layer.inputs[0].sizes[1] // group, *kernel)) or [*given[1:2]]
    biases = _blob(scope, layer, "biases", (out,)) or [*given[2:3]]
    found = window(said)
    return [node(layer, "Conv", [given[0], *weights, *biases], made, group=group, **found)]


def _pool(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    said = _axes(layer)
    found: dict[str, Any] = {**window(said), "kernel_shape": ints(said["kernel"])}
    rounding = said.get("rounding_type", said.get("rounding-type", ""))
    found["ceil_mode"] = int(rounding == "ceil") if rounding else _rounded_up(layer, found)
    if said.get("pool-method", "max") == "max":
        return [node(layer, "MaxPool", given, made, **found)]
    return [node(layer, "AveragePool", given, made, count_include_pad=1 - truth(said.get("exclude-pad", "0")), **found)]


def _rounded_up(layer: Layer, found: Mapping[str, Any]) -> int:
    """Whether the sizes of its maps show that sizes are rounded up, where it does not say.

    Raises:
        ValueError: they do not show it.
    """
    kernel, strides, pads = found["kernel_shape"], found["strides"], found.get("pads") or [0] * 8
    (before, after), half = _spatial(layer), len(kernel)
    spans = [n + pads[i] + pads[half + i] - kernel[i] for i, n in enumerate(before)]
    down, up = ([(span + (s - 1) * ceil) // s + 1 for span, s in zip(spans, strides)] for ceil in (0, 1))
    if [*after] not in (down, up) or down == up:
        raise ValueError(f"{layer.name} does not say how sizes are rounded")
    return int([*after] == up)


def _scale_shift(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    width = layer.inputs[0].sizes[1]
    shape = (width, *[1] * (len(layer.inputs[0].sizes) - 2)) if len(layer.inputs[0].sizes) > 2 else (width,)
    scale, shift = (_blob(scope, layer, what, shape) for what in ("weights", "biases"))
    return _scaled(layer, given[:1], made, scale, shift)


def _scaled(layer: Layer, given: Names, made: Names, scale: list[str], shift: list[str]) -> list[Node]:
    """A Mul and an Add, of which either may be absent."""
    inner = [f"{made[0]}/scaled"] if scale and shift else made
    first = [node(layer, "Mul", [*given, *scale], inner)] if scale else []
    second = [node(layer, "Add", [*(inner if scale else given), *shift], made)] if shift else []
    return first + second or [node(layer, "Identity", given, made)]


def _norm(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    """Its blobs are variance and mean; scale and shift are a layer of their own behind it."""
    shape = (layer.inputs[0].sizes[1],)
    names = [
        scope.add(f"{layer.name}/{what}", Tensor.of(np.full(shape, value, np.float32)))
        for what, value in (("ones", 1), ("zeros", 0))
    ]
    mean, variance = (_blob(scope, layer, what, shape) for what in ("biases", "weights"))
    eps = float(layer.attributes["epsilon"])
    return [node(layer, "BatchNormalization", [given[0], *names, *mean, *variance], made, epsilon=eps)]


def _power(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    """(shift + scale * x) ** power."""
    found = {name: float(layer.attributes.get(name, default)) for name, default in POWER.items()}
    if found["power"] not in (1.0, -1.0):
        return plain(layer.type, "openvino")(scope, layer, given, made)
    scale = [_number(scope, layer, "scale", found["scale"])] if found["scale"] != 1 else []
    shift = [_number(scope, layer, "shift", found["shift"])] if found["shift"] else []
    if found["power"] == 1:
        return _scaled(layer, given[:1], made, scale, shift)
    inner = [f"{made[0]}/before"]
    return [*_scaled(layer, given[:1], inner, scale, shift), node(layer, "Reciprocal", inner, made)]


POWER = {"power": "1", "scale": "1", "shift": "0"}


def _number(scope: Scope, layer: Layer, what: str, value: float) -> str:
    return scope.add(f"{layer.name}/{what}", Tensor.of(np.array(value, np.float32)))


def _eltwise(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    op = ELTWISE.get(layer.attributes.get("operation", "sum"))
    weighted = any(float(part) != 1 for part in layer.attributes.get("coeff", "").split(",") if part.strip())
    if op is None or weighted:
        return plain(layer.type, "openvino")(scope, layer, given, made)
    return [node(layer, op, given, made)]


ELTWISE = {"sum": "Add", "add": "Add", "mul": "Mul", "prod": "Mul", "max": "Max", "min": "Min", "sub": "Sub"} | {
    "div": "Div",
    "pow": "Pow",
}


def _linear(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    """It takes maps, too, as one row; the channels of those that are pooled."""
    out, taken = int(layer.attributes["out-size"]), prod(layer.inputs[0].sizes[1:])
    weights = _blob(scope, layer, "weights", (out, taken)) or [*given[1:2]]
    biases = _blob(scope, layer, "biases", (out,)) or [*given[2:3]]
    flat = f"{made[0]}/flat"
    return [
        node(layer, "Flatten", given[:1], [flat]),
        node(layer, "Gemm", [flat, *weights, *biases], made, transB=1),
    ]


def _relu(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    slope = float(layer.attributes.get("negative_slope", "0"))
    return [node(layer, "LeakyRelu", given, made, alpha=slope) if slope else node(layer, "Relu", given, made)]


def _prelu(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    flat = layer.constants.get("weights")
    return [node(layer, "PRelu", [given[0], *_blob(scope, layer, "weights", flat.shape if flat else ())], made)]


def _activation(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    kind = layer.attributes.get("type", "").lower()
    if kind not in ACTIVATIONS:
        return plain(f"{layer.type} {kind}", "openvino")(scope, layer, given, made)
    inner = OLD[ACTIVATIONS[kind]]
    return inner(scope, layer, given, made)


ACTIVATIONS = {"relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "TanH", "elu": "ELU"}


def _permute(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    return [node(layer, "Transpose", given[:1], made, perm=ints(layer.attributes["order"]))]


def _gemm(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    first, second = (truth(layer.attributes.get(f"transpose_{i}", "0")) for i in "ab")
    alpha, beta = (float(layer.attributes.get(name, "1")) for name in ("alpha", "beta"))
    return [node(layer, "Gemm", given, made, alpha=alpha, beta=beta, transA=first, transB=second)]


OLD: Mapping[str, Reader] = {
    **{name: READERS[name] for name in ("Concat", "SoftMax", "Clamp", "TopK", "ReduceMean", "ReduceMax", "Sigmoid")},
    **{name: READERS[name] for name in ("Squeeze", "Unsqueeze", "FakeQuantize", "TensorIterator", "StridedSlice")},
    **{"Exp": READERS["Exp"], "Log": READERS["Log"], "ShapeOf": READERS["ShapeOf"], "ELU": READERS["Elu"]},
    **{name: plain("Tanh") for name in ("TanH", "Tanh")},
    "Reshape": lambda scope, layer, given, made: [node(layer, "Reshape", given[:1], made)],
    "Flatten": lambda scope, layer, given, made: [node(layer, "Flatten", given[:1], made)],
    "Copy": plain("Identity"),
    "Convolution": _conv,
    "Pooling": _pool,
    "ScaleShift": _scale_shift,
    "BatchNormalization": _norm,
    "Power": _power,
    "Eltwise": _eltwise,
    "FullyConnected": _linear,
    "ReLU": _relu,
    "PReLU": _prelu,
    "Activation": _activation,
    "Permute": _permute,
    "Gemm": _gemm,
    "GEMM": _gemm,
}
"""Layers by their type; any other is no DenseNet's."""
