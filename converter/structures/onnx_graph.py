"""ONNX graphs (onnx/docs/Operators.md), whoever exported, folded or optimised them.

Names are no guide: torch's dynamo exporter keeps torchvision's on weights into which a
norm was folded.  Each node becomes an operator of ``wiring.py``, which follows them
from the image on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.parts import Structure
from converter.structures.wiring import Kind, Op, Weight, Window, read_wiring
from densenet.config import NORM_TENSORS

Array = np.ndarray[Any, Any]
Node = Mapping[str, Any]

NAME = "onnx"
OWN_CONFIG = "densenet.config"
OWN_INPUT = "pixel_values"
"""Where the network begins in our own files that take images and preprocess them (converter/exporters/graph.py)."""

SMALL = 1 << 16
"""Constants of up to so many values are computed with; of larger ones only the shape or type is changed."""
MAX_FILL = 1 << 28
"""Values that ConstantOfShape and Expand may make in one file: they cost it nothing."""

DOMAINS = ("", "ai.onnx", "com.microsoft")
CASTS: Mapping[int, Any] = {
    1: np.float32,
    10: np.float16,
    11: np.float64,
    16: ml_dtypes.bfloat16,
    6: np.int32,
    7: np.int64,
}
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
    "Softmax": "end",
    "LogSoftmax": "end",
    "Sigmoid": "end",
    "ArgMax": "end",
    "TopK": "end",
}
"""Nodes that need no look at their attributes (those of Concat and of shapes are looked at all the same)."""


def read_onnx(checkpoint: Checkpoint) -> Structure | None:
    """The network of an ONNX file; None for a checkpoint of another kind.

    Raises:
        NotADenseNet: it computes something else; names the node.
    """
    if checkpoint.format != NAME:
        return None
    try:
        structure = _Graph(checkpoint).structure()
        _agree(structure.settings, checkpoint.metadata.get(OWN_CONFIG, ""))
    except NotADenseNet as error:
        raise NotADenseNet(f"{checkpoint.path}: {error}") from error
    return structure


def _agree(settings: Mapping[str, Any], own: str) -> None:
    """In a file of ours the config must say what the graph does: somebody may have changed the graph since."""
    try:
        config = json.loads(own or "{}")
    except (ValueError, RecursionError) as error:
        raise NotADenseNet(f"its {OWN_CONFIG} metadata is damaged") from error
    for name, value in settings.items():
        if isinstance(config, dict) and config.get(name, value) != value:
            raise NotADenseNet(f"the graph has {name} {value}, its {OWN_CONFIG} metadata says {config[name]}")


class _Graph:
    """Nodes sorted into constants, which are computed, and operators."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        tree = checkpoint.tree
        self.tree = tree
        self.constants = {
            name: Weight(name, tensor, (name,)) for name, tensor in tree["initializers"].items() if tensor is not None
        }
        self.own = OWN_CONFIG in checkpoint.metadata
        self.shapes: set[str] = set()  # what only says how large something is
        self.ops: list[Op] = []
        self.filled = 0

    def structure(self) -> Structure:
        tree = self.tree
        inputs = {name: shape for name, shape in tree["inputs"].items() if name not in tree["initializers"]}
        if len(inputs) != 1:
            raise NotADenseNet(f"a graph with {len(inputs)} inputs; a DenseNet has one, the image")
        start, shape = next(iter(inputs.items()))
        for node in tree["nodes"]:
            try:
                with np.errstate(all="ignore"):  # a damaged constant may hold anything
                    self.add(node)
            except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, MemoryError) as error:
                raise NotADenseNet(f"{_name(node)} has attributes or constants that cannot be ({error})") from error
        if self.own and any(op.y == OWN_INPUT for op in self.ops):
            start, shape = OWN_INPUT, None
        size = tuple(n for n in (shape or [])[2:] if n is not None)
        if not shape or len(size) != len(shape) - 2:
            size = ()
        return read_wiring(NAME, self.ops, start, tree["outputs"], size=size, constants=tree["initializers"])

    def add(self, node: Node) -> None:
        inputs, outputs = node["inputs"], node["outputs"]
        given = [name for name in inputs if name]
        if node["op"] in ("Shape", "CastLike"):  # whose result is no feature map, whatever they take
            given = [name for name in given[:1] if node["op"] == "CastLike"]
        if not outputs:
            return
        if all(name in self.shapes or name in self.constants for name in given):
            self.constant(node)
        else:
            self.ops.append(self.op(node))

    # -- constants -----------------------------------------------------------------

    def constant(self, node: Node) -> None:
        """What a node makes of constants, if it is simple; else a value that only shapes may depend on."""
        name = node["outputs"][0]
        inputs = node["inputs"][:1] if node["op"] == "CastLike" else node["inputs"]
        weights = [self.constants.get(x) for x in inputs if x]
        known = [weight for weight in weights if weight is not None]
        tensor = None
        if len(known) == len(weights) and node["domain"] in DOMAINS:
            tensor = self.evaluated(node, [weight.tensor for weight in known])
        if tensor is None:
            self.shapes.update(node["outputs"])
            return
        key = known[0].key if known and known[0].tensor is tensor else name
        self.constants[name] = Weight(key, tensor, tuple(source for weight in known for source in weight.sources))

    def evaluated(self, node: Node, tensors: list[Tensor]) -> Tensor | None:
        op, attributes = node["op"], node["attributes"]
        if op in ("Identity", "CastLike") and tensors:
            return tensors[0]
        if op == "Constant":
            return _constant(attributes)
        if op in ("ConstantOfShape", "Expand"):
            return self.fill(op, attributes, tensors)
        if op == "Shape":
            full = np.array(tensors[0].shape, np.int64) if tensors else None
            return None if full is None else Tensor.of(full[attributes.get("start", 0) : attributes.get("end")])
        if op == "Cast":
            dtype = CASTS.get(attributes.get("to", 0))
            return None if dtype is None else _lazily(tensors[0], lambda array: array.astype(dtype, copy=False))
        if op in VIEWS:
            values = tensors[1].read().reshape(-1).tolist() if len(tensors) > 1 else None
            change = VIEWS[op]
            return _lazily(tensors[0], lambda array: change(array, attributes, values))
        if op in ARITHMETIC and all(prod(tensor.shape) <= SMALL for tensor in tensors):
            return Tensor.of(np.asarray(ARITHMETIC[op](attributes, *(tensor.read() for tensor in tensors))))
        return None

    def fill(self, op: str, attributes: Mapping[str, Any], tensors: list[Tensor]) -> Tensor | None:
        """The same value many times; nothing is allocated until it is used."""
        if op == "Expand":
            value, shape = tensors[0], np.broadcast_shapes(tensors[0].shape, tuple(_ints(tensors[1])))
        else:
            value, shape = attributes.get("value") or Tensor.of(np.zeros(1, np.float32)), tuple(_ints(tensors[0]))
            value = Tensor((), value.dtype, value.read().reshape(()).copy)
        self.filled += prod(shape)
        if min(shape, default=0) < 0 or self.filled > MAX_FILL:
            raise ValueError(f"shape {list(shape)} is malformed or too large")
        return Tensor(shape, value.dtype, lambda: np.broadcast_to(value.read(), shape))

    # -- operators -----------------------------------------------------------------

    def op(self, node: Node) -> Op:
        """A node as an operator of ``wiring.py``; one that it does not know is of kind ``other``."""
        read = READERS.get(node["op"]) if node["domain"] in DOMAINS else None
        if node["domain"] == "com.microsoft.nchwc":
            raise NotADenseNet(
                f"{_name(node)}: optimised for one processor, its weights are in blocks; "
                "use the model it was made from, or optimise it with ORT_ENABLE_EXTENDED at most"
            )
        if node["domain"] not in DOMAINS and self.tree["functions"]:
            raise NotADenseNet(f"{_name(node)} is a function of the model itself; inline those first (onnx.inliner)")
        data = tuple(name for name in node["inputs"] if name and name not in self.constants and name not in self.shapes)
        if read is not None:
            found = read(self, node, data)
            if found is not None:
                return found
        return _op("other", node, data)

    def weight(self, node: Node, i: int) -> Weight | None:
        """The constant a node takes as its input ``i``; None if it takes none there.

        Raises:
            NotADenseNet: it takes a value that is no plain constant.
        """
        name = node["inputs"][i] if i < len(node["inputs"]) else ""
        if not name:
            return None
        if name not in self.constants:
            raise NotADenseNet(f"{_name(node)}: its input {name} is no constant of a type that can be read")
        return self.constants[name]

    def ints(self, node: Node, attribute: str, i: int) -> list[int] | None:
        """Integers that newer operators take as an input, older ones as an attribute."""
        if attribute in node["attributes"]:
            return [int(n) for n in node["attributes"][attribute]]
        weight = self.weight(node, i)
        return None if weight is None else _ints(weight.tensor)


