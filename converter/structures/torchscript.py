"""Frozen TorchScript modules: the code of ``forward`` is read as text and followed by ``wiring.py``.

TorchScript writes its graphs as Python (torch/csrc/jit/serialization/python_print.cpp):
one assignment per operator, constants as ``CONSTANTS.c7``.  The text is parsed into a
syntax tree and never compiled or run.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.ops import Kind, Op, Weight, Window
from converter.structures.parts import Structure
from converter.structures.weights import flat, transposed
from converter.structures.wiring import read_wiring
from densenet.config import NORM_TENSORS

NAME = "torchscript"
FORMAT = "torchscript, frozen"

ABOUT_SHAPES = frozenset(
    "dim size len isinstance ne eq gt lt ge le format numel is_floating_point __not__ __is__ __isnot__".split()
)
"""Functions whose result is no feature map; torchvision's and batch norm's checks are made of them."""


class _Unknown:
    """A value that no operator of a DenseNet depends on."""


UNKNOWN = _Unknown()


class _Data(str):
    """The name of a value that depends on the image."""

    __slots__ = ()


def read_torchscript(checkpoint: Checkpoint) -> Structure | None:
    """The network of a frozen TorchScript module; None for a checkpoint of another kind.

    Raises:
        NotADenseNet: it computes something else; names the operator.
    """
    if checkpoint.format != FORMAT:
        return None
    try:
        forward = _Forward(checkpoint.tree)
        return read_wiring(NAME, forward.ops, forward.start, [str(forward.result)], constants=forward.constants)
    except NotADenseNet as error:
        raise NotADenseNet(f"{checkpoint.path}: {error}") from error


class _Forward:
    """The operators of one ``forward``, in the order of its statements."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self.values: dict[str, Any] = {}
        self.ops: list[Op] = []
        self.result: Any = UNKNOWN
        tensors = {f"c{i}": value for i, value in enumerate(tree["constants"])}
        self.constants = {
            name: Weight(name, value, (name,)) for name, value in tensors.items() if isinstance(value, Tensor)
        }
        function = self.function(tree["code"], tree["cls"])
        arguments = [argument.arg for argument in function.args.args[1:]]
        if len(arguments) != 1:
            raise NotADenseNet(f"forward takes {len(arguments)} arguments; a DenseNet takes the image")
        self.start = arguments[0]
        self.values[self.start] = _Data(self.start)
        try:
            for statement in function.body:
                self.statement(statement)
        except RecursionError as error:
            raise NotADenseNet("the code of forward is nested too deeply") from error

    def function(self, code: str, cls: str) -> ast.FunctionDef:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd escapes in a damaged text
                module = ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise NotADenseNet(f"the code of {cls} cannot be parsed ({type(error).__name__})") from error
        for node in module.body:
            if isinstance(node, ast.ClassDef) and node.name == cls:
                for member in node.body:
                    if isinstance(member, ast.FunctionDef) and member.name == "forward":
                        return member
        raise NotADenseNet(f"{cls} has no forward")

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            first, *others = _names(node.targets)
            self.values[first] = self.value(node.value)
            self.values |= dict.fromkeys(others, UNKNOWN)  # the indices beside a maximum, say
        elif isinstance(node, ast.Expr):
            self.value(node.value)
        elif isinstance(node, ast.Return):
            self.result = self.value(node.value) if node.value else UNKNOWN
        elif isinstance(node, ast.If) and isinstance(test := self.value(node.test), bool):
            for inner in node.body if test else node.orelse:
                self.statement(inner)
        elif not isinstance(node, ast.Pass):  # a check, for all that matters: what it assigns is not known
            self.values |= dict.fromkeys(_names([node]), UNKNOWN)

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return self.values.get(node.id, UNKNOWN)
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.List | ast.Tuple):
            return [self.value(item) for item in node.elts]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return -node.operand.value if isinstance(node.operand.value, int | float) else UNKNOWN
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "CONSTANTS":
            return self.constants.get(node.attr, UNKNOWN)
        if isinstance(node, ast.Call):
            return self.call(node)
        return UNKNOWN

    def call(self, node: ast.Call) -> Any:
        function = ast.unparse(node.func).rpartition(".")[2]
        arguments = [self.value(argument) for argument in node.args]
        if function in ("annotate", "unchecked_cast") and len(arguments) == 2:
            return arguments[1]
        if function == "isinstance" and len(arguments) == 2 and isinstance(arguments[0], _Data | list):
            return isinstance(arguments[0], _Data) == (ast.unparse(node.args[1]) == "Tensor")
        if function == "append" and len(arguments) == 2 and isinstance(arguments[0], list):
            arguments[0].append(arguments[1])
            return arguments[0]
        if function == "ConstantMKLDNNTensor":
            raise NotADenseNet(
                "optimised for one processor, its weights are not in the file; use the module before that"
            )
        function = function.rstrip("_") if not function.startswith("__") else function
        if function in ABOUT_SHAPES or function == "RaiseException":
            return UNKNOWN
        data = tuple(x for argument in arguments for x in (argument if isinstance(argument, list) else [argument]))
        taken = tuple(str(x) for x in data if isinstance(x, _Data))
        if not taken:
            return UNKNOWN
        made = _Data(f"{function}:{len(self.ops)}")
        read = READERS.get(function)
        keywords = {keyword.arg: self.value(keyword.value) for keyword in node.keywords}
        op = read(function, arguments, keywords) if read else None
        kind, more = op if op is not None else ("other", {})
        self.ops.append(Op(kind, taken, made, f"torch.{function} (operator {len(self.ops) + 1})", **more))
        return made


