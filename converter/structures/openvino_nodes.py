"""Layers of OpenVINO's opsets as ONNX's nodes (docs.openvino.ai, "Available Operation Sets", each operation's page)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.onnx_constants import Node
from converter.structures.openvino_description import Layer

SMALL = (
    "i8",
    "u8",
    "i4",
    "u4",
    "i2",
    "u2",
    "u1",
    "u3",
    "u6",
    "nf4",
    "f4e2m1",
    "f8e4m3",
    "f8e5m2",
    "f8e8m0",
    "I8",
    "U8",
)
"""Element types of quantised weights."""
ONNX_TYPES = {"f32": 1, "f16": 10, "f64": 11, "bf16": 16, "i32": 6, "i64": 7}
"""TensorProto.DataType; any other is none that a feature map has."""
FINER = (ONNX_TYPES["f32"], ONNX_TYPES["f64"])
PADDING = {"same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}
FAR = 1 << 30
"""Further than any image is large."""


class Scope:
    """The constants of a graph by the names of their values."""

    def __init__(self) -> None:
        self.constants: dict[str, Tensor | None] = {}
        self.small: set[str] = set()
        self.widened: dict[str, str] = {}

    def add(self, name: str, tensor: Tensor | None, element: str = "") -> str:
        """One more, and its name."""
        self.constants[name] = tensor
        if element in SMALL and (tensor is None or np.prod(tensor.shape) > 1):
            self.small.add(name)
        return name

    def ints(self, name: str) -> list[int]:
        """Integers that a layer takes.

        Raises:
            ValueError: they are no small constant.
        """
        tensor = self.constants.get(name)
        if tensor is None or np.prod(tensor.shape) > np.iinfo(np.int16).max or tensor.dtype.kind not in "iu":
            raise ValueError(f"{name} is no list of integers")
        return [int(n) for n in tensor.read().reshape(-1)]

    def number(self, name: str) -> float:
        """A number that a layer takes.

        Raises:
            ValueError: it is no constant.
        """
        tensor = self.constants.get(self.widened.get(name, name))
        if tensor is None or np.prod(tensor.shape) != 1:
            raise ValueError(f"{name} is no number")
        return float(tensor.read().reshape(-1)[0])


Names = Sequence[str]
Reader = Callable[[Scope, Layer, Names, Names], list[Node]]
"""A layer, the values it takes and those it makes, as nodes."""


def node(layer: Layer, op: str, inputs: Names, outputs: Names, domain: str = "", **attributes: Any) -> Node:
    """A node; errors call it by the layer's own type."""
    return {
        "op": op,
        "domain": domain,
        "name": layer.name,
        "said": layer.type,
        "inputs": list(inputs),
        "outputs": list(outputs),
        "attributes": {name: value for name, value in attributes.items() if value is not None},
        "references": {},
    }


def plain(op: str, domain: str = "", **attributes: Any) -> Reader:
    """A reader of layers whose attributes are no matter."""
    return lambda scope, layer, given, made: [node(layer, op, given, made, domain, **attributes)]


