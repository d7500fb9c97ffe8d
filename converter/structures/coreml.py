"""Core ML's operations as operators (coremltools, converters/mil/mil/ops/defs), in NCHW."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Protocol

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.activations import FUNCTIONS, shortest
from converter.structures.following import following
from converter.structures.ops import Compute, Kind, Op, Weight, Window, border_of
from converter.structures.parts import Structure
from converter.structures.weights import flat, lazily, transposed
from converter.structures.wiring import read_wiring
from densenet.module import NORM_TENSORS

NAME = "coreml"
Constant = Tensor | bool | tuple[str, ...]


class Operation(Protocol):
    """As ``converter/formats/coreml/program.py`` has one."""

    kind: str
    name: str
    inputs: Mapping[str, Sequence[str | Constant]]
    outputs: tuple[str, ...]
    names: Mapping[str, str]


class Program(Protocol):
    """As ``converter/formats/coreml/program.py`` has it."""

    inputs: Mapping[str, tuple[int, ...]]
    operations: Sequence[Operation]
    outputs: Sequence[str]
    notes: tuple[str, ...]
    order: str


def read_coreml(checkpoint: Checkpoint) -> Structure | None:
    """The network of a Core ML model.

    Raises:
        NotADenseNet: it computes something else; names the operation.
    """
    if checkpoint.graph is None:
        return None
    with following(checkpoint.path, "its operations have parameters"):
        return _structure(checkpoint.graph, checkpoint.head)


def _structure(program: Program, head: str) -> Structure:
    if len(program.inputs) != 1:
        raise NotADenseNet(f"it takes {len(program.inputs)} inputs; a DenseNet takes one, the image")
    start, shape = next(iter(program.inputs.items()))
    rank = _rank(program, shape)
    ops = [op for operation in program.operations for op in _ops(operation, shape, rank)]
    turned = next((op for op in ops if op.x == (start,)), None)
    last = turned is not None and turned.kind == "turn" and turned.axis == 1
    sizes = shape[1:3] if last and len(shape) == 4 else shape[2:]
    size = sizes if len(sizes) == rank - 2 and min(sizes) > 0 else ()
    found = read_wiring(NAME, ops, start, program.outputs, size=size, head=head)
    front = found.front._replace(order=program.order)
    return replace(found, notes=(*found.notes, *program.notes), front=front)


def _rank(program: Program, shape: tuple[int, ...]) -> int:
    """How many axes feature maps have: as many as the kernels of the first convolution."""
    kernels = (next(iter(op.inputs.get("weight", ())), None) for op in program.operations if op.kind == "conv")
    first = next((kernel for kernel in kernels if isinstance(kernel, Tensor)), None)
    return len(first.shape) if first is not None else 5 if len(shape) == 5 else 4


def _ops(operation: Operation, image: tuple[int, ...], rank: int) -> list[Op]:
    """An operation as one operator for each of its results, for images of a shape; feature maps have so many axes."""
    title = f"{operation.kind} {operation.name}"
    data = tuple(v for values in operation.inputs.values() for v in values if isinstance(v, str))
    base = [Op("other", data, y, title) for y in operation.outputs]
    reader = READERS.get(operation.kind)
    if reader is None or len(base) != 1 or not data:
        kind: Kind = "end" if operation.kind == "classify" else "other"
        return [replace(op, kind=kind) for op in base]
    return [reader(_Taken(operation, image, rank), base[0])]


class _Taken:
    """What an operation takes, by parameter."""

    def __init__(self, operation: Operation, image: tuple[int, ...], rank: int) -> None:
        self.operation = operation
        self.image = image
        self.rank = rank

    def first(self, name: str) -> str | Constant | None:
        """A parameter; None if it is absent."""
        return next(iter(self.operation.inputs.get(name, ())), None)

    def kernel(self, name: str) -> Weight | None:
        """A parameter that is a constant of numbers, as it is stored."""
        value, found = self.first(name), self.weight(name)
        return replace(found, tensor=value) if found is not None and isinstance(value, Tensor) else None

    def weight(self, name: str) -> Weight | None:
        """The same in float32 where it is coarser: of what may be computed with."""
        value = self.first(name)
        if not isinstance(value, Tensor):
            return None
        called = self.operation.names.get(name) or f"{self.operation.name}.{name}"
        fine = value if value.dtype.itemsize > 2 else lazily(value, lambda array: array.astype(np.float32))
        return Weight(called, fine, (called,))

    def numbers(self, name: str, usual: Sequence[float]) -> list[float]:
        """A parameter that is a few numbers, as people wrote them.

        Raises:
            NotADenseNet: it is computed, or there are many.
        """
        value = self.first(name)
        if value is None:
            return list(usual)
        if not isinstance(value, Tensor) or prod(value.shape) > bounds.COMPUTED:
            raise NotADenseNet(f"{self.operation.kind} {self.operation.name}: {name} is not known")
        array: Array = value.read().reshape(-1)
        if array.dtype == np.float16:
            return [float(str(each)) for each in array]
        return [shortest(float(each)) for each in array]

    def ints(self, name: str, usual: Sequence[int]) -> list[int]:
        """The same of integers."""
        return [int(each) for each in self.numbers(name, usual)]

    def number(self, name: str, usual: float) -> float:
        """The same of one."""
        return next(iter(self.numbers(name, [usual])), usual)

    def flag(self, name: str) -> bool:
        """A parameter that is true or false; false if it is absent."""
        value = self.first(name)
        return bool(value.read().any()) if isinstance(value, Tensor) else value is True

    def text(self, name: str, usual: str) -> str:
        """A parameter that is a text."""
        value = self.first(name)
        return value[0] if isinstance(value, tuple) and value else usual


# -- windows -----------------------------------------------------------------------------------------


def _window(taken: _Taken, kernel: Sequence[int], groups: int = 1) -> Window | None:
    dims = len(kernel)
    kind, pads = taken.text("pad_type", "valid"), taken.ints("pad", [0] * 2 * dims)
    if kind not in ("valid", "custom", "same") or len(pads) != 2 * dims:
        return None
    if kind != "custom":
        pads = [0] * 2 * dims
    strides, dilations = (tuple(taken.ints(name, [1] * dims)) for name in ("strides", "dilations"))
    begin, end = tuple(pads[::2]), tuple(pads[1::2])
    ceil = taken.flag("ceil_mode")
    return Window(tuple(kernel), strides, begin, end, dilations, groups, ceil=ceil, same=kind == "same")


def _conv(taken: _Taken, op: Op) -> Op:
    weight, bias = taken.kernel("weight"), taken.weight("bias")
    if weight is None:
        return op
    window = _window(taken, weight.tensor.shape[2:], taken.ints("groups", [1])[0])
    weights = {leaf: each for leaf, each in (("weight", weight), ("bias", bias)) if each is not None}
    return op if window is None else replace(op, kind="conv", window=window, weights=weights)


def _pool(kind: Kind) -> Reader:
    def made(taken: _Taken, op: Op) -> Op:
        window = _window(taken, taken.ints("kernel_sizes", ()))
        return op if window is None else replace(op, kind=kind, window=window)

    return made


def _reduce(kind: Kind) -> Reader:
    def made(taken: _Taken, op: Op) -> Op:
        space = set(range(2, taken.rank))
        return replace(op, kind=kind) if {axis % taken.rank for axis in taken.ints("axes", ())} == space else op

    return made


def _pad(taken: _Taken, op: Op) -> Op:
    """Of the last axes, start and end of each."""
    mode, value, pads = taken.text("mode", "constant"), taken.number("constant_val", 0), taken.ints("pad", ())
    kind = border_of(mode, value)
    if kind is None or len(pads) < 4 or any(pads[:-4]):
        return op
    window = Window((), (), (pads[-4], pads[-2]), (pads[-3], pads[-1]))
    return replace(op, kind=kind, window=window)


# -- numbers per channel -----------------------------------------------------------------------------


def _norm(taken: _Taken, op: Op) -> Op:
    found = {leaf: taken.weight(name) for leaf, name in zip(NORM_TENSORS, ("gamma", "beta", "mean", "variance"))}
    mean = found["running_mean"]
    if mean is None or found["running_var"] is None:
        return op
    for leaf, value in (("weight", 1.0), ("bias", 0.0)):
        if found[leaf] is None:
            found[leaf] = Weight(f"{op.y} (no {leaf})", Tensor.of(np.full(mean.tensor.shape, value, np.float32)))
    weights = {leaf: weight for leaf, weight in found.items() if weight is not None}
    return replace(op, kind="norm", weights=weights, eps=taken.number("epsilon", 1e-5))


def _linear(taken: _Taken, op: Op) -> Op:
    weight, bias = taken.kernel("weight"), taken.weight("bias")
    if weight is None:
        return op
    return replace(op, kind="linear", weights={"weight": weight} | ({} if bias is None else {"bias": bias}))


def _matmul(taken: _Taken, op: Op) -> Op:
    weight = taken.kernel("y")
    if weight is None or len(weight.tensor.shape) != 2 or taken.flag("transpose_x"):
        return op
    tensor = weight.tensor if taken.flag("transpose_y") else transposed(weight.tensor)
    return replace(op, kind="linear", weights={"weight": replace(weight, tensor=tensor)})


def _arithmetic(taken: _Taken, op: Op) -> Op:
    """A constant added or multiplied, or two values added."""
    kind = taken.operation.kind
    if len(op.x) == 2:
        return replace(op, kind="add") if kind == "add" else replace(op, compute=np.multiply) if kind == "mul" else op
    first = taken.weight("x") is None
    given = taken.weight("y" if first else "x")
    found = None if given is None or prod(given.tensor.shape) > bounds.COMPUTED else flat(given)
    if found is None or (kind == "real_div" and not first):
        return op
    axis, constant = found
    values = constant.tensor.read().astype(np.float64)
    made = {"add": values, "sub": -values if first else values, "mul": values, "real_div": 1 / values}[kind]
    weights = {"weight" if kind in ("mul", "real_div") else "bias": replace(constant, tensor=Tensor.of(made))}
    if kind == "sub" and not first:
        weights["weight"] = Weight(f"{op.y} (negated)", Tensor.of(np.full(1, -1.0)))
    return replace(op, kind=axis, weights=weights)


def _scale(taken: _Taken, op: Op) -> Op:
    """A neural network's scale and bias, each with the shape of channels."""
    given = {"weight": taken.weight("scale"), "bias": taken.weight("bias")}
    weights: dict[str, Weight] = {}
    for leaf, weight in given.items():
        if weight is not None:
            size = prod(weight.tensor.shape)
            if size not in (1, *weight.tensor.shape[:1]):
                return op
            weights[leaf] = replace(weight, tensor=Tensor.of(weight.tensor.read().reshape(-1)))
    return replace(op, kind="affine", weights=weights)


