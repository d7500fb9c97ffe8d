"""Constants of ONNX graphs: what nodes make of initializers alone is computed, as far as it is simple."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Tensor
from converter.core.dtypes import Types
from converter.core.errors import NotADenseNet
from converter.structures.ops import Weight
from converter.structures.weights import lazily

Node = Mapping[str, Any]

DOMAINS = ("", "ai.onnx", "com.microsoft")
CASTS = Types({1: "float32", 10: "float16", 11: "float64", 16: "bfloat16", 6: "int32", 7: "int64"})

HALF = (np.dtype(np.float16), CASTS[16])
BRANCHES = ("If", "Loop", "Scan")


class Constants:
    """The constants of a graph by name, those that its nodes make included.

    Attributes:
        opset: of the standard operators; 0 if the file does not say.
        image: shape of the graph's input; empty if the file does not say.
        start: name of that input.
        makers: nodes by what they make, as far as they were taken.
    """

    def __init__(self, initializers: Mapping[str, Tensor | None], opset: int) -> None:
        self.opset = opset
        self.image: list[int | None] = []
        self.start = ""
        self.values = {
            name: Weight(name, tensor, (name,)) for name, tensor in initializers.items() if tensor is not None
        }
        self.shapes: set[str] = set()  # what only says how large something is
        self.makers: dict[str, Node] = {}
        self.filled = 0

    def take(self, node: Node) -> bool:
        """Whether a node depends on no feature map; what it makes is a constant then, or only says a size."""
        given = node["inputs"]
        self.makers |= dict.fromkeys(node["outputs"], node)
        if node["op"] in BRANCHES and node["domain"] in DOMAINS:
            return False  # what it takes stands within its branches
        if node["op"] in ("Shape", "CastLike"):  # whose result is no feature map, whatever they take
            given = given[:1] if node["op"] == "CastLike" else []
        if not node["outputs"]:
            return True
        if not all(name in self.shapes or name in self.values for name in given if name):
            return False
        self._add(node)
        return True

    def data(self, node: Node) -> tuple[str, ...]:
        """The inputs of a node that are feature maps."""
        return tuple(name for name in node["inputs"] if name and name not in self.values and name not in self.shapes)

    def weight(self, node: Node, i: int) -> Weight | None:
        """The constant a node takes as its input ``i``; None if it takes none there.

        Raises:
            NotADenseNet: it takes a value that is no plain constant.
        """
        name = node["inputs"][i] if i < len(node["inputs"]) else ""
        if not name:
            return None
        if name in self.shapes:
            raise NotADenseNet(f"{name_of(node)}: its input {name} depends on the images' size, or is not followed")
        if name not in self.values:
            raise NotADenseNet(f"{name_of(node)}: its input {name} is no constant of a type that can be read")
        return self.values[name]

    def kernel(self, node: Node, i: int) -> Weight | None:
        """The same in the type it is stored in, where the graph only makes finer numbers of it.

        Raises:
            NotADenseNet: it takes a value that is no plain constant.
        """
        found = self.weight(node, i)
        cast = self.makers.get(node["inputs"][i]) if found is not None else None
        stored = self.values.get(cast["inputs"][0]) if cast is not None and cast["op"] == "Cast" else None
        if found is None or stored is None:
            return found
        widened = (np.dtype(np.float32), np.dtype(np.float64))
        finer = stored.tensor.dtype in HALF and found.tensor.dtype in widened
        return replace(found, tensor=stored.tensor) if finer else found

    def ints(self, node: Node, attribute: str, i: int) -> list[int] | None:
        """Integers that newer operators take as an input, older ones as an attribute."""
        if attribute in node["attributes"]:
            return [int(n) for n in node["attributes"][attribute]]
        weight = self.weight(node, i)
        return None if weight is None else _ints(weight.tensor)

    def _add(self, node: Node) -> None:
        """What a node makes of constants, if it is simple; else a value that only shapes may depend on."""
        name = node["outputs"][0]
        inputs = node["inputs"][:1] if node["op"] == "CastLike" else node["inputs"]
        weights = [self.values.get(x) for x in inputs if x]
        known = [weight for weight in weights if weight is not None]
        tensor = None
        if len(known) == len(weights) and node["domain"] in DOMAINS:
            tensor = self.evaluated(node, [weight.tensor for weight in known])
        if tensor is None:
            self.shapes.update(node["outputs"])
            return
        key = known[0].key if known and known[0].tensor is tensor else name
        self.values[name] = Weight(key, tensor, tuple(source for weight in known for source in weight.sources))

    def evaluated(self, node: Node, tensors: list[Tensor]) -> Tensor | None:
        """What a node makes of the values that it takes; None if it is not simple."""
        op, attributes = node["op"], node["attributes"]
        if op in ("Identity", "CastLike") and tensors:
            return tensors[0]
        if op == "Constant":
            return _constant(attributes)
        if op in ("ConstantOfShape", "Expand"):
            return self._fill(op, attributes, tensors)
        if op == "Shape":
            full = np.array(tensors[0].shape, np.int64) if tensors else None
            return None if full is None else Tensor.of(full[attributes.get("start", 0) : attributes.get("end")])
        if op == "Cast":
            dtype = CASTS.get(attributes.get("to", 0))
            return None if dtype is None else lazily(tensors[0], lambda array: array.astype(dtype, copy=False))
        if op in VIEWS:
            values = tensors[1].read().reshape(-1).tolist() if len(tensors) > 1 else None
            change = VIEWS[op]
            return lazily(tensors[0], lambda array: change(array, attributes, values))
        if op in ARITHMETIC and all(prod(tensor.shape) <= bounds.COMPUTED for tensor in tensors):
            return Tensor.of(np.asarray(ARITHMETIC[op](attributes, *(tensor.read() for tensor in tensors))))
        return None

    def _fill(self, op: str, attributes: Mapping[str, Any], tensors: list[Tensor]) -> Tensor | None:
        """The same value many times; nothing is allocated until it is used."""
        if op == "Expand":
            value, shape = tensors[0], np.broadcast_shapes(tensors[0].shape, tuple(_ints(tensors[1])))
        else:
            value, shape = attributes.get("value") or Tensor.of(np.zeros(1, np.float32)), tuple(_ints(tensors[0]))
            value = Tensor((), value.dtype, value.read().reshape(()).copy)
        self.filled += prod(shape)
        if min(shape, default=0) < 0 or self.filled > bounds.FILLED:
            raise ValueError(f"shape {list(shape)} is malformed or too large")
        return Tensor(shape, value.dtype, lambda: np.broadcast_to(value.read(), shape))


def name_of(node: Node) -> str:
    """What errors call a node."""
    name = node["name"] or (node["outputs"] or [""])[0]
    domain = "" if node["domain"] in DOMAINS else f"{node['domain']}."
    return f"{node.get('said') or domain + node['op']} {name}"


def _ints(tensor: Tensor) -> list[int]:
    if prod(tensor.shape) > bounds.COMPUTED or tensor.dtype.kind not in "iu":
        raise NotADenseNet("a shape or axis that is no list of integers")
    return [int(n) for n in tensor.read().reshape(-1)]


# -- what nodes compute ---------------------------------------------------------------


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


def _range(_: Mapping[str, Any], start: Array, limit: Array, delta: Array) -> Array:
    first, last, step = (float(each.reshape(-1)[0]) for each in (start, limit, delta))
    if not abs(last - first) <= bounds.COMPUTED * abs(step):
        raise ValueError("a range without end")
    return np.arange(first, last, step).astype(start.dtype)


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
    "Range": _range,
}