def _said(op: str, **kinds: tuple[str, Callable[[str], Any]]) -> Reader:
    """A reader of layers whose attributes have other names, or the same: what ONNX calls each, and its type."""

    def read(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
        found = {name: kind(layer.attributes[own]) for name, (own, kind) in kinds.items() if own in layer.attributes}
        return [node(layer, op, given, made, **found)]

    return read


def ints(text: str) -> list[int]:
    """Integers between commas."""
    return [int(part) for part in text.split(",")] if text.strip() else []


def truth(text: str) -> int:
    """A truth value; the XML writes it as a word or a digit."""
    return int(text.strip().lower() in ("true", "1"))


def window(attributes: Mapping[str, str]) -> dict[str, Any]:
    """Strides, dilations and padding."""
    rule = attributes.get("auto_pad", "explicit").lower()
    found: dict[str, Any] = {"auto_pad": PADDING.get(rule, "NOTSET")}
    if rule not in PADDING:
        found["pads"] = ints(attributes.get("pads_begin", "")) + ints(attributes.get("pads_end", ""))
    for name in ("strides", "dilations"):
        found[name] = ints(attributes.get(name, ""))
    return found


def _conv(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    return [node(layer, "Conv", given, made, **window(layer.attributes))]


def _grouped(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    """A kernel has an axis of groups before its own."""
    groups, out, *rest = layer.inputs[1].sizes
    shape = scope.add(f"{made[0]}/kernel's shape", Tensor.of(np.array([groups * out, *rest])))
    kernel = f"{made[0]}/kernel"
    return [
        node(layer, "Reshape", [given[1], shape], [kernel]),
        node(layer, "Conv", [given[0], kernel, *given[2:]], made, group=groups, **window(layer.attributes)),
    ]


def _pool(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    found, attributes = window(layer.attributes), layer.attributes
    found |= {"kernel_shape": ints(attributes["kernel"]), "ceil_mode": int("ceil" in attributes["rounding_type"])}
    if layer.type == "AvgPool":
        return [
            node(layer, "AveragePool", given, made, count_include_pad=1 - truth(attributes["exclude-pad"]), **found)
        ]
    return [node(layer, "MaxPool", given, made, **found)]


def _norm(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    """The feature map is the first of what it takes, in opset 1 the third."""
    at = 0 if len(layer.inputs[0].sizes) > 1 else 2
    inputs = [given[at], *(name for i, name in enumerate(given) if i != at)]
    eps = layer.attributes.get("epsilon", layer.attributes.get("eps", ""))
    return [node(layer, "BatchNormalization", inputs, made, epsilon=float(eps))]


def _convert(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    if given[0] in scope.small:
        return [node(layer, "DequantizeLinear", given, made)]
    to = ONNX_TYPES.get(layer.attributes["destination_type"], 0)
    if to in FINER:
        scope.widened[made[0]] = given[0]
    return [node(layer, "Cast", given, made, to=to)]


def _matmul(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    first, second = (truth(layer.attributes.get(f"transpose_{i}", "false")) for i in "ab")
    return [node(layer, "Gemm" if first or second else "MatMul", given, made, transA=first, transB=second)]


def _transpose(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    return [node(layer, "Transpose", given[:1], made, perm=scope.ints(given[1]))]


def _shape(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    """A constant, where the sizes are fixed; how many there are is, always."""
    sizes = layer.inputs[0].sizes
    if min(sizes, default=0) < 0:
        return [node(layer, "Shape", given, made)]
    scope.add(made[0], Tensor.of(np.array(sizes, np.int64)))
    return []


def _reshape(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    """What it makes has fixed sizes, it may be, where they are computed."""
    sizes = layer.outputs[0].sizes
    if given[1] in scope.constants or min(sizes, default=-1) < 0:
        return [node(layer, "Reshape", given, made)]
    return [node(layer, "Reshape", [given[0], scope.add(f"{made[0]}/shape", Tensor.of(np.array(sizes)))], made)]


def _gather(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    if int(layer.attributes.get("batch_dims", "0")):
        return plain(layer.type, "openvino")(scope, layer, given, made)
    return [node(layer, "Gather", given[:2], made, axis=scope.ints(given[2])[0])]


def _slice(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    data, first, last, step, *axes = given
    return [node(layer, "Slice", [data, first, last, *(axes or _axes(scope, made[0], first)), step], made)]


def _axes(scope: Scope, name: str, like: str) -> list[str]:
    return [scope.add(f"{name}/axes", Tensor.of(np.arange(len(scope.ints(like)))))]


def _strided(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    """Masks say which bounds are free; axes that come or go are not read."""
    masks = {what: ints(layer.attributes.get(f"{what}_mask", "")) for what in MASKS}
    data, *bounds = given
    if len(bounds) < 3 or any(map(any, (masks[what] for what in MASKS[2:]))):
        return plain(layer.type, "openvino")(scope, layer, given, made)
    first, last, steps = (scope.ints(name) for name in bounds)
    for i, step in enumerate(steps):
        if any(masks["begin"][i : i + 1]):
            first[i] = FAR if step < 0 else 0
        if any(masks["end"][i : i + 1]):
            last[i] = -FAR if step < 0 else FAR
    return [_sliced(scope, layer, data, made, np.array([first, last, range(len(steps)), steps]))]


MASKS = ("begin", "end", "new_axis", "shrink_axis", "ellipsis")


def _sliced(scope: Scope, layer: Layer, data: str, made: Names, bounds: Array) -> Node:
    """A Slice, from its starts, ends, axes and steps."""
    names = (f"{made[0]}/{what}" for what in ("starts", "ends", "axes", "steps"))
    given = [scope.add(name, Tensor.of(values)) for name, values in zip(names, bounds)]
    return node(layer, "Slice", [data, *given], made)


def _reverse(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    axes = scope.ints(given[1])
    bounds = np.array([[FAR] * len(axes), [-FAR] * len(axes), axes, [-1] * len(axes)])
    return [_sliced(scope, layer, given[0], made, bounds)]


def _split(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    return [node(layer, "Split", [given[0], *given[2:]], made, axis=scope.ints(given[1])[0])]


def _pad(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    pads = scope.ints(given[1]) + scope.ints(given[2])
    value = scope.number(given[3]) if len(given) > 3 else 0.0
    mode = layer.attributes.get("pad_mode", "constant")
    return [node(layer, "Pad", given[:1], made, pads=pads, value=value, mode=mode)]


def _adaptive(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    """To one position it is global pooling."""
    kind = "GlobalAveragePool" if layer.type == "AdaptiveAvgPool" else "GlobalMaxPool"
    whole = set(scope.ints(given[1])) == {1}
    return [node(layer, kind if whole else layer.type, given[:1], made, "" if whole else "openvino")]


def _gelu(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    tanh = layer.attributes.get("approximation_mode", "ERF").upper() == "TANH"
    return [node(layer, "Gelu", given, made, approximate="tanh" if tanh else "none")]


def _swish(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    return [node(layer, "Swish", given[:1], made, alpha=scope.number(given[1]) if len(given) > 1 else 1.0)]


def _hard_sigmoid(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    alpha, beta = (scope.number(name) for name in given[1:3])
    return [node(layer, "HardSigmoid", given[:1], made, alpha=alpha, beta=beta)]


def _selu(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    alpha, gamma = (scope.number(name) for name in given[1:3])
    return [node(layer, "Selu", given[:1], made, alpha=alpha, gamma=gamma)]


def refused(scope: Scope, layer: Layer, given: Names, made: Names) -> list[Node]:
    """A layer of a file that must be made anew.

    Raises:
        NotADenseNet: with what to do.
    """
    raise NotADenseNet(f"{layer.type} {layer.name}: it is quantised; convert the float file it was made from")


SAME = {
    **{name: name for name in ("Concat", "Squeeze", "Unsqueeze", "Sigmoid", "Tanh", "Exp", "Log", "Sqrt")},
    **{name: name for name in ("Erf", "Abs", "Mish", "Range", "Greater", "Less", "If", "Loop", "Add")},
    **{"ReLU": "Relu", "PReLU": "PRelu", "HSwish": "HardSwish", "SoftPlus": "Softplus", "SoftSign": "Softsign"},
    **{"Negative": "Neg", "Power": "Pow", "Maximum": "Max", "Minimum": "Min", "Select": "Where"},
    **{"Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "ConvertLike": "CastLike", "Broadcast": "Expand"},
    **{"GreaterEqual": "GreaterOrEqual", "LessEqual": "LessOrEqual", "TensorIterator": "Loop"},
}
"""What ONNX calls the layers that take and give the same."""

READERS: Mapping[str, Reader] = {
    **{name: plain(op) for name, op in SAME.items()},
    "Concat": _said("Concat", axis=("axis", int)),
    "SoftMax": _said("Softmax", axis=("axis", int)),
    "LogSoftmax": _said("LogSoftmax", axis=("axis", int)),
    "TopK": _said("TopK", axis=("axis", int)),
    "Clamp": _said("Clip", min=("min", float), max=("max", float)),
    "Elu": _said("Elu", alpha=("alpha", float)),
    **{name: _said(name, keepdims=("keep_dims", truth)) for name in ("ReduceMean", "ReduceMax")},
    "Convolution": _conv,
    "GroupConvolution": _grouped,
    **dict.fromkeys(("MaxPool", "AvgPool"), _pool),
    **dict.fromkeys(("AdaptiveAvgPool", "AdaptiveMaxPool"), _adaptive),
    "BatchNormInference": _norm,
    "Convert": _convert,
    "MatMul": _matmul,
    "Transpose": _transpose,
    "ShapeOf": _shape,
    "Reshape": _reshape,
    "Gather": _gather,
    "Slice": _slice,
    "StridedSlice": _strided,
    "Reverse": _reverse,
    **dict.fromkeys(("Split", "VariadicSplit"), _split),
    "Pad": _pad,
    "Gelu": _gelu,
    "Swish": _swish,
    "HardSigmoid": _hard_sigmoid,
    "Selu": _selu,
    **dict.fromkeys(("FakeQuantize", "FakeConvert"), refused),
}
"""Layers by their type; any other is no DenseNet's."""