# -- shapes and functions ----------------------------------------------------------------------------


def _concat(taken: _Taken, op: Op) -> Op:
    channels = taken.ints("axis", [0])[0] % taken.rank == 1
    return replace(op, kind="concat") if channels and not taken.flag("interleave") else op


def _reshape(taken: _Taken, op: Op) -> Op:
    """To a vector for each image, or to maps of one position."""
    shape = taken.ints("shape", ())
    return replace(op, kind="flatten") if len(shape) == 2 or (len(shape) > 3 and set(shape[2:]) == {1}) else op


def _transpose(taken: _Taken, op: Op) -> Op:
    order = [n % 4 for n in taken.ints("perm", ())]
    if order not in ([0, 3, 1, 2], [0, 2, 3, 1]):
        return op
    return replace(op, kind="turn", axis=1 if order[1] == 3 else -1)


def _reverse(taken: _Taken, op: Op) -> Op:
    axes = taken.ints("axes", ())
    return replace(op, kind="flip", axis=axes[0]) if len(axes) == 1 else op


def _gather(taken: _Taken, op: Op) -> Op:
    """The channels of an image, the last first."""
    order, axis = taken.ints("indices", ()), taken.ints("axis", [0])[0]
    known = -len(taken.image) <= axis < len(taken.image)
    whole = known and order == list(range(taken.image[axis]))[::-1]
    return replace(op, kind="flip", axis=axis) if whole else op