def _names(nodes: Sequence[ast.AST]) -> list[str]:
    """The names that something assigns to, in order."""
    inner = [each for node in nodes for each in ast.walk(node)]
    return [each.id for each in inner if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)] or [""]


# -- functions of torch to operators ---------------------------------------------------------

Found = tuple[Kind, dict[str, Any]]
Reader = Callable[[str, Sequence[Any], Mapping[Any, Any]], Found | None]


def _at(arguments: Sequence[Any], i: int, default: Any = None) -> Any:
    return arguments[i] if i < len(arguments) and arguments[i] is not None else default


def _spread(value: Any, dims: int, default: int) -> tuple[int, ...] | None:
    """One number for all dimensions, or one for each; None if it is neither."""
    value = [default] if value is None or value == [] else [value] if isinstance(value, int) else value
    if not isinstance(value, list) or not all(isinstance(n, int) for n in value) or len(value) not in (1, dims):
        return None
    return tuple(value) if len(value) == dims else tuple(value) * dims


def _window(kernel: Any, strides: Any, pads: Any, dilations: Any, dims: int, **more: Any) -> Window | None:
    shape = _spread(kernel, dims, 1)
    steps = _spread(strides, dims, 1) if strides else shape
    around = (0,) * dims if isinstance(pads, str) else _spread(pads, dims, 0)
    apart = _spread(dilations, dims, 1)
    if shape is None or steps is None or around is None or apart is None or min(steps) < 1:
        return None
    return Window(shape, steps, around, around, apart, **more)


def _conv(function: str, arguments: Sequence[Any], _: Mapping[Any, Any]) -> Found | None:
    weight, bias = _at(arguments, 1), _at(arguments, 2)
    groups = _at(arguments, 8 if function == "_convolution" else 6, 1)
    if not isinstance(weight, Weight) or not isinstance(groups, int) or len(weight.tensor.shape) < 3:
        return None
    if (function == "_convolution" and _at(arguments, 6) is not False) or not isinstance(bias, Weight | None):
        return None
    kernel, pads = list(weight.tensor.shape[2:]), _at(arguments, 4, 0)
    if isinstance(pads, str) and pads not in ("same", "valid"):
        return None
    strides, dilations = _at(arguments, 3, 1), _at(arguments, 5, 1)
    window = _window(kernel, strides, pads, dilations, len(kernel), groups=groups, same=pads == "same")
    weights = {"weight": weight, **({"bias": bias} if bias else {})}
    return ("conv", {"weights": weights, "window": window}) if window else None


def _norm(_: str, arguments: Sequence[Any], __: Mapping[Any, Any]) -> Found | None:
    weights = {leaf: weight for leaf, weight in zip(NORM_TENSORS, arguments[1:5]) if isinstance(weight, Weight)}
    eps = _at(arguments, 7)
    if len(weights) < 4 or _at(arguments, 5) is not False or not isinstance(eps, float):
        return None
    return "norm", {"weights": weights, "eps": eps}


def _pool(function: str, arguments: Sequence[Any], _: Mapping[Any, Any]) -> Found | None:
    largest, dims = function.startswith("max"), int(function[-2])
    dilations, ceil = (_at(arguments, 4), _at(arguments, 5)) if largest else (1, _at(arguments, 4))
    if not largest and _at(arguments, 6) is not None:
        return None
    window = _window(_at(arguments, 1), _at(arguments, 2), _at(arguments, 3), dilations, dims, ceil=bool(ceil))
    return ("max_pool" if largest else "avg_pool", {"window": window}) if window else None


