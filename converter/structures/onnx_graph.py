"""ONNX graphs (onnx/docs/Operators.md), whoever exported, folded or optimised them.

Names are no guide: torch's dynamo exporter keeps torchvision's on weights into which a
norm was folded.  Each node becomes an operator of ``ops.py``; ``wiring.py`` follows
them from the image on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any, TypeVar

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import ConverterError, NotADenseNet
from converter.core.interface import Presented
from converter.core.metadata import CONFIG_KEY, INTERFACE_KEY
from converter.structures.onnx_channels import (
    flipped_axis,
    positions,
    repeated,
    reversed_between_turns,
    reversed_channels,
    takes_all,
    turns_one_channel,
)
from converter.structures.onnx_constants import BRANCHES, DOMAINS, Constants, Node, name_of
from converter.structures.onnx_elementwise import elementwise
from converter.structures.onnx_functions import in_order, inlined, unfused
from converter.structures.ops import END, Kind, Op, Weight, Window, border_of
from converter.structures.parts import Structure
from converter.structures.weights import flat, lazily, made, transposed
from converter.structures.wiring import read_wiring
from densenet.module import NORM_TENSORS

NAME = "onnx"
FORMATS = (NAME, "ONNX Runtime")
OWN_INPUT = "pixel_values"
"""Where the network begins in our own files that take images and preprocess them (converter/exporters/graph.py)."""

OWN_MAPS = ("stem", "blocks.", "transitions.", "maps", "cam")
"""How the names of feature maps begin in our own files (converter/exporters/outputs.py)."""

FLOATS = (1, 10, 11, 16)

PLAIN: Mapping[str, Kind] = {
    "Relu": "relu",
    "Concat": "concat",
    "Identity": "skip",
    "GlobalAveragePool": "global_avg",
    "GlobalMaxPool": "global_max",
    "Flatten": "flatten",
    "Reshape": "flatten",
    "Squeeze": "flatten",
    "Unsqueeze": "flatten",
    "Sigmoid": "sigmoid",
}
"""Nodes that need no look at their attributes (those of Concat and of shapes are looked at all the same)."""


def read_onnx(checkpoint: Checkpoint) -> Structure | None:
    """The network of an ONNX file; None for a checkpoint of another kind.

    Raises:
        NotADenseNet: it computes something else; names the node.
    """
    if checkpoint.format not in FORMATS:
        return None
    try:
        tree = _with_own_names(checkpoint) if INTERFACE_KEY in checkpoint.metadata else checkpoint.tree
        return structure_of(NAME, tree, checkpoint.head, own=CONFIG_KEY in checkpoint.metadata)
    except NotADenseNet as error:
        raise NotADenseNet(f"{checkpoint.path}: {error}") from error


def structure_of(layout: str, tree: Mapping[str, Any], head: str = "", *, own: bool = False) -> Structure:
    """The network of a graph.

    Args:
        layout: name of the source's conventions.
        tree: the graph as plain data (``formats/onnx_file.py``); ``own`` names the file's constants, where others are
            among them.
        head: which of several heads is wanted.
        own: whether this tool wrote it.

    Raises:
        NotADenseNet: it computes something else; names the node.
    """
    constants, ops = Constants(tree["initializers"], tree["opset"]), list[Op]()
    inputs = {name: shape for name, shape in tree["inputs"].items() if name not in tree["initializers"]}
    if len(inputs) != 1:
        raise NotADenseNet(f"a graph with {len(inputs)} inputs; a DenseNet has one, the image")
    start, shape = next(iter(inputs.items()))
    constants.image, constants.start = shape or [], start
    for node in in_order(inlined(tree["nodes"], tree["functions"])):
        _check_supported(node)
        try:
            with np.errstate(all="ignore"):  # a damaged constant may hold anything
                for part in unfused(node):
                    ops += [] if constants.take(part) else _operators(constants, part)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, MemoryError) as error:
            raise NotADenseNet(f"{name_of(node)} has attributes or constants that cannot be ({error})") from error
    if own and any(op.y == OWN_INPUT for op in ops):
        start, shape = OWN_INPUT, None
    first = next((op for op in ops if op.kind in ("turn", "conv")), None)
    last = first is not None and first.kind == "turn" and first.axis == 1  # images are given as NHWC
    sizes = (shape or [])[1:-1] if last else (shape or [])[2:]
    size = tuple(n for n in sizes if n is not None)
    return read_wiring(
        layout,
        ops,
        start,
        tree["outputs"],
        size=size if len(size) == len(sizes) else (),
        constants=tree.get("own", tree["initializers"]),
        head=head,
    )


def _with_own_names(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The graph of a file of this tool with the names its results have there, whatever they are called in this file.

    Raises:
        NotADenseNet: it gives feature maps alone.
    """
    tree = checkpoint.tree
    try:
        said = Presented.of(checkpoint.metadata)
    except ConverterError as error:
        raise NotADenseNet(str(error)) from error
    values = {name: said.value(name) for name in tree["outputs"]}
    vectors = {name: value for name, value in values.items() if not value.startswith(OWN_MAPS)}
    if not vectors:
        raise NotADenseNet(f"gives {', '.join(values)} alone: the network behind is not in the file")

    made = {name for node in tree["nodes"] for name in node["outputs"]}
    # Else it is a cast of that value.
    names = {name: value for name, value in vectors.items() if value not in made or value in vectors}

    def renamed(node: Node) -> Node:
        ends = {end: [names.get(name, name) for name in node[end]] for end in ("inputs", "outputs")}
        return {**node, **ends}

    outputs = [vectors.get(name, name) for name in tree["outputs"]]
    return {**tree, "nodes": [renamed(node) for node in tree["nodes"]], "outputs": outputs}