def _softmax(taken: _Taken, op: Op) -> Op:
    return replace(op, kind="softmax") if taken.ints("axis", [-1])[0] in (1, -1, -3) else op


def _argmax(taken: _Taken, op: Op) -> Op:
    return replace(op, kind="end") if taken.ints("axis", [-1])[0] in (1, -1) else op


def _plain(kind: Kind) -> Reader:
    return lambda taken, op: replace(op, kind=kind)


def _function(name: str, parameter: str = "", usual: float = 1.0) -> Reader:
    def made(taken: _Taken, op: Op) -> Op:
        value = taken.number(parameter, usual) if parameter else usual
        return replace(op, compute=lambda x: FUNCTIONS[name](x, value))

    return made


def _two(compute: Callable[[Array, float, float], Array], alpha: float, beta: float) -> Reader:
    """A function of two numbers."""

    def made(taken: _Taken, op: Op) -> Op:
        a, b = taken.number("alpha", alpha), taken.number("beta", beta)
        then: Compute = lambda x: compute(x, a, b)  # noqa: E731
        return replace(op, compute=then)

    return made


def _gelu(taken: _Taken, op: Op) -> Op:
    name = {"EXACT": "gelu", "TANH_APPROXIMATION": "gelu_tanh"}.get(taken.text("mode", "EXACT"))
    return op if name is None else replace(op, compute=lambda x: FUNCTIONS[name](x, 1.0))