def _global(function: str, arguments: Sequence[Any], _: Mapping[Any, Any]) -> Found | None:
    largest = "max" in function
    if function.startswith("adaptive"):
        whole = _at(arguments, 1) in (1, [1], [1, 1], [1, 1, 1])
    else:
        axes = _at(arguments, 1)
        whole = isinstance(axes, list) and [str(n) for n in axes] in (["2", "3"], ["-2", "-1"], ["-1", "-2"])
    return ("global_max" if largest else "global_avg", {}) if whole else None


def _cat(_: str, arguments: Sequence[Any], __: Mapping[Any, Any]) -> Found | None:
    pieces, axis = _at(arguments, 0), _at(arguments, 1, 0)
    whole = isinstance(pieces, list) and all(isinstance(x, _Data) for x in pieces)
    return ("concat", {}) if whole and axis in (1, -3) else None


def _pad(function: str, arguments: Sequence[Any], _: Mapping[Any, Any]) -> Found | None:
    """``pads`` are of the last dimension first, in pairs."""
    pads = _at(arguments, 1)
    mode = _at(arguments, 2, "constant") if function == "pad" else "reflect"
    value = _at(arguments, 3, 0) if function == "pad" else 0
    if not isinstance(pads, list) or not all(isinstance(n, int) and n >= 0 for n in pads) or value != 0:
        return None
    if mode not in ("constant", "reflect") or len(pads) % 2:
        return None
    window = Window((), (), tuple(pads[-2::-2]), tuple(pads[-1::-2]))
    return "pad" if mode == "constant" else "reflect", {"window": window}


def _linear(function: str, arguments: Sequence[Any], _: Mapping[Any, Any]) -> Found | None:
    """``linear(x, w, b)``; ``addmm(b, x, w)`` and ``matmul(x, w)`` have the weights transposed."""
    weight = _at(arguments, 2 if function == "addmm" else 1)
    bias = _at(arguments, 0) if function == "addmm" else _at(arguments, 2) if function == "linear" else None
    if not isinstance(weight, Weight) or len(weight.tensor.shape) != 2 or not isinstance(bias, Weight | None):
        return None
    if function != "linear":
        weight = replace(weight, key=f"{weight.key} (transposed)", tensor=transposed(weight.tensor))
    return "linear", {"weights": {"weight": weight, **({"bias": bias} if bias else {})}}


def _arithmetic(function: str, arguments: Sequence[Any], keywords: Mapping[Any, Any]) -> Found | None:
    other = _at(arguments, 1)
    if _at(arguments, 2, 1) != 1 or keywords.get("alpha", 1) != 1:
        return None
    if isinstance(other, _Data):
        return ("add", {}) if function == "add" else None
    leaf = "bias" if function == "add" else "weight"
    if isinstance(other, float | int):
        return "affine", {"weights": {leaf: _number(float(other))}}
    if not isinstance(other, Weight):
        return None
    found = flat(replace(other, key=f"{other.key} (per channel)"))
    return (found[0], {"weights": {leaf: found[1]}}) if found is not None else None


def _number(value: float) -> Weight:
    return Weight(repr(value), Tensor.of(np.array(value, np.float32)))


def _kind(kind: Kind) -> Reader:
    return lambda *_: (kind, {})


def _inference(_: str, arguments: Sequence[Any], __: Mapping[Any, Any]) -> Found | None:
    return ("skip", {}) if _at(arguments, 2) is False else None


READERS: Mapping[str, Reader] = {
    **dict.fromkeys(("conv2d", "conv3d", "_convolution"), _conv),
    "batch_norm": _norm,
    "relu": _kind("relu"),
    **dict.fromkeys(("max_pool2d", "max_pool3d", "avg_pool2d", "avg_pool3d"), _pool),
    **dict.fromkeys((f"adaptive_{kind}_pool{n}d" for kind in ("avg", "max") for n in (2, 3)), _global),
    **dict.fromkeys(("mean", "amax"), _global),
    "cat": _cat,
    "pad": _pad,
    "reflection_pad2d": _pad,
    **dict.fromkeys(("linear", "addmm", "matmul"), _linear),
    **dict.fromkeys(("add", "mul"), _arithmetic),
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze"), _kind("flatten")),
    **dict.fromkeys(("dropout", "feature_dropout"), _inference),
    **dict.fromkeys(("contiguous", "detach", "alias"), _kind("skip")),
    **dict.fromkeys(("softmax", "log_softmax", "sigmoid", "argmax"), _kind("end")),
}
"""Functions by name, without the underscore of those that work in place; None for what a DenseNet does not do."""
