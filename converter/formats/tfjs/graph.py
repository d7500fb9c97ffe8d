"""A TensorFlow graph as TensorFlow.js has it: GraphDef in JSON, whose constants lie among the weights.

Protocol Buffers' JSON mapping of tensorflow/core/framework/node_def.proto and attr_value.proto; text is in base64, or
a list of bytes (tfjs-converter/src/operations/operation_mapper.ts, parseStringParam).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Tensor
from converter.core.errors import UnreadableFile
from converter.formats.settings import as_written
from converter.formats.tensorflow.graph import Graph, Signature

Shape = tuple[int | None, ...] | None

TYPES = {
    f"DT_{name.upper()}": number
    for number, name in enumerate(
        "float double int32 uint8 int16 int8 string complex64 int64 bool qint8 quint8 qint32 bfloat16 qint16 quint16 "
        "uint16 complex128 half resource variant uint32 uint64".split(),
        1,
    )
}
"""types.proto, DataType."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node; its attributes are as JSON has them."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Mapping[str, Any]]
    value: Tensor | None = None

    def _attribute(self, name: str, kind: str) -> Any:
        return self.attributes.get(name, {}).get(kind)

    def as_op(self, op: str) -> Node:
        """The node with another operator."""
        return replace(self, op=op)

    def number(self, name: str, default: int = 0) -> int:
        """An integer, a truth value (0 or 1) or a type's code."""
        found = next((v for k in ("i", "b", "type") if (v := self._attribute(name, k)) is not None), default)
        return TYPES[found] if found in TYPES else int(found)

    def real(self, name: str, default: float) -> float:
        """A float32, as it was written."""
        found = self._attribute(name, "f")
        return default if found is None else as_written(float(found))

    def text(self, name: str, default: str = "") -> str:
        """Text."""
        found = self._attribute(name, "s")
        return default if found is None else _text(found)

    def ints(self, name: str) -> list[int]:
        """A list of integers; empty if it is absent."""
        return [int(value) for value in (self._attribute(name, "list") or {}).get("i", [])]

    def strings(self, name: str) -> list[str]:
        """A list of texts; empty if it is absent."""
        return [_text(value) for value in (self._attribute(name, "list") or {}).get("s", [])]

    def shape(self, name: str) -> Shape:
        """A shape, unknown sizes as None; None if nothing is known."""
        return _shape(self._attribute(name, "shape"))

    def tensor(self, name: str) -> Tensor | None:
        """The tensor of a constant.

        Raises:
            UnreadableFile: it is not among the weights.
        """
        if name == "value" and self.value is None and self.op == "Const":
            raise UnreadableFile(f"{self.name} is a constant that is not among the weights")
        return self.value if name == "value" else None

    def texts(self, _name: str) -> list[str]:
        """A tensor of texts, which this format has for no network."""
        return []

    def function(self, name: str) -> str:
        """The name of a function."""
        return str((self._attribute(name, "func") or {}).get("name", ""))


@dataclass(frozen=True)
class JsonGraph(Graph):
    """A graph whose functions, which only control flow has, are not read."""

    nodes: Mapping[str, Node] = field(default_factory=dict)  # type: ignore[assignment]


def graph_of(values: Mapping[str, Any], topology: Mapping[str, Any], weights: Mapping[str, Tensor]) -> JsonGraph:
    """The graph of a ``model.json``; what is damaged raises what ``damage.MALFORMED`` lists.

    Args:
        values: all of it.
        topology: its ``modelTopology``.
        weights: the constants by the names of their nodes.

    Raises:
        UnreadableFile: it has more nodes than any network.
    """
    if len(topology["node"]) > bounds.STEPS:
        raise UnreadableFile(f"more than {bounds.STEPS} nodes; no DenseNet has so many")
    nodes = [
        Node(
            str(node["name"]),
            str(node["op"]),
            tuple(map(str, node.get("input", ()))),
            dict(node.get("attr", {})),
            weights.get(node["name"]),
        )
        for node in topology["node"]
    ]
    said = values.get("signature") or (values.get("userDefinedMetadata") or {}).get("signature") or {}
    signature = _signature(said) if said.get("inputs") and said.get("outputs") else None
    return JsonGraph(
        {node.name: node for node in nodes}, signatures={"serving_default": signature} if signature else {}
    )


def _signature(said: Mapping[str, Any]) -> Signature:
    inputs, outputs = (
        {key: str(info.get("name", key)) for key, info in said[side].items()} for side in ("inputs", "outputs")
    )
    return Signature(inputs, outputs, {key: _shape(info.get("tensorShape")) for key, info in said["inputs"].items()})


def _shape(value: Any) -> Shape:
    """TensorShapeProto; a size of -1 is unknown, one that is left out is 0, which nothing has."""
    if value is None or value.get("unknownRank"):
        return None
    sizes = [int(dim.get("size", 0)) for dim in value.get("dim", ())]
    return tuple(size if size >= 0 else None for size in sizes)


def _text(value: Any) -> str:
    raw = bytes(value) if isinstance(value, list) else base64.b64decode(value)
    return raw.decode("utf-8", "replace")
