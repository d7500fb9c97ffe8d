"""Paddle programs (``.pdmodel``, PIR as ``.json``), every operator as one of ``ops.py``, for ``wiring.py`` to judge.

Operators and what they do by default: PaddlePaddle/Paddle, paddle/phi/ops/yaml (ops.yaml, op_compat.yaml: the names of
Paddle 2 and 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.activations import FUNCTIONS
from converter.structures.ops import Compute, Kind, Op, Weight, Window
from converter.structures.paddle_activations import ACTIVATIONS
from converter.structures.parts import Structure
from converter.structures.weights import flat, lazily, made, one_number, transposed
from converter.structures.wiring import read_wiring
from densenet.module import NORM_TENSORS

NAME = "paddle, program"
FLOATS = (4, 5, 6, 22, "float16", "float32", "float64", "bfloat16")
"""VarType.Type of framework.proto, and PIR's words."""

PLAIN: Mapping[str, Kind] = {
    **dict.fromkeys(("flatten", "flatten2", "flatten_contiguous_range", "reshape", "reshape2"), "flatten"),
    **dict.fromkeys(("squeeze", "squeeze2", "unsqueeze", "unsqueeze2"), "flatten"),
    **dict.fromkeys(("assign", "share_data", "share_data_"), "skip"),
    **dict.fromkeys(("relu", "relu_"), "relu"),
    **dict.fromkeys(("sigmoid", "sigmoid_"), "sigmoid"),
}
"""Operators that do one thing, whatever they say."""


class Operator(NamedTuple):
    """An operator: what it takes by place, each a list of values."""

    kind: str
    given: Sequence[Sequence[str]]
    y: str
    says: Mapping[str, Any]
    constants: Mapping[str, Weight]
    image: Sequence[int] = ()
    """Shape of the image, -1 where it is dynamic."""

    @property
    def x(self) -> tuple[str, ...]:
        """The feature maps it takes first."""
        return tuple(name for name in (self.given[0] if self.given else ()) if name not in self.constants)

    @property
    def name(self) -> str:
        """What errors call it."""
        module = str(self.says.get("struct_name") or "").strip("/")
        return f"{self.kind} {self.y}" + (f" of {module}" if module else "")

    def op(self, kind: Kind, **more: Any) -> Op:
        """The operator it is."""
        return Op(kind, more.pop("x", self.x), self.y, self.name, **more)

    def constant(self, i: int) -> Weight | None:
        """The constant it takes in a place."""
        names = self.given[i] if i < len(self.given) else ()
        return self.constants.get(names[0]) if len(names) == 1 else None

    def numbers(self, name: str, i: int = -1) -> list[int]:
        """Integers that it says, or takes in a place."""
        value, constant = self.says.get(name), self.constant(i) if i >= 0 else None
        if value is None and constant is not None and prod(constant.tensor.shape) <= bounds.COMPUTED:
            value = constant.tensor.read().reshape(-1).tolist()
        return [int(n) for n in (value if isinstance(value, list) else [] if value is None else [value])]