def _check_supported(node: Node) -> None:
    """Nodes of a file that must be made anew, whatever they are for.

    Raises:
        NotADenseNet: with what to do.
    """
    if node["domain"] == "com.microsoft.nchwc":
        raise NotADenseNet(
            f"{name_of(node)}: optimised for one processor, its weights are in blocks; "
            "use the model it was made from, or optimise it with ORT_ENABLE_EXTENDED at most"
        )
    if node["op"] in QUANTISED or node["op"].startswith("QLinear"):
        raise NotADenseNet(f"{name_of(node)}: it is quantised; convert the float file it was made from")
    if node["op"] in BRANCHES and node["domain"] in DOMAINS:
        raise NotADenseNet(f"{name_of(node)}: a branch or loop, which is not followed; simplify it first (onnxsim)")


def _operators(constants: Constants, node: Node) -> list[Op]:
    """A node as operators, one for each result.

    One that is not understood is of kind ``other``.
    """
    data = constants.data(node)
    known = node["domain"] in DOMAINS
    read = READERS.get(node["op"]) if known else None
    try:
        op = read(constants, node, data) if read is not None else None
    except NotADenseNet as error:  # it matters where the network depends on the node
        op = Op("other", data, node["outputs"][0], str(error))
    if op is None:
        op = _op("other", node, data, compute=elementwise(constants, node) if known else None)
    return [op, *(Op("end" if op.kind in END else "other", data, y, op.name) for y in node["outputs"][1:] if y)]


def _op(kind: Kind, node: Node, data: tuple[str, ...], **more: Any) -> Op:
    return Op(kind, data, node["outputs"][0], name_of(node), **more)


# -- nodes to operators ----------------------------------------------------------------------

W = TypeVar("W", Weight, Weight | None)
Reader = Callable[[Constants, Node, tuple[str, ...]], Op | None]


