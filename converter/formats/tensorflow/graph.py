"""TensorFlow's graphs: frozen ones (``.pb``, variables have become Const nodes), and those of SavedModels.

tensorflow/core/framework/graph.proto, node_def.proto, attr_value.proto, function.proto;
tensorflow/core/protobuf/saved_model.proto, meta_graph.proto.  Functions are parsed when
they are called: a SavedModel of Keras has several for every layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import UnreadableFile
from converter.core.mapping import content
from converter.formats.damage import damaged, naming
from converter.formats.protobuf import fields, mapped, message, messages, number, numbers, real, signed, string, text
from converter.formats.settings import one_eps
from converter.formats.tensorflow.protos import shape_of, tensor_of

NAME = "TensorFlow frozen graph"
HEAD = re.compile(rb"\x0a[\x80-\xff]{0,4}[\x00-\x7f]\x0a.([A-Za-z0-9.][\w.\\/>-]*)\x12.([A-Z]\w*)", re.DOTALL)
"""A node {1: name, 2: operator}, and so the beginning of a graph."""

SERVE = b"serve"
"""The tag of the graph that is served (tensorflow/python/saved_model/tag_constants.py)."""


@dataclass(frozen=True, slots=True)
class Node:
    """NodeDef {1: name, 2: op, 3: input, 5: attr {1: key, 2: value}}; an attribute is parsed when it is asked for."""

    name: str
    op: str
    inputs: tuple[str, ...]
    message: memoryview
    _attributes: dict[str, memoryview] = field(default_factory=dict)

    def _attribute(self, name: str) -> memoryview | None:
        """AttrValue {1: list, 2: s, 3: i, 4: f, 5: b, 6: type, 7: shape, 8: tensor, 10: func}."""
        if not self._attributes:
            self._attributes[""] = memoryview(b"")  # looked at
            self._attributes.update((text(attr, 1), message(attr, 2)) for attr in messages(self.message, 5))
        return self._attributes.get(name)

    def as_op(self, op: str) -> Node:
        """The node with another operator."""
        return replace(self, op=op)

    def number(self, name: str, default: int = 0) -> int:
        """An integer, a truth value (0 or 1) or a type's code."""
        value = self._attribute(name)
        found = (signed(v) for n, _, v in fields(value or memoryview(b"")) if n in (3, 5, 6) and isinstance(v, int))
        return next(found, default)

    def real(self, name: str, default: float) -> float:
        """A float32, as it was written."""
        value = self._attribute(name)
        found = None if value is None else real(value, 4)
        return default if found is None else found

    def text(self, name: str, default: str = "") -> str:
        """Text."""
        value = self._attribute(name)
        return default if value is None else text(value, 2)

    def ints(self, name: str) -> list[int]:
        """A list of integers; empty if it is absent.  ListValue {3: i}."""
        value = self._attribute(name)
        values = message(value or memoryview(b""), 1)
        return [signed(n) for code, _, packed in fields(values) if code == 3 for n in numbers(packed)]

    def strings(self, name: str) -> list[str]:
        """A list of texts; empty if it is absent.  ListValue {2: s}."""
        values = message(self._attribute(name) or memoryview(b""), 1)
        return [string(value, "replace") for value in messages(values, 2)]

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """A shape, unknown sizes as None; None if nothing is known."""
        value = self._attribute(name)
        return partial_shape(next(messages(value or memoryview(b""), 7), None))

    def tensor(self, name: str) -> Tensor | None:
        """A tensor of numbers.

        Raises:
            UnreadableFile: it has not the values its shape needs.
        """
        for proto in messages(self._attribute(name) or memoryview(b""), 8):
            return tensor_of(proto, shape_of(proto), number(proto, 1))
        return None

    def texts(self, name: str) -> list[str]:
        """A tensor of texts: TensorProto {8: string_val}."""
        proto = message(self._attribute(name) or memoryview(b""), 8)
        return [string(value, "replace") for value in messages(proto, 8)]

    def function(self, name: str) -> str:
        """The name of a function: NameAttrList {1: name}."""
        return text(message(self._attribute(name) or memoryview(b""), 10), 1)


@dataclass(frozen=True)
class Function:
    """FunctionDef {1: signature {2: input_arg {1: name}, 3: output_arg}, 3: node_def, 4: ret}.

    Attributes:
        arguments: their names, in order.
        nodes: by name.
        results: for every output, in order, the value that it is.
    """

    arguments: tuple[str, ...]
    nodes: Mapping[str, Node]
    results: tuple[str, ...]

    @classmethod
    def of(cls, data: memoryview) -> Function:
        """As its message has it."""
        signature = message(data, 1)
        returned = {text(entry, 1): text(entry, 2) for entry in messages(data, 4)}
        results = (text(arg, 1) for arg in messages(signature, 3))
        return cls(
            tuple(text(arg, 1) for arg in messages(signature, 2)),
            {node.name: node for node in map(node_of, messages(data, 3))},
            tuple(returned.get(name, name) for name in results),
        )