def read_program(checkpoint: Checkpoint) -> Structure | None:
    """The network of a program; None where there is none, or where its parameters have other names.

    Raises:
        NotADenseNet: it computes something else; names the operator.
    """
    graph, tree = checkpoint.graph, checkpoint.tree
    if graph is None or not isinstance(tree, dict) or not set(graph["parameters"]) <= tree.keys():
        return None
    try:
        with np.errstate(all="ignore"):  # a damaged constant may hold anything
            return _structure(graph, {name: tree[name] for name in graph["parameters"]}, checkpoint.head)
    except NotADenseNet as error:
        raise NotADenseNet(f"{checkpoint.path}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise NotADenseNet(f"{checkpoint.path}: its program cannot be understood ({error})") from error


def _structure(graph: Mapping[str, Any], parameters: Mapping[str, Tensor], head: str) -> Structure:
    constants = {name: Weight(name, tensor, (name,)) for name, tensor in parameters.items()}
    if len(graph["inputs"]) != 1:
        raise NotADenseNet(f"a program with {len(graph['inputs'])} inputs; a DenseNet has one, the image")
    start, shape = next(iter(graph["inputs"].items()))
    ops = list[Op]()
    for operator in graph["ops"]:
        outputs = [name for name in operator["outputs"] if name not in constants]
        if not outputs:
            continue
        found = Operator(operator["op"], operator["inputs"], outputs[0], operator["attributes"], constants, shape)
        value = _made(found)
        if value is not None:
            constants[outputs[0]] = value
            continue
        ops.append(_operator(found))
        ops += [replace(found.op("other"), y=name) for name in outputs[1:]]
    size = tuple(int(n) for n in shape[2:])
    size = size if all(n > 0 for n in size) else ()
    return read_wiring(NAME, ops, start, graph["outputs"], size=size, constants=parameters, head=head)


def _made(operator: Operator) -> Weight | None:
    """What an operator makes of constants alone: a number, an array, another shape."""
    kind, says = operator.kind, operator.says
    if kind in ("full", "full_int_array", "fill_constant", "assign_value", "assign_value_"):
        key = next((k for k in ("value", "values", "fp32_values", "int32_values", "int64_values") if says.get(k)), "")
        value = says.get(key) if key else says.get("value", 0)
        value = says.get("str_value") if kind == "fill_constant" and says.get("str_value") else value
        shape = operator.numbers("shape")
        if prod(shape) > bounds.COMPUTED or min(shape, default=0) < 0:
            return None
        array = np.asarray(value, np.float64).reshape(-1)
        if kind.startswith("assign") and array.size != prod(shape):
            return None  # values of a kind that is not read
        filled = array.reshape(shape) if kind.startswith("assign") else np.broadcast_to(array, shape or array.shape)
        array = array if kind == "full_int_array" else filled
        whole = kind == "full_int_array" or "int" in str(says.get("dtype"))
        return Weight(operator.y, Tensor.of(array.astype(np.int64 if whole else np.float32)))
    first = operator.constant(0)
    if first is None:
        return None
    if kind.startswith(("reshape", "unsqueeze", "squeeze")):
        shape = operator.numbers("shape" if kind.startswith("reshape") else "axes", 1)
        if kind.startswith("reshape"):
            shape = [first.tensor.shape[i] if n == 0 else n for i, n in enumerate(shape)]
            return replace(first, tensor=lazily(first.tensor, lambda array: array.reshape(shape)))
        turn = np.expand_dims if kind.startswith("unsqueeze") else np.squeeze
        return replace(first, tensor=lazily(first.tensor, lambda array: turn(array, tuple(shape))))
    return first if kind in ("assign", "cast", "share_data", "share_data_") else None


def _operator(operator: Operator) -> Op:
    if "quantize" in operator.kind:
        raise NotADenseNet(f"{operator.name}: it is quantised; convert the float program it was made from")
    read = READERS.get(operator.kind)
    every = tuple(name for names in operator.given for name in names if name not in operator.constants)
    return (read(operator) if read is not None else None) or operator.op("other", x=every)


# -- operators -----------------------------------------------------------------------------

Reader = Callable[[Operator], Op | None]


def _window(operator: Operator, kernel: Sequence[int]) -> Window | None:
    says, dims = operator.says, len(kernel)
    strides, pads = operator.numbers("strides"), operator.numbers("paddings") or [0] * dims
    rule = says.get("padding_algorithm", "EXPLICIT")
    if not dims or len(strides) != dims or len(pads) not in (dims, 2 * dims) or "C" not in _order(operator)[:2]:
        return None
    begin, end = (pads, pads) if len(pads) == dims else (pads[::2], pads[1::2])
    if rule != "EXPLICIT":
        begin = end = [0] * dims
    return Window(
        tuple(kernel),
        tuple(strides),
        tuple(begin),
        tuple(end),
        tuple(operator.numbers("dilations")),
        int(says.get("groups") or 1),
        bool(says.get("ceil_mode")),
        rule == "SAME",
    )


def _order(operator: Operator) -> str:
    """``NCHW`` or ``NHWC``; older programs say AnyLayout."""
    told = str(operator.says.get("data_format") or operator.says.get("data_layout") or "NCHW")
    return "NCHW" if told == "AnyLayout" else told


def _conv(operator: Operator) -> Op | None:
    weight, bias = operator.constant(1), operator.constant(2)
    if weight is None or len(weight.tensor.shape) < 3:
        return None
    window = _window(operator, weight.tensor.shape[2:])
    weights = {"weight": weight, **({"bias": bias} if bias else {})}
    return operator.op("conv", weights=weights, window=window) if window else None


def _norm(operator: Operator) -> Op | None:
    names = PIR_NORM if operator.says.get("by_place") else NORM_TENSORS
    weights = {leaf: operator.constant(i) for i, leaf in enumerate(names, 1)}
    found = {leaf: weights[leaf] for leaf in NORM_TENSORS if weights.get(leaf) is not None}
    if len(found) < len(NORM_TENSORS) or _order(operator)[1:2] != "C":
        return None
    says = operator.says
    if says.get("trainable_statistics") or not (says.get("is_test") or says.get("use_global_stats")):
        raise NotADenseNet(f"{operator.name}: saved in training mode; call model.eval() before saving")
    return operator.op("norm", weights=found, eps=float(str(np.float32(says.get("epsilon", 1e-5)))))


PIR_NORM = ("running_mean", "running_var", "weight", "bias")
"""The order of what a batch norm takes in PIR; a ProgramDesc names it."""


def _pool(operator: Operator) -> Op | None:
    says, average = operator.says, operator.says.get("pooling_type") == "avg"
    kernel = operator.numbers("ksize") or operator.numbers("kernel_size", 1)
    if says.get("global_pooling") or (says.get("adaptive") and set(kernel) == {1}):
        return operator.op("global_avg" if average else "global_max") if _order(operator)[1:2] == "C" else None
    window = _window(operator, kernel)
    if says.get("adaptive") or window is None:
        return None
    if average and not says.get("exclusive", True) and (window.ceil or window.same):
        return None  # a part of a window counts as a whole one
    return operator.op("avg_pool" if average else "max_pool", window=window)


def _selected(operator: Operator) -> Op | None:
    """Channels picked from the last to the first."""
    indices, axes = operator.numbers("index", 1), operator.numbers("dim") or operator.numbers("axis", 2)
    size = operator.image[axes[0]] if len(axes) == 1 and -4 <= axes[0] < len(operator.image) == 4 else -1
    whole = len(axes) == 1 and len(indices) > 1 and indices == list(reversed(range(len(indices))))
    whole = whole and size in (-1, len(indices))
    return operator.op("flip", axis=axes[0]) if whole else None


def _mean(operator: Operator) -> Op | None:
    axes = operator.numbers("dim") or operator.numbers("axis", 1)
    kind: Kind = "global_avg" if operator.kind in ("mean", "reduce_mean") else "global_max"
    return operator.op(kind) if not operator.says.get("reduce_all") and set(axes) in ({2, 3}, {-1, -2}) else None


def _concat(operator: Operator) -> Op | None:
    whole = len(operator.x) == len(operator.given[0])
    return operator.op("concat") if whole and operator.numbers("axis", 1) in ([1], [-3]) else None


def _linear(operator: Operator) -> Op | None:
    says, weight, bias = operator.says, operator.constant(1), operator.constant(2)
    if weight is None or len(weight.tensor.shape) != 2 or says.get("activation_type") or says.get("alpha", 1.0) != 1.0:
        return None
    if says.get("trans_x") or says.get("transpose_x") or says.get("transpose_X"):
        return None
    if not (says.get("trans_y") or says.get("transpose_y") or says.get("transpose_Y")):
        weight = replace(weight, tensor=transposed(weight.tensor))
    return operator.op("linear", weights={"weight": weight, **({"bias": bias} if bias else {})})


def _scale(operator: Operator) -> Op | None:
    constant, says = operator.constant(1), operator.says
    times = float(says.get("scale", 1.0)) if constant is None else float(constant.tensor.read().reshape(-1)[0])
    plus = float(says.get("bias", 0.0)) * (1.0 if says.get("bias_after_scale", True) else times)
    values = {"weight": times, "bias": plus}
    return operator.op("affine", weights={leaf: _number(operator, leaf, value) for leaf, value in values.items()})


def _number(operator: Operator, leaf: str, value: float) -> Weight:
    return made(np.array([value]), f"{operator.y} ({leaf})")


def _dropout(operator: Operator) -> Op | None:
    """Older programs scale at inference what they do not scale while training."""
    says, rate = operator.says, operator.constant(2)
    if not says.get("is_test"):
        raise NotADenseNet(f"{operator.name}: drops features; call model.eval() before saving")
    if (says.get("dropout_implementation") or says.get("mode") or "downgrade_in_infer") == "upscale_in_train":
        return operator.op("skip")
    p = float(rate.tensor.read().reshape(-1)[0]) if rate is not None else float(says.get("dropout_prob", 0.5))
    return operator.op("affine", weights={"weight": _number(operator, "kept", 1 - p)})


def _arithmetic(operator: Operator) -> Op | None:
    """A constant per channel added or multiplied; or two values added."""
    does, second = ARITHMETIC[operator.kind], operator.constant(1)
    if not operator.x:
        return None
    if second is None:
        y = operator.given[1][0] if len(operator.given) > 1 else ""
        both = (*operator.x, y)
        if not y or does == "add":
            return operator.op("add", x=both) if y else None
        computes: Mapping[str, Compute] = {"sub": np.subtract, "mul": np.multiply, "div": np.divide}
        return operator.op("other", x=both, compute=computes[does])
    if prod(second.tensor.shape) > bounds.COMPUTED or second.tensor.dtype.kind in "iub":
        return None
    shape, axis = second.tensor.shape, operator.says.get("axis", -1)
    if axis == 1 and len(shape) == 1:
        second = replace(second, tensor=lazily(second.tensor, lambda array: array.reshape(-1, 1, 1)))
    elif axis != -1 and prod(shape) > 1:
        return None
    found = flat(second)
    if found is None:
        return None
    kind, weight = found
    values = weight.tensor.read().astype(np.float64)
    if does in ("sub", "div"):
        weight = made(-values if does == "sub" else 1 / values, f"{weight.key} ({operator.y})", weight)
    return operator.op(kind, weights={"bias" if does in ("add", "sub") else "weight": weight})


def _activation(operator: Operator) -> Op | None:
    return operator.op("other", compute=ACTIVATIONS[operator.kind.removesuffix("_")](operator.says))


def _prelu(operator: Operator) -> Op | None:
    """Of one slope for all its features it is a leaky ReLU."""
    constant = operator.constant(1)
    slope = None if constant is None else one_number(constant)
    if constant is None or slope is None:
        return None
    leaky = lambda x: FUNCTIONS["leaky_relu"](x, slope)  # noqa: E731
    return operator.op("other", compute=leaky, weights={"alpha": constant})


def _end(operator: Operator) -> Op | None:
    kind: Kind = "softmax" if operator.kind in ("softmax", "softmax_") else "end"
    return operator.op(kind) if operator.numbers("axis", 1) in ([], [-1], [1]) else None


def _cast(operator: Operator) -> Op | None:
    return operator.op("skip") if operator.says.get("out_dtype", operator.says.get("dtype")) in FLOATS else None


def _turn(operator: Operator) -> Op | None:
    turns: dict[tuple[int, ...], int] = {(0, 2, 3, 1): -1, (0, 3, 1, 2): 1}
    axis = turns.get(tuple(operator.numbers("axis") or operator.numbers("perm")))
    return operator.op("turn", axis=axis) if axis else None


def _flip(operator: Operator) -> Op | None:
    axes = operator.numbers("axis")
    return operator.op("flip", axis=axes[0]) if len(axes) == 1 else None


ARITHMETIC = {
    **{f"elementwise_{name}": name for name in ("add", "sub", "mul", "div")},
    **{"add": "add", "add_": "add", "subtract": "sub", "multiply": "mul", "divide": "div"},
}
READERS: Mapping[str, Reader] = {
    **dict.fromkeys((*ACTIVATIONS, *(f"{name}_" for name in ACTIVATIONS)), _activation),
    "prelu": _prelu,
    **{name: lambda operator: operator.op(PLAIN[operator.kind]) for name in PLAIN},
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv3d"), _conv),
    **dict.fromkeys(("batch_norm", "batch_norm_", "sync_batch_norm", "sync_batch_norm_"), _norm),
    **dict.fromkeys(("pool2d", "pool3d", "max_pool2d_with_index"), _pool),
    **dict.fromkeys(("index_select", "gather"), _selected),
    **dict.fromkeys(("mean", "reduce_mean", "max", "reduce_max"), _mean),
    "concat": _concat,
    **dict.fromkeys(("matmul_v2", "matmul", "mul", "fc"), _linear),
    "scale": _scale,
    "dropout": _dropout,
    **dict.fromkeys(ARITHMETIC, _arithmetic),
    **dict.fromkeys(("softmax", "softmax_", "log_softmax", "arg_max", "argmax", "top_k_v2"), _end),
    "cast": _cast,
    **dict.fromkeys(("transpose", "transpose2"), _turn),
    "flip": _flip,
}
"""Operators by name; a reader returns None where one does something a DenseNet does not."""