def _plain(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    if node["op"] == "Reshape" and turns_one_channel(constants, node):
        return _op("turn", node, data[:1], axis=1)
    return _op(PLAIN[node["op"]], node, data if node["op"] == "Concat" else data[:1])


def _concat(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    if len(data) != len(node["inputs"]):
        return None  # something constant among them
    axis = node["attributes"].get("axis")
    reversed_of = reversed_channels(constants, node, data)
    if reversed_of is not None:
        return _op("flip", node, (reversed_of,), axis=axis)
    return _op("concat", node, data) if axis in (1, -3) else None


def _repeat(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    times = repeated(constants, node)
    return _op("repeat" if times != 1 else "skip", node, data[:1], times=times) if times else None


def _flip(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    axis = flipped_axis(constants, node)
    if axis is None and takes_all(constants, node):
        return _op("flatten", node, data[:1])
    return None if axis is None else _op("flip", node, data[:1], axis=axis)


def _end(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    """What may follow logits, if it is along the classes.  Those are the last axis unless it says which."""
    default = 0 if node["op"] == "ArgMax" else -1 if constants.opset >= 13 or node["op"] == "TopK" else 1
    kind: Kind = "softmax" if node["op"] == "Softmax" else "end"
    return _op(kind, node, data[:1]) if node["attributes"].get("axis", default) in (1, -1) else None


def _clip(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    """Nothing below zero and no other bound is ReLU."""
    bounds = [constants.weight(node, i) for i in (1, 2)]
    low, high = (
        node["attributes"].get(name, other) if bound is None else float(bound.tensor.read().reshape(-1)[0])
        for name, bound, other in zip(("min", "max"), bounds, (-np.inf, np.inf))
    )
    return _op("relu", node, data) if low == 0 and high >= np.finfo(np.float32).max else None


def _dropout(constants: Constants, node: Node, data: tuple[str, ...]) -> Op:
    training = constants.weight(node, 2)
    of_old = 0 < constants.opset < 7 and not node["attributes"].get("is_test")
    if of_old or (training is not None and training.tensor.read().any()):
        raise NotADenseNet(f"{name_of(node)}: drops features; call model.eval() before exporting")
    return _op("skip", node, data[:1])


def _cast(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    return _op("skip", node, data) if node["op"] == "CastLike" or node["attributes"].get("to") in FLOATS else None


def _window(constants: Constants, node: Node, dims: int, kernel: list[int] | None = None) -> Window | None:
    """Kernel, strides and padding of a convolution or pooling; None for padding that is not expressed."""
    attributes = node["attributes"]
    ones, kernel = [1] * dims, kernel or attributes.get("kernel_shape") or []
    pads = attributes.get("pads") or [0] * 2 * dims
    strides, dilations = attributes.get("strides") or ones, attributes.get("dilations") or ones
    rule = attributes.get("auto_pad", "NOTSET")
    if not len(kernel) == len(strides) == len(dilations) == dims or len(pads) != 2 * dims or min(strides) < 1:
        return None
    if rule == "SAME_LOWER" and set(strides) != {1}:
        return None
    return Window(
        tuple(kernel),
        tuple(strides),
        tuple(pads[:dims]) if rule == "NOTSET" else (0,) * dims,
        tuple(pads[dims:]) if rule == "NOTSET" else (0,) * dims,
        tuple(dilations),
        attributes.get("group", 1),
        bool(attributes.get("ceil_mode", 0)),
        rule.startswith("SAME"),
    )


def _conv(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    weight, bias = constants.kernel(node, 1), constants.weight(node, 2)
    if weight is None or len(data) != 1 or len(weight.tensor.shape) < 3:
        return None
    shape = weight.tensor.shape
    window = _window(constants, node, len(shape) - 2, list(shape[2:]))
    weights = {"weight": weight, **({"bias": bias} if bias else {})}
    return _op("conv", node, data, weights=weights, window=window) if window else None


def _norm(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    weights = {leaf: constants.weight(node, i) for i, leaf in enumerate(NORM_TENSORS, 1)}
    found = {leaf: weight for leaf, weight in weights.items() if weight is not None and len(weight.tensor.shape) == 1}
    if len(found) < 4 or len(data) != 1:
        return None
    by_outputs = sum(map(bool, node["outputs"])) > 1 and constants.opset < 14
    of_old = 0 < constants.opset < 7 and not node["attributes"].get("is_test")
    if node["attributes"].get("training_mode") or by_outputs or of_old:
        raise NotADenseNet(f"{name_of(node)}: exported in training mode; call model.eval() before exporting")
    # The file has a float32; what was meant is the shortest number that is stored so.
    eps = float(str(np.float32(node["attributes"].get("epsilon", 1e-5))))
    return _op("norm", node, data, weights=found, eps=eps)


def _pool(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    kernel = node["attributes"].get("kernel_shape") or []
    window = _window(constants, node, len(kernel))
    kind: Kind = "max_pool" if node["op"] == "MaxPool" else "avg_pool"
    counted = kind == "avg_pool" and bool(node["attributes"].get("count_include_pad"))
    if window is None or (counted and window.same):
        return None
    return _op(kind, node, data, window=replace(window, zeros=counted))


def _reduce(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    """A mean or maximum over all positions is global pooling."""
    axes, data = positions(constants, node, constants.ints(node, "axes", 1) or [], data)
    kind: Kind = "global_avg" if node["op"] == "ReduceMean" else "global_max"
    n = len(constants.image) - 2 if constants.image else len(axes)
    whole = n in (1, 2, 3) and {axis % (n + 2) for axis in axes} == set(range(2, n + 2))
    return _op(kind, node, data) if whole and min(axes) >= -3 else None


def _pad(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    pads, value = constants.ints(node, "pads", 1), constants.weight(node, 2)
    constant = node["attributes"].get("value", 0.0) if value is None else value.tensor.read().reshape(-1)[0]
    mode = node["attributes"].get("mode", "constant")
    if not pads or len(pads) % 2 or len(node["inputs"]) > 3:
        return None
    half = len(pads) // 2
    begin, end = pads[:half], pads[half:]
    kind = border_of(mode, float(constant))
    if min(pads) < 0 or kind is None:
        return None
    if half == 4 and any((begin[1], end[1])) and not any((begin[0], end[0], begin[3], end[3])):
        return _op(kind, node, data, window=Window((), (), tuple(begin[1:3]), tuple(end[1:3])), axis=-1)
    if any((*begin[:2], *end[:2])):
        return None
    return _op(kind, node, data, window=Window((), (), tuple(begin[2:]), tuple(end[2:])))


def _arithmetic(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    """A constant per channel added or multiplied; or two values added."""
    if len(data) == 2:
        return _op("add", node, data) if node["op"] == "Add" else None
    at = 1 if node["inputs"][0] == data[0] else 0
    constant = constants.weight(node, at)
    if constant is None or (at == 0 and node["op"] == "Div") or prod(constant.tensor.shape) > bounds.COMPUTED:
        return None
    if constant.tensor.dtype.kind in "iub":
        return None  # integers divide otherwise, and have no room
    if at == 1 and node["op"] in ("Sub", "Div"):
        values = constant.tensor.read().astype(np.float64)
        turned = Tensor.of((-values if node["op"] == "Sub" else 1 / values).astype(np.float32))
        constant = replace(constant, key=f"{constant.key} ({node['outputs'][0]})", tensor=turned)
    found = flat(constant, len(constants.image) - 2 if constants.image else 2)
    if found is None:
        return None
    leaf = "bias" if node["op"] in ("Add", "Sub") else "weight"
    weights = {leaf: found[1]}
    if at == 0 and node["op"] == "Sub":
        weights["weight"] = made(-np.ones(found[1].tensor.shape), f"-1 ({node['outputs'][0]})")
    return _op(found[0], node, data, weights=weights)


def _negative(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    return _op("affine", node, data, weights={"weight": made(-np.ones(1), f"-1 ({node['outputs'][0]})")})


def _gemm(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    attributes, weight, bias = node["attributes"], constants.kernel(node, 1), constants.weight(node, 2)
    if weight is None or len(weight.tensor.shape) != 2 or attributes.get("transA"):
        return None
    weight, bias = _times(weight, attributes.get("alpha", 1.0)), _times(bias, attributes.get("beta", 1.0))
    return _linear(node, data, weight, bias, turned=not attributes.get("transB"))


def _times(weight: W, factor: float) -> W:
    """A constant times a number."""
    if weight is None or factor == 1.0:
        return weight
    tensor = lazily(weight.tensor, lambda array: (array * np.float64(factor)).astype(array.dtype))
    return replace(weight, key=f"{weight.key} (times {factor})", tensor=tensor)


def _matmul(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    weight = constants.kernel(node, 1)
    if weight is None or len(weight.tensor.shape) != 2:
        return None
    return _linear(node, data, weight, None, turned=True)


def _linear(node: Node, data: tuple[str, ...], weight: Weight, bias: Weight | None, *, turned: bool) -> Op:
    if turned:
        weight = replace(weight, key=f"{weight.key} ({node['outputs'][0]})", tensor=transposed(weight.tensor))
    return _op("linear", node, data, weights={"weight": weight, **({"bias": bias} if bias else {})})


def _turn(constants: Constants, node: Node, data: tuple[str, ...]) -> Op | None:
    reversed_of = reversed_between_turns(constants, node)
    if reversed_of is not None:
        return _op("flip", node, (reversed_of,), axis=1)
    order = tuple(node["attributes"].get("perm") or ())
    if order == (0, 2, 1):  # which is its own inverse: signals come with their channels last
        return _op("turn", node, data, axis=1) if data == (constants.start,) else None
    return _op("turn", node, data, axis=TURNS[order]) if order in TURNS else None


TURNS = {(0, 2, 3, 1): -1, (0, 3, 1, 2): 1, (0, 2, 3, 4, 1): -1, (0, 4, 1, 2, 3): 1}
"""Permutations by where the channels come to lie."""


QUANTISED = (
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QGemm"),
    *("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits", "QAttention", "NhwcMaxPool"),
)
"""Operators of quantised files (onnx/docs/Operators.md; onnxruntime/docs/ContribOperators.md), beside QLinear...."""

READERS: Mapping[str, Reader] = {
    **dict.fromkeys(PLAIN, _plain),
    **dict.fromkeys(("Softmax", "LogSoftmax", "ArgMax", "TopK"), _end),
    **dict.fromkeys(("Gather", "Slice"), _flip),
    "Clip": _clip,
    "Neg": _negative,
    "Concat": _concat,
    **dict.fromkeys(("Expand", "Tile"), _repeat),
    "Dropout": _dropout,
    "Cast": _cast,
    "CastLike": _cast,
    "Conv": _conv,
    "BatchNormalization": _norm,
    "MaxPool": _pool,
    "AveragePool": _pool,
    **dict.fromkeys(("ReduceMean", "ReduceMax"), _reduce),
    "Pad": _pad,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Transpose": _turn,
}
"""Nodes by operator; a reader returns None where the node does something a DenseNet does not."""
