"""TensorFlow Lite's operators as TensorFlow's nodes (tensorflow/compiler/mlir/lite/ir/tfl_ops.td, schema.fbs)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Tensor
from converter.structures.tf_description import Shape
from converter.structures.tflite_description import Options
from converter.structures.weights import lazily

FUSED = {1: "Relu", 2: "ReluN1To1", 3: "Relu6", 4: "Tanh", 5: "SignBit"}
"""ActivationFunctionType."""
PADDING = ("SAME", "VALID")
CASTS = {0: 1, 1: 19, 10: 2, 18: 14, 2: 3, 4: 9}
"""TensorType to types.proto's DataType; any other is none that a feature map has."""


@dataclass
class LiteNode:
    """A node as ``tf_description.py`` has it; attributes by their names."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def as_op(self, op: str) -> LiteNode:
        """The node with another operator."""
        return replace(self, op=op)

    def number(self, name: str, default: int = 0) -> int:
        """An integer, a truth value or a type's code."""
        return int(self.attributes.get(name, default))

    def real(self, name: str, default: float) -> float:
        """A float."""
        return float(self.attributes.get(name, default))

    def text(self, name: str, default: str = "") -> str:
        """Text."""
        return str(self.attributes.get(name, default))

    def ints(self, name: str) -> list[int]:
        """A list of integers."""
        return list(self.attributes.get(name, ()))

    def strings(self, name: str) -> list[str]:
        """A list of texts; there is none."""
        return []

    def shape(self, name: str) -> Shape:
        """A shape; the model's inputs have theirs elsewhere."""
        return None

    def tensor(self, name: str) -> Tensor | None:
        """A tensor of numbers."""
        found: Tensor | None = self.attributes.get(name)
        return found

    def texts(self, name: str) -> list[str]:
        """A tensor of texts; there is none."""
        return []

    def function(self, name: str) -> str:
        """The name of a function; there is none."""
        return ""


class Scope:
    """The nodes of a graph by their names."""

    def __init__(self) -> None:
        self.nodes: dict[str, LiteNode] = {}
        self.operator = ""

    def add(self, node: LiteNode) -> str:
        """One more, and its name."""
        self.nodes[node.name] = node
        return node.name

    def constant(self, name: str, tensor: Tensor) -> str:
        """A constant, and its name."""
        return self.add(LiteNode(name, "Const", (), {"value": tensor}))

    def ints(self, name: str, values: Sequence[int]) -> str:
        """Integers that an attribute had, as a constant; one alone without dimensions, as what is no weight."""
        array = np.array(values, np.int64)
        return self.constant(name, Tensor.of(array if len(values) > 1 else array.reshape(())))

    def value(self, name: str) -> Tensor | None:
        """The values of a constant, of one in half precision too; None where it is none."""
        node = self.nodes.get(name)
        if node is not None and node.op == "Cast":
            node = self.nodes.get(node.inputs[0])
        return node.tensor("value") if node is not None and node.op == "Const" else None


Names = Sequence[str]
Shapes = Sequence[Shape]
Reader = Callable[[Scope, "Options | None", Names, Names, Shapes], None]
"""Adds the nodes of an operator: its attributes, the values it takes and makes, and the shapes of the former."""