Reader = Callable[[_Taken, Op], Op]

READERS: Mapping[str, Reader] = {
    "conv": _conv,
    "max_pool": _pool("max_pool"),
    "avg_pool": _pool("avg_pool"),
    "reduce_mean": _reduce("global_avg"),
    "reduce_max": _reduce("global_max"),
    "pad": _pad,
    "batch_norm": _norm,
    "linear": _linear,
    "matmul": _matmul,
    **dict.fromkeys(("add", "sub", "mul", "real_div"), _arithmetic),
    "scale": _scale,
    "concat": _concat,
    "reshape": _reshape,
    **dict.fromkeys(("squeeze", "expand_dims", "flatten2d"), _plain("flatten")),
    "transpose": _transpose,
    "reverse": _reverse,
    "gather": _gather,
    "reduce_argmax": _argmax,
    **dict.fromkeys(("identity", "cast"), _plain("skip")),
    "softmax": _softmax,
    "relu": _plain("relu"),
    "sigmoid": _plain("sigmoid"),
    "leaky_relu": _function("leaky_relu", "alpha", 0.01),
    "elu": _function("elu", "alpha", 1.0),
    "gelu": _gelu,
    **{name: _function(name) for name in ("relu6", "silu", "tanh", "softplus", "softsign")},
    "clip": _two(np.clip, 0.0, 1.0),
    "thresholded_relu": _two(lambda x, a, b: np.where(x >= a, x, 0), 1.0, 0.0),
    "linear_activation": _two(lambda x, a, b: a * x + b, 1.0, 0.0),
    "sigmoid_hard": _two(lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
}
"""Operations by their names; one that does what a DenseNet does not stays ``other``."""