def _name(node: Node) -> str:
    name = node["name"] or (node["outputs"] or [""])[0]
    domain = "" if node["domain"] in DOMAINS else f"{node['domain']}."
    return f"{domain}{node['op']} {name}"


def _op(kind: Kind, node: Node, data: tuple[str, ...], **more: Any) -> Op:
    return Op(kind, data, node["outputs"][0], _name(node), **more)


def _ints(tensor: Tensor) -> list[int]:
    if prod(tensor.shape) > SMALL or tensor.dtype.kind not in "iu":
        raise NotADenseNet("a shape or axis that is no list of integers")
    return [int(n) for n in tensor.read().reshape(-1)]


# -- constants: functions on arrays ----------------------------------------------------------


def _lazily(tensor: Tensor, change: Callable[[Array], Array]) -> Tensor:
    """A tensor in another shape or type; the shape is found on a stand-in that takes no memory."""
    like = change(np.broadcast_to(np.zeros((), tensor.dtype), tensor.shape))
    return Tensor(like.shape, like.dtype, lambda: change(tensor.read()))


def _constant(attributes: Mapping[str, Any]) -> Tensor | None:
    """The value of a Constant node: a tensor, or numbers."""
    if isinstance(attributes.get("value"), Tensor):
        tensor: Tensor = attributes["value"]
        return tensor
    for name, dtype in (("value_float", "f4"), ("value_floats", "f4"), ("value_int", "i8"), ("value_ints", "i8")):
        if attributes.get(name) is not None:
            return Tensor.of(np.array(attributes[name], dtype))
    return None


