"""MXNet symbols (``-symbol.json``): every node becomes an operator of ``ops.py``, for ``wiring.py`` to judge.

Operators and what they do by default: apache/mxnet, src/operator (nn/convolution-inl.h, nn/batch_norm-inl.h,
nn/pooling-inl.h, nn/fully_connected-inl.h, nn/concat-inl.h); a symbol says everything as text.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.activations import FUNCTIONS, erf_of
from converter.structures.ops import Compute, Kind, Op, Weight, Window
from converter.structures.parts import Structure
from converter.structures.weights import flat, made, one_number
from converter.structures.whole_pools import whole_pools
from converter.structures.wiring import read_wiring
from densenet.module import NORM_TENSORS

NAME = "mxnet, symbol"
TRUE = ("True", "true", "1")

PLAIN: Mapping[str, Kind] = {
    **dict.fromkeys(("Flatten", "flatten", "Reshape", "reshape", "squeeze", "expand_dims"), "flatten"),
    **dict.fromkeys(("identity", "_copy", "BlockGrad", "amp_cast", "LinearRegressionOutput"), "skip"),
    **dict.fromkeys(("relu",), "relu"),
    **dict.fromkeys(("sigmoid", "LogisticRegressionOutput"), "sigmoid"),
    **dict.fromkeys(("SoftmaxOutput", "Softmax", "SoftmaxActivation"), "softmax"),
    "argmax_channel": "end",
}
"""Operators that do one thing, whatever they say."""


class Node(NamedTuple):
    """An operator of a symbol: the values it takes that are feature maps, and its constants by place."""

    op: str
    name: str
    y: str
    data: tuple[str, ...]
    constants: Mapping[int, Weight]
    attributes: Mapping[str, str]

    def op_of(self, kind: Kind, **more: Any) -> Op:
        """The operator it is."""
        return Op(kind, more.pop("x", self.data), self.y, f"{self.op} {self.name}", **more)

    def value(self, name: str, default: Any) -> Any:
        """A parameter as a Python value: a number, a tuple, text."""
        text = self.attributes.get(name)
        if text is None or len(text) > bounds.SYMBOL_TEXT:
            return default
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text

    def numbers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A parameter with a number for each dimension."""
        value = self.value(name, default)
        value = (value,) if isinstance(value, int) else tuple(value)
        if not all(type(n) is int for n in value):
            raise ValueError(f"{name} is {self.attributes.get(name)}")
        return value or default

    def says(self, name: str) -> bool:
        """A parameter that is true or, as where it is absent, false."""
        return self.attributes.get(name) in TRUE