def other(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    """An operator that no DenseNet has: a node that nothing knows."""
    scope.add(LiteNode(made[0], scope.operator, tuple(filter(None, given))))


def _plain(op: str, **attributes: Any) -> Reader:
    """An operator whose attributes are no matter."""

    def read(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
        scope.add(LiteNode(made[0], op, tuple(filter(None, given)), attributes))

    return read


def _said(op: str, **fields: tuple[int, str]) -> Reader:
    """An operator whose attributes TensorFlow has too: the field of each, and its type."""

    def read(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
        found = {} if options is None else {name: options.number(*where) for name, where in fields.items()}
        scope.add(LiteNode(made[0], op, tuple(filter(None, given)), found))

    return read


def _needed(options: Options | None) -> Options:
    if options is None:
        raise ValueError("an operator without attributes")
    return options


def _rule(options: Options) -> str:
    return PADDING[options.number(0, "<b")]


def _with_bias(scope: Scope, node: LiteNode, bias: str) -> None:
    """A node and the bias behind it; one of zeros alone, which every convolution has, is none."""
    found = scope.value(bias)
    if not bias or (found is not None and prod(found.shape) <= bounds.COMPUTED and not found.read().any()):
        scope.add(node)
        return
    inner = f"{node.name} before its bias"
    scope.add(LiteNode(inner, node.op, node.inputs, node.attributes))
    scope.add(LiteNode(node.name, "BiasAdd", (inner, bias)))


def _turned(scope: Scope, kernel: str, made: str, order: tuple[int, ...]) -> str:
    """A kernel with its axes in TensorFlow's order, by its own name or, where it is computed, as a node."""
    name = f"{kernel} of {made}"
    tensor = scope.value(kernel)
    if tensor is not None and scope.nodes[kernel].op == "Const":
        return scope.constant(name, lazily(tensor, lambda array: array.transpose(order)))
    return scope.add(LiteNode(name, "Transpose", (kernel, scope.ints(f"{name} (order)", order))))


def _conv(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    """Conv2DOptions {0: padding, 1: stride_w, 2: stride_h, 4: dilation_w_factor, 5: dilation_h_factor}; kernels are
    (out, height, width, in)."""
    _convolved(scope, _needed(options), given, made, dilations=(5, 4), order=(1, 2, 3, 0))


def _depthwise(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    """DepthwiseConv2DOptions {0: padding, 1: stride_w, 2: stride_h, 3: depth_multiplier (the kernel shows it), 5:
    dilation_w_factor, 6: dilation_h_factor}; kernels are (1, height, width, out), each output of one channel.

    What takes a single channel, grey images say, is written so too.
    """
    _convolved(scope, _needed(options), given, made, dilations=(6, 5), order=(1, 2, 0, 3))


def _convolved(
    scope: Scope, said: Options, given: Names, made: Names, *, dilations: tuple[int, int], order: tuple[int, ...]
) -> None:
    attributes = {
        "padding": _rule(said),
        "strides": [1, said.number(2), said.number(1), 1],
        "dilations": [1, *(said.number(field, default=1) for field in dilations), 1],
    }
    kernel = _turned(scope, given[1], made[0], order)
    _with_bias(scope, LiteNode(made[0], "Conv2D", (given[0], kernel), attributes), "".join(given[2:3]))


def _pool(op: str) -> Reader:
    """Pool2DOptions {0: padding, 1: stride_w, 2: stride_h, 3: filter_width, 4: filter_height}."""

    def read(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
        said = _needed(options)
        strides, kernel = ([1, said.number(high), said.number(wide), 1] for high, wide in ((2, 1), (4, 3)))
        attributes = {"padding": _rule(said), "strides": strides, "ksize": kernel}
        scope.add(LiteNode(made[0], op, (given[0],), attributes))

    return read


def _concat(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    axis = scope.ints(f"{made[0]} (axis)", [_needed(options).number(0)])
    scope.add(LiteNode(made[0], "ConcatV2", (*given, axis)))


def _linear(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    """FullyConnectedOptions {1: weights_format, 2: keep_num_dims}; what it takes becomes rows, if it is none."""
    said, x = _needed(options), given[0]
    if said.number(1, "<b") or (said.number(2, "<B") and len(shapes[0] or ()) != 2):
        other(scope, options, given, made, shapes)
        return
    shape = shapes[1]
    if len(shapes[0] or ()) > 2 and shape is not None and len(shape) == 2:
        flat = scope.ints(f"{made[0]} (rows)", [-1, shape[1] or -1])
        x = scope.add(LiteNode(f"{made[0]} (in rows)", "Reshape", (x, flat)))
    node = LiteNode(made[0], "MatMul", (x, given[1]), {"transpose_b": 1})
    _with_bias(scope, node, "".join(given[2:3]))


def _reshape(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    """Its shape is an input, in older files an attribute."""
    target = given[1] if len(given) > 1 else scope.ints(f"{made[0]} (shape)", _needed(options).numbers(0))
    scope.add(LiteNode(made[0], "Reshape", (given[0], target)))


def _squeeze(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    axes = [] if options is None else options.numbers(0)
    scope.add(LiteNode(made[0], "Squeeze", (given[0],), {"squeeze_dims": axes}))


def _gather(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    said = _needed(options)
    if said.number(1):
        other(scope, options, given, made, shapes)
        return
    axis = scope.ints(f"{made[0]} (axis)", [said.number(0)])
    scope.add(LiteNode(made[0], "GatherV2", (*given, axis)))


def _strided(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    said = _needed(options)
    masks = dict(zip(("begin", "end", "ellipsis", "new_axis", "shrink_axis"), map(said.number, range(5))))
    if said.number(5, "<B"):
        other(scope, options, given, made, shapes)
        return
    attributes = {f"{name}_mask": value for name, value in masks.items()}
    scope.add(LiteNode(made[0], "StridedSlice", tuple(given), attributes))


def _softmax(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    """SoftmaxOptions {0: beta}."""
    if _needed(options).number(0, "<f") != 1:
        other(scope, options, given, made, shapes)
        return
    scope.add(LiteNode(made[0], "Softmax", (given[0],)))


def _mirror(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    mode = "SYMMETRIC" if _needed(options).number(0, "<b") else "REFLECT"
    scope.add(LiteNode(made[0], "MirrorPad", tuple(given), {"mode": mode}))


def _cast(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    """CastOptions {1: out_data_type}; without them it is the type of the value."""
    code = 0 if options is None else options.number(1, "<b")
    scope.add(LiteNode(made[0], "Cast", (given[0],), {"DstT": CASTS.get(code, 0)}))


def _sum(scope: Scope, options: Options | None, given: Names, made: Names, shapes: Shapes) -> None:
    """A sum over positions of fixed size, as a mean times their number."""
    axes, keeps = scope.value(given[1]), 0 if options is None else options.number(0, "<B")
    taken = [] if axes is None or prod(axes.shape) > bounds.DIMENSIONS else axes.read().reshape(-1).tolist()
    shape = shapes[0] or ()
    sizes = [shape[axis] if -len(shape) <= axis < len(shape) else None for axis in taken]
    if not sizes or None in sizes:
        other(scope, options, given, made, shapes)
        return
    mean = scope.add(LiteNode(f"{made[0]} (mean)", "Mean", (given[0], given[1]), {"keep_dims": keeps}))
    many = scope.constant(f"{made[0]} (positions)", Tensor.of(np.array(prod(n or 1 for n in sizes), np.float32)))
    scope.add(LiteNode(made[0], "Mul", (mean, many)))


CODES: Mapping[int, tuple[str, Reader, int]] = {
    0: ("ADD", _plain("AddV2"), 0),
    1: ("AVERAGE_POOL_2D", _pool("AvgPool"), 5),
    2: ("CONCATENATION", _concat, 1),
    3: ("CONV_2D", _conv, 3),
    4: ("DEPTHWISE_CONV_2D", _depthwise, 4),
    6: ("DEQUANTIZE", _plain("Cast", DstT=1), -1),
    9: ("FULLY_CONNECTED", _linear, 0),
    14: ("LOGISTIC", _plain("Sigmoid"), -1),
    17: ("MAX_POOL_2D", _pool("MaxPool"), 5),
    18: ("MUL", _plain("Mul"), 0),
    19: ("RELU", _plain("Relu"), -1),
    21: ("RELU6", _plain("Relu6"), -1),
    22: ("RESHAPE", _reshape, -1),
    25: ("SOFTMAX", _softmax, -1),
    28: ("TANH", _plain("Tanh"), -1),
    34: ("PAD", _plain("Pad"), -1),
    36: ("GATHER", _gather, -1),
    39: ("TRANSPOSE", _plain("Transpose"), -1),
    40: ("MEAN", _said("Mean", keep_dims=(0, "<B")), -1),
    41: ("SUB", _plain("Sub"), 0),
    42: ("DIV", _plain("RealDiv"), 0),
    43: ("SQUEEZE", _squeeze, -1),
    45: ("STRIDED_SLICE", _strided, -1),
    47: ("EXP", _plain("Exp"), -1),
    48: ("TOPK_V2", _plain("TopKV2"), -1),
    50: ("LOG_SOFTMAX", _plain("LogSoftmax"), -1),
    53: ("CAST", _cast, -1),
    55: ("MAXIMUM", _plain("Maximum"), -1),
    56: ("ARG_MAX", _plain("ArgMax"), -1),
    57: ("MINIMUM", _plain("Minimum"), -1),
    58: ("LESS", _plain("Less"), -1),
    59: ("NEG", _plain("Neg"), -1),
    60: ("PADV2", _plain("PadV2"), -1),
    61: ("GREATER", _plain("Greater"), -1),
    62: ("GREATER_EQUAL", _plain("GreaterEqual"), -1),
    63: ("LESS_EQUAL", _plain("LessEqual"), -1),
    64: ("SELECT", _plain("Select"), -1),
    70: ("EXPAND_DIMS", _plain("ExpandDims"), -1),
    73: ("LOG", _plain("Log"), -1),
    74: ("SUM", _sum, -1),
    75: ("SQRT", _plain("Sqrt"), -1),
    76: ("RSQRT", _plain("Rsqrt"), -1),
    77: ("SHAPE", _plain("Shape"), -1),
    78: ("POW", _plain("Pow"), -1),
    82: ("REDUCE_MAX", _said("Max", keep_dims=(0, "<B")), -1),
    83: ("PACK", _said("Pack", axis=(1, "<i")), -1),
    92: ("SQUARE", _plain("Square"), -1),
    98: ("LEAKY_RELU", _said("LeakyRelu", alpha=(0, "<f")), -1),
    100: ("MIRROR_PAD", _mirror, -1),
    101: ("ABS", _plain("Abs"), -1),
    105: ("REVERSE_V2", _plain("ReverseV2"), -1),
    111: ("ELU", _plain("Elu"), -1),
    117: ("HARD_SWISH", _plain("HardSwish"), -1),
    123: ("SELECT_V2", _plain("SelectV2"), -1),
    150: ("GELU", _said("Gelu", approximate=(0, "<B")), -1),
}
"""BuiltinOperator: its name, its reader, and the field of its options that has a fused activation (-1: none)."""