def _transpose(array: Array, attributes: Mapping[str, Any], _: list[int] | None) -> Array:
    return array.transpose(attributes.get("perm"))


def _reshape(array: Array, _: Mapping[str, Any], shape: list[int] | None) -> Array:
    return array.reshape([array.shape[i] if n == 0 else n for i, n in enumerate(shape or [])])


def _unsqueeze(array: Array, attributes: Mapping[str, Any], axes: list[int] | None) -> Array:
    return np.expand_dims(array, tuple(axes or attributes.get("axes", ())))


def _squeeze(array: Array, attributes: Mapping[str, Any], axes: list[int] | None) -> Array:
    chosen = axes or attributes.get("axes")
    return np.squeeze(array, tuple(chosen) if chosen else None)


def _flatten(array: Array, attributes: Mapping[str, Any], _: list[int] | None) -> Array:
    axis = attributes.get("axis", 1)
    return array.reshape(prod(array.shape[:axis]), -1)


def _slice(_: Mapping[str, Any], array: Array, *given: Array) -> Array:
    start, end, *rest = (a.tolist() for a in given)
    axes = rest[0] if rest else range(len(start))
    steps = rest[1] if len(rest) > 1 else [1] * len(start)
    index = [slice(None)] * array.ndim
    for axis, first, last, step in zip(axes, start, end, steps):
        index[axis] = slice(first, last, step)
    return array[tuple(index)]


VIEWS: Mapping[str, Callable[[Array, Mapping[str, Any], list[int] | None], Array]] = {
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Flatten": _flatten,
}