@dataclass(frozen=True)
class Signature:
    """What a SavedModel offers to be called: values by what callers call them."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    shapes: Mapping[str, tuple[int | None, ...] | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A graph and what belongs to it.

    Attributes:
        nodes: by name.
        library: functions by name, not parsed yet.
        signatures: of a SavedModel.
        restore: the node that fills the variables from the checkpoint.
        variables: by their keys in the checkpoint: what reports call them, and their values.
        parsed: the functions that were asked for.
    """

    nodes: Mapping[str, Node]
    library: Mapping[str, memoryview] = field(default_factory=dict)
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    restore: str = ""
    variables: Mapping[str, tuple[str, Tensor]] = field(default_factory=dict)
    parsed: dict[str, Function] = field(default_factory=dict)

    def function(self, name: str) -> Function | None:
        """A function by its name, parsed once; None if there is none.

        Raises:
            UnreadableFile: it is damaged.
        """
        if name not in self.parsed and name in self.library:
            self.parsed[name] = Function.of(self.library[name])
        return self.parsed.get(name)


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins with a node that has a name and an operator, of the lengths they say."""
    found = HEAD.match(head)
    return found is not None and all(len(found[group]) >= head[found.start(group) - 1] > 0 for group in (1, 2))


def open_graph(path: Path) -> Checkpoint:
    """Open a frozen graph: what it computes, and its constants that can be weights, by the names of their nodes.

    Constants without dimensions or of integers are arguments of operators.
    """
    tensors: dict[str, Tensor] = {}
    eps: set[float] = set()
    with damaged(f"{path}: not a TensorFlow graph", UnreadableFile, why=str):
        graph = graph_of(mapped(path))
        for node in graph.nodes.values():
            if node.op == "Const":
                tensor = node.tensor("value")
                if tensor is not None and tensor.shape and tensor.dtype.kind in "fV":
                    tensors[node.name] = tensor
                    if len(tensors) > bounds.ARRAYS:
                        raise UnreadableFile(f"more than {bounds.ARRAYS} constants")
            elif node.op.startswith("FusedBatchNorm"):
                eps.add(node.real("epsilon", EPS))
    said = one_eps(eps) if len(eps) == 1 else {}  # with several, what depends on the results decides
    with naming(path):
        return Checkpoint(path, NAME, tensors, {}, (path,), settings=said, graph=graph)


EPS = 1e-4
"""FusedBatchNorm's own default (tensorflow/core/ops/nn_ops.cc)."""


def saved_model(path: Path) -> Graph:
    """The graph of a ``saved_model.pb`` that is served: SavedModel {2: meta_graphs {1: meta_info_def {4: tags},
    2: graph_def, 3: saver_def {3: restore_op_name}, 5: signature_def}}.

    Raises:
        UnreadableFile: damaged.
    """
    with damaged(f"{path}: not a SavedModel", UnreadableFile, why=str):
        metas = list(messages(mapped(path), 2))
        serving = [meta for meta in metas if SERVE in map(bytes, map(content, messages(message(meta, 1), 4)))]
        meta = next(iter(serving or metas), memoryview(b""))
        signatures = {text(entry, 1): _signature(message(entry, 2)) for entry in messages(meta, 5)}
        graph = graph_of(message(meta, 2))
        restore = text(message(meta, 3), 3).partition(":")[0]
    return Graph(graph.nodes, graph.library, signatures, restore)


def graph_of(data: memoryview) -> Graph:
    """GraphDef {1: node, 2: library {1: function {1: signature {1: name}}}}.

    Raises:
        UnreadableFile: damaged, or it has too many nodes.
    """
    functions = (each for library in messages(data, 2) for each in messages(library, 1))
    nodes: dict[str, Node] = {}
    for i, node in enumerate(map(node_of, messages(data, 1))):
        if i == bounds.NODES:
            raise UnreadableFile(f"more than {bounds.NODES} nodes")
        nodes[node.name] = node
    return Graph(
        nodes,
        {text(message(function, 1), 1): function for function in functions},
    )


def node_of(data: memoryview) -> Node:
    """A node by its message.

    Raises:
        UnreadableFile: a name is not text.
    """
    name = op = ""
    inputs: list[str] = []
    with damaged("malformed protobuf, a name is not text", UnicodeDecodeError):
        for n, _, value in fields(data):
            if isinstance(value, int) or n > 3:
                continue
            if n == 1:
                name = string(value)
            elif n == 2:
                op = string(value)
            else:
                inputs.append(string(value))
    return Node(name, op, tuple(inputs), data)


def partial_shape(proto: memoryview | None) -> tuple[int | None, ...] | None:
    """TensorShapeProto {2: dim {1: size}, 3: unknown_rank}: unknown sizes as None; None if nothing is known."""
    if proto is None or number(proto, 3):
        return None
    return tuple(None if (size := number(dim, 1)) < 0 else size for dim in messages(proto, 2))


def _signature(data: memoryview) -> Signature:
    """SignatureDef {1: inputs, 2: outputs}, each TensorInfo {1: name, 3: tensor_shape}."""
    inputs, outputs = ({text(entry, 1): message(entry, 2) for entry in messages(data, n)} for n in (1, 2))
    return Signature(
        dict(_named(inputs)),
        dict(_named(outputs)),
        {name: partial_shape(next(messages(info, 3), None)) for name, info in inputs.items()},
    )


def _named(infos: Mapping[str, memoryview]) -> Iterator[tuple[str, str]]:
    return ((name, text(info, 1)) for name, info in infos.items())