def read_symbol(checkpoint: Checkpoint) -> Structure | None:
    """The network of the symbol beside parameters; None where there is none.

    Raises:
        NotADenseNet: it computes something else; names the operator.
    """
    if checkpoint.graph is None or not isinstance(checkpoint.tree, dict):
        return None
    try:
        with np.errstate(all="ignore"):  # a damaged constant may hold anything
            return _structure(checkpoint.tree, checkpoint.graph, checkpoint.head)
    except NotADenseNet as error:
        raise NotADenseNet(f"{checkpoint.path}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise NotADenseNet(f"{checkpoint.path}: its symbol cannot be understood ({error})") from error


def _structure(tree: Mapping[str, Tensor], graph: Mapping[str, Any], head: str) -> Structure:
    nodes = graph["nodes"]
    values = [str(node["name"]) for node in nodes]
    labels = {
        nodes[given[0]]["name"]
        for node in nodes
        if node["op"].endswith("Output") or node["op"] == "Softmax"
        for given in node["inputs"][1:]
    }
    free = [node["name"] for node in nodes if node["op"] == "null" and node["name"] not in tree]
    starts = [name for name in free if name not in labels]
    if len(starts) != 1:
        what = ", ".join(starts[:4]) or "nothing"
        raise NotADenseNet(f"its symbol takes {what}, which the parameters lack; a DenseNet takes one image")
    ops = list[Op]()
    for node in nodes:
        if node["op"] == "null":
            continue
        given = [values[at] if not output else f"{values[at]}[{output}]" for at, output, *_ in node["inputs"]]
        data = tuple(name for name in given if name not in tree and name not in labels)
        constants = {i: Weight(name, tree[name], (name,)) for i, name in enumerate(given) if name in tree}
        attributes = {k: str(v) for key in ("attr", "param", "attrs") for k, v in (node.get(key) or {}).items()}
        ops.append(_operator(Node(node["op"], node["name"], node["name"], data, constants, attributes)))
    ops, notes = whole_pools(ops)
    outputs = [values[at] if not output else f"{values[at]}[{output}]" for at, output, *_ in graph["heads"]]
    structure = read_wiring(NAME, ops, starts[0], outputs, constants=tree, head=head)
    return replace(structure, notes=(*notes, *structure.notes))


def _operator(node: Node) -> Op:
    if "quantize" in node.op:
        raise NotADenseNet(f"{node.op} {node.name}: it is quantised; convert the float network it was made from")
    read = READERS.get(node.op)
    return (read(node) if read is not None else None) or node.op_of("other")


# -- nodes to operators --------------------------------------------------------------------

Reader = Callable[[Node], Op | None]


def _window(node: Node, dims: int) -> Window:
    ones, zeros = (1,) * dims, (0,) * dims
    pad = node.numbers("pad", zeros)
    window = Window(
        node.numbers("kernel", ones),
        node.numbers("stride", ones),
        pad,
        pad,
        node.numbers("dilate", ones),
        node.value("num_group", 1),
        node.attributes.get("pooling_convention") == "full",
    )
    if {len(n) for n in (window.kernel, window.strides, pad, window.dilations)} != {dims}:
        raise NotADenseNet(f"{node.op} {node.name}: kernel, stride and pad have different dimensions")
    return window


def _conv(node: Node) -> Op | None:
    weight, bias = node.constants.get(1), node.constants.get(2)
    if weight is None or not node.attributes.get("layout", "NC").startswith(("NC", "None")):
        return None
    window = _window(node, len(weight.tensor.shape) - 2)
    if window.kernel != weight.tensor.shape[2:]:
        raise NotADenseNet(f"{node.op} {node.name}: its weight has shape {list(weight.tensor.shape)}")
    return node.op_of("conv", weights={"weight": weight, **({"bias": bias} if bias else {})}, window=window)


def _norm(node: Node) -> Op | None:
    """Its ``gamma`` is of ones already where ``fix_gamma`` says so (formats/mxnet.py)."""
    found = {leaf: node.constants[i] for i, leaf in enumerate(NORM_TENSORS, 1) if i in node.constants}
    if len(found) < len(NORM_TENSORS) or node.value("axis", 1) != 1 or node.says("output_mean_var"):
        return None
    return node.op_of("norm", weights=found, eps=float(node.value("eps", 1e-3)))


def _activation(node: Node) -> Op | None:
    told = node.attributes.get("act_type", "")
    if told in ("relu", "sigmoid"):
        return node.op_of("relu" if told == "relu" else "sigmoid")
    return _computed(node, FUNCTIONS_OF_ONE.get({"softrelu": "softplus"}.get(told, told)))


def _leaky(node: Node) -> Op | None:
    """LeakyReLU is several (src/operator/leaky_relu-inl.h); ``rrelu`` has the mean of its bounds at inference."""
    told, slope = node.attributes.get("act_type", "leaky"), float(node.value("slope", 0.25))
    if told == "prelu":
        constant = node.constants.get(1)
        number = None if constant is None else one_number(constant)
        if constant is None or number is None:
            return None
        leaky = lambda x: FUNCTIONS["leaky_relu"](x, number)  # noqa: E731
        return node.op_of("other", compute=leaky, weights={"alpha": constant})
    if told == "rrelu":
        told, slope = "leaky", (float(node.value("lower_bound", 0.125)) + float(node.value("upper_bound", 0.334))) / 2
    kinds = {"leaky": "leaky_relu", "elu": "elu", "selu": "selu", "gelu": "gelu"}
    kind = kinds.get(told)
    return None if kind is None else _computed(node, lambda x: FUNCTIONS[kind](x, slope))


def _function(node: Node) -> Op | None:
    return _computed(node, FUNCTIONS_OF_ONE[node.op])


def _hard_sigmoid(node: Node) -> Op | None:
    alpha, beta = float(node.value("alpha", 0.2)), float(node.value("beta", 0.5))
    return _computed(node, lambda x: np.clip(alpha * x + beta, 0, 1))


def _clip(node: Node) -> Op | None:
    low, high = float(node.value("a_min", -np.inf)), float(node.value("a_max", np.inf))
    return _computed(node, lambda x: np.minimum(np.maximum(x, low), high))


def _computed(node: Node, compute: Compute | None) -> Op | None:
    return None if compute is None else node.op_of("other", compute=compute)


def _pool(node: Node) -> Op | None:
    average = node.attributes.get("pool_type", "max") == "avg"
    if not average and node.attributes.get("pool_type", "max") != "max":
        return None
    if node.attributes.get("pooling_convention", "valid") not in ("valid", "full"):
        return None
    if not node.attributes.get("layout", "NC").startswith(("NC", "None")):
        return None
    if node.says("global_pool"):
        return node.op_of("global_avg" if average else "global_max")
    return node.op_of("avg_pool" if average else "max_pool", window=_window(node, len(node.numbers("kernel", ()))))


def _adaptive(node: Node) -> Op | None:
    return node.op_of("global_avg") if node.numbers("output_size", (1,)) in ((1,), (1, 1)) else None


def _mean(node: Node) -> Op | None:
    kind: Kind = "global_avg" if node.op == "mean" else "global_max"
    return node.op_of(kind) if set(node.numbers("axis", ())) in ({2, 3}, {-1, -2}) else None


def _concat(node: Node) -> Op | None:
    return node.op_of("concat") if node.value("dim", 1) == 1 and not node.constants else None


def _linear(node: Node) -> Op | None:
    weight, bias = node.constants.get(1), node.constants.get(2)
    if weight is None:
        return None
    if len(weight.tensor.shape) != 2:  # FullyConnected takes it as a matrix
        raise NotADenseNet(f"{node.op} {node.name}: its weight has shape {list(weight.tensor.shape)}")
    return node.op_of("linear", weights={"weight": weight, **({"bias": bias} if bias else {})})


def _dropout(node: Node) -> Op | None:
    return node.op_of("skip") if node.attributes.get("mode", "training") == "training" else None


def _softmax(node: Node) -> Op | None:
    kind: Kind = "softmax" if node.op == "softmax" else "end"
    return node.op_of(kind) if node.value("axis", -1) in (-1, 1) else None


def _cast(node: Node) -> Op | None:
    return node.op_of("skip") if node.attributes.get("dtype", "").startswith(("float", "bfloat")) else None


def _turn(node: Node) -> Op | None:
    turns: dict[tuple[int, ...], int] = {(0, 2, 3, 1): -1, (0, 3, 1, 2): 1}
    axis = turns.get(node.numbers("axes", ()))
    return node.op_of("turn", axis=axis) if axis else None


def _flip(node: Node) -> Op | None:
    axes = node.numbers("axis", ())
    return node.op_of("flip", axis=axes[0]) if len(axes) == 1 else None


def _pad(node: Node) -> Op | None:
    width, mode = node.numbers("pad_width", ()), node.attributes.get("mode", "constant")
    if len(width) < 6 or len(width) % 2 or any(width[:4]) or min(width) < 0 or node.value("constant_value", 0) != 0:
        return None
    return node.op_of("pad", window=Window((), (), width[4::2], width[5::2])) if mode == "constant" else None


def _scalar(node: Node) -> Op | None:
    """``_mul_scalar`` and its like; ``_r`` has the number first."""
    value = node.value("scalar", None)
    if not isinstance(value, int | float):
        return None
    return _affine(node, SCALARS[node.op], Weight(str(value), Tensor.of(np.array([value], np.float32))))


def _broadcast(node: Node) -> Op | None:
    """A constant per channel added or multiplied; or two values added."""
    does = BROADCASTS[node.op]
    if len(node.data) == 2:
        computes: Mapping[str, Compute] = {"mul": np.multiply, "sub": np.subtract, "div": np.divide}
        return node.op_of("add") if does == "add" else _computed(node, computes[does])
    at, constant = next(iter(node.constants.items()), (0, None))
    if constant is None or prod(constant.tensor.shape) > 1 << 16 or (at == 0 and does in ("sub", "div")):
        return None
    return _affine(node, does, constant)


def _affine(node: Node, does: str, constant: Weight) -> Op | None:
    found = flat(constant)
    if found is None:
        return None
    kind, weight = found
    values = weight.tensor.read().astype(np.float64)
    if does in ("sub", "div"):
        weight = made(-values if does == "sub" else 1 / values, f"{weight.key} ({node.name})", weight)
    weights = {"bias" if does in ("add", "sub", "rsub") else "weight": weight}
    if does == "rsub":
        weights["weight"] = made(-np.ones(values.shape), f"-1 ({node.name})")
    return node.op_of(kind, weights=weights)


FUNCTIONS_OF_ONE: Mapping[str, Compute] = {
    "tanh": np.tanh,
    "softplus": lambda x: FUNCTIONS["softplus"](x, 0.0),
    "softsign": lambda x: FUNCTIONS["softsign"](x, 0.0),
    "mish": lambda x: FUNCTIONS["mish"](x, 0.0),
    "log_sigmoid": lambda x: -np.logaddexp(0, -x),
    "erf": erf_of,
    "exp": np.exp,
    "log1p": np.log1p,
    "abs": np.abs,
    "negative": np.negative,
    "square": np.square,
}
"""Operators, and what Activation calls so."""


def _all(names: Sequence[str], read: Reader) -> dict[str, Reader]:
    return dict.fromkeys(names, read)


SCALARS = {
    **{"_mul_scalar": "mul", "_div_scalar": "div", "_plus_scalar": "add", "_minus_scalar": "sub"},
    **{"_MulScalar": "mul", "_DivScalar": "div", "_PlusScalar": "add", "_MinusScalar": "sub"},
    **{"_rminus_scalar": "rsub", "_RMinusScalar": "rsub"},
}
BROADCASTS = {
    **{f"broadcast_{name}": name for name in ("mul", "div", "add", "sub")},
    **{"broadcast_plus": "add", "broadcast_minus": "sub", "elemwise_add": "add", "_plus": "add", "_Plus": "add"},
    **{"elemwise_mul": "mul", "elemwise_sub": "sub", "elemwise_div": "div", "_mul": "mul", "_minus": "sub"},
}
READERS: Mapping[str, Reader] = {
    **{name: lambda node: node.op_of(PLAIN[node.op], x=node.data[:1]) for name in PLAIN},
    **_all(("Convolution", "Convolution_v1"), _conv),
    **_all(("BatchNorm", "BatchNorm_v1", "_contrib_SyncBatchNorm"), _norm),
    "Activation": _activation,
    "LeakyReLU": _leaky,
    "hard_sigmoid": _hard_sigmoid,
    "clip": _clip,
    **_all(("tanh", "softsign", "erf", "exp", "log1p", "abs", "negative", "square"), _function),
    **_all(("Pooling", "Pooling_v1"), _pool),
    "_contrib_AdaptiveAvgPooling2D": _adaptive,
    **_all(("mean", "max"), _mean),
    **_all(("Concat", "concat"), _concat),
    "FullyConnected": _linear,
    "Dropout": _dropout,
    **_all(("softmax", "log_softmax", "argmax", "topk"), _softmax),
    **_all(("Cast", "cast"), _cast),
    "transpose": _turn,
    **_all(("reverse", "flip"), _flip),
    **_all(("Pad", "pad"), _pad),
    **_all(tuple(SCALARS), _scalar),
    **_all(tuple(BROADCASTS), _broadcast),
}
"""Operators by name; a reader returns None where one does something a DenseNet does not."""