ARITHMETIC: Mapping[str, Callable[..., Array]] = {
    "Add": lambda _, a, b: a + b,
    "Sub": lambda _, a, b: a - b,
    "Mul": lambda _, a, b: a * b,
    "Div": lambda _, a, b: a / b if a.dtype.kind == "f" else a // b,
    "Pow": lambda _, a, b: a**b,
    "Neg": lambda _, a: -a,
    "Sqrt": lambda _, a: np.sqrt(a),
    "Reciprocal": lambda _, a: 1 / a,
    "Concat": lambda attributes, *arrays: np.concatenate(arrays, attributes["axis"]),
    "Gather": lambda attributes, a, i: np.take(a, i, attributes.get("axis", 0)),
    "Slice": _slice,
}


# -- nodes to operators ----------------------------------------------------------------------

Reader = Callable[[_Graph, Node, tuple[str, ...]], Op | None]


def _plain(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
    return _op(PLAIN[node["op"]], node, data if node["op"] == "Concat" else data[:1])


def _concat(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
    whole = len(data) == len(node["inputs"])  # nothing constant among them
    return _op("concat", node, data) if whole and node["attributes"].get("axis") in (1, -3) else None


def _dropout(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op:
    training = graph.constants.get("".join(node["inputs"][2:3]))
    if training is not None and training.tensor.read().any():
        raise NotADenseNet(f"{_name(node)}: drops features; call model.eval() before exporting")
    return _op("skip", node, data[:1])


def _cast(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
    return _op("skip", node, data) if node["op"] == "CastLike" or node["attributes"].get("to") in FLOATS else None


def _window(graph: _Graph, node: Node, dims: int, kernel: list[int] | None = None) -> Window | None:
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


def _conv(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
    weight, bias = graph.weight(node, 1), graph.weight(node, 2)
    if weight is None or len(data) != 1 or len(weight.tensor.shape) < 3:
        return None
    shape = weight.tensor.shape
    window = _window(graph, node, len(shape) - 2, list(shape[2:]))
    weights = {"weight": weight, **({"bias": bias} if bias else {})}
    return _op("conv", node, data, weights=weights, window=window) if window else None


def _norm(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
    weights = {leaf: graph.weight(node, i) for i, leaf in enumerate(NORM_TENSORS, 1)}
    found = {leaf: weight for leaf, weight in weights.items() if weight is not None and len(weight.tensor.shape) == 1}
    if len(found) < 4 or len(data) != 1:
        return None
    if node["attributes"].get("training_mode"):
        raise NotADenseNet(f"{_name(node)}: exported in training mode; call model.eval() before exporting")
    # The file has a float32; what was meant is the shortest number that is stored so.
    eps = float(str(np.float32(node["attributes"].get("epsilon", 1e-5))))
    return _op("norm", node, data, weights=found, eps=eps)


def _pool(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
    kernel = node["attributes"].get("kernel_shape") or []
    window = _window(graph, node, len(kernel))
    kind: Kind = "max_pool" if node["op"] == "MaxPool" else "avg_pool"
    return _op(kind, node, data, window=window) if window else None


def _reduce(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
    """A mean or maximum over all positions is global pooling."""
    axes = graph.ints(node, "axes", 1) or []
    kind: Kind = "global_avg" if node["op"] == "ReduceMean" else "global_max"
    known = ({2, 3}, {-1, -2}, {2, -1}, {-2, 3}, {2, 3, 4}, {-1, -2, -3})
    return _op(kind, node, data) if set(axes) in known else None


def _pad(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
    pads, value = graph.ints(node, "pads", 1), graph.weight(node, 2)
    constant = node["attributes"].get("value", 0.0) if value is None else value.tensor.read().reshape(-1)[0]
    mode = node["attributes"].get("mode", "constant")
    if not pads or len(pads) % 2 or len(node["inputs"]) > 3 or mode not in ("constant", "reflect"):
        return None
    half = len(pads) // 2
    begin, end = pads[:half], pads[half:]
    if any((*begin[:2], *end[:2])) or min(pads) < 0 or (mode == "constant" and constant != 0):
        return None
    window = Window((), (), tuple(begin[2:]), tuple(end[2:]))
    return _op("pad" if mode == "constant" else "reflect", node, data, window=window)


def _arithmetic(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
    """A constant per channel added or multiplied; or two values added."""
    if len(data) == 2:
        return _op("add", node, data) if node["op"] == "Add" else None
    at = 1 if node["inputs"][0] == data[0] else 0
    constant = graph.weight(node, at)
    if constant is None or (at == 0 and node["op"] in ("Sub", "Div")):
        return None
    shape = constant.tensor.shape
    size = prod(shape)
    if size > SMALL or (shape and size != max(shape)):
        return None
    per_channel = size == 1 or (len(shape) > 2 and shape[-1] == shape[-2] == 1)  # (C, 1, 1), (1, C, 1, 1), a number
    if not per_channel and shape[-1] != size:
        return None
    tensor = constant.tensor
    if node["op"] in ("Sub", "Div"):
        values = tensor.read().astype(np.float64)
        tensor = Tensor.of((-values if node["op"] == "Sub" else 1 / values).astype(np.float32))
    weight = Weight(
        f"{constant.key} ({node['outputs'][0]})" if tensor is not constant.tensor else constant.key,
        Tensor((size,), tensor.dtype, lambda: tensor.read().reshape(-1)),
        constant.sources,
    )
    leaf = "bias" if node["op"] in ("Add", "Sub") else "weight"
    return _op("affine" if per_channel else "row", node, data, weights={leaf: weight})


def _gemm(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
    attributes, weight, bias = node["attributes"], graph.weight(node, 1), graph.weight(node, 2)
    ones = {attributes.get("alpha", 1.0), attributes.get("beta", 1.0)}
    if weight is None or len(weight.tensor.shape) != 2 or ones != {1.0} or attributes.get("transA"):
        return None
    return _linear(node, data, weight, bias, transposed=not attributes.get("transB"))


def _matmul(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
    weight = graph.weight(node, 1)
    if weight is None or len(weight.tensor.shape) != 2:
        return None
    return _linear(node, data, weight, None, transposed=True)


def _linear(node: Node, data: tuple[str, ...], weight: Weight, bias: Weight | None, *, transposed: bool) -> Op:
    if transposed:
        weight = Weight(f"{weight.key} ({node['outputs'][0]})", _lazily(weight.tensor, np.transpose), weight.sources)
    return _op("linear", node, data, weights={"weight": weight, **({"bias": bias} if bias else {})})


def _fused(read: Reader) -> Reader:
    """ONNX Runtime's fused operators: the plain one, and an activation that may be ReLU."""

    def fused(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
        if node["attributes"].get("activation", "Relu") != "Relu":
            return None
        op = read(graph, node, data)
        if op is None:
            return None
        inner = f"{op.y} before its activation"
        graph.ops.append(Op(op.kind, op.x, inner, op.name, op.weights, op.window, op.eps))
        return Op("relu", (inner,), op.y, op.name)

    return fused


def _turn(graph: _Graph, node: Node, data: tuple[str, ...]) -> Op | None:
    """Positions last, or first again: behind global pooling there is one, and only the shape changes."""
    return _op("flatten", node, data) if node["attributes"].get("perm") in ([0, 2, 3, 1], [0, 3, 1, 2]) else None


READERS: Mapping[str, Reader] = {
    **dict.fromkeys(PLAIN, _plain),
    "Concat": _concat,
    "Dropout": _dropout,
    "Cast": _cast,
    "CastLike": _cast,
    "Conv": _conv,
    "FusedConv": _fused(_conv),
    "BatchNormalization": _norm,
    "MaxPool": _pool,
    "AveragePool": _pool,
    **dict.fromkeys(("ReduceMean", "ReduceMax"), _reduce),
    "Pad": _pad,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    "Gemm": _gemm,
    "FusedGemm": _fused(_gemm),
    "MatMul": _matmul,
    "Transpose": _turn,
}
"""Nodes by operator; a reader returns None where the node does something a DenseNet does not."""
