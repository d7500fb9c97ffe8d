"""ONNX Runtime's own form of an ONNX model, ``.ort`` (onnxruntime/core/flatbuffers/schema/ort.fbs).

It is the same graph in a FlatBuffer, and is handed on as ``onnx_file.py`` hands on an ONNX model.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import UnreadableFile
from converter.formats.damage import damaged, naming
from converter.formats.flatbuffer import Buffer, Table
from converter.formats.onnx_file import DTYPES

NAME = "ONNX Runtime"
MAGIC = b"ORTM"
VALUE = 1
"""DimensionValueType of a size that is fixed."""


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file is such a model, by its identifier."""
    return head[4:8] == MAGIC


def open_ort(path: Path) -> Checkpoint:
    """Open a model; the tree is that of an ONNX model, which has no functions here.

    Raises:
        UnreadableFile: malformed, truncated, or its weights are in another file.
    """
    with naming(path), damaged("damaged, no model of ONNX Runtime", ValueError, why=str):
        session = Buffer(path).root()
        model = session.table(1)
        graph = model.table(7) if model is not None else None
        if model is None or graph is None:
            raise UnreadableFile("no model of ONNX Runtime, it has no graph")
        opsets = {each.text(0): each.number(1, "<q") for each in model.tables(1)}
        metadata = {each.text(0): each.text(1) for each in model.tables(9)}
        tree = {**_graph(graph), "functions": [], "opset": opsets.get("", opsets.get("ai.onnx", 0)), "loop": ""}
    return Checkpoint(path, NAME, tree, metadata, (path,))


def _graph(graph: Table) -> dict[str, Any]:
    """Graph {0: initializers, 1: node_args, 2: nodes, 5: inputs, 6: outputs, 7: sparse_initializers}."""
    if graph.has(7):
        raise UnreadableFile("has weights whose zeros are left out, which are not read")
    shapes = {each.text(0): _shape(each) for each in graph.tables(1)}
    initializers = dict(_tensor(each) for each in graph.tables(0))
    if len(initializers) > bounds.ARRAYS:
        raise UnreadableFile(f"more than {bounds.ARRAYS} constants")
    return {
        "nodes": [_node(each) for each in graph.tables(2)],
        "initializers": initializers,
        "inputs": {name: shapes.get(name) for name in graph.texts(5)},
        "outputs": graph.texts(6),
    }


def _shape(argument: Table) -> list[int | None] | None:
    """ValueInfo {2: type {2: value {1: shape {0: dim {0: value {0: dim_type, 1: dim_value}}}}}}."""
    type_of = argument.table(2)
    tensor = type_of.table(2) if type_of is not None else None
    shape = tensor.table(1) if tensor is not None else None
    if shape is None:
        return None
    sizes = [dim.table(0) for dim in shape.tables(0)]
    return [
        None if size is None or size.number(0, "<b") != VALUE else int(size.number(1, "<q")) or None for size in sizes
    ]


def _node(node: Table) -> dict[str, Any]:
    """Node {0: name, 2: domain, 5: op_type, 8: inputs, 9: outputs, 10: attributes}."""
    return {
        "op": node.text(5),
        "domain": node.text(2),
        "name": node.text(0),
        "inputs": node.texts(8),
        "outputs": node.texts(9),
        "attributes": dict(_attribute(each) for each in node.tables(10)),
        "references": {},
    }


def _attribute(found: Table) -> tuple[str, Any]:
    """Attribute {0: name, 2: type, 3: f, 4: i, 5: s, 6: t, 8: floats, 9: ints, 10: strings}; None for a subgraph."""
    value: Any = None
    match found.number(2):  # AttributeType
        case 1:
            value = found.number(3, "<f", 0.0)
        case 2:
            value = found.number(4, "<q")
        case 3:
            value = found.text(5)
        case 4:
            tensor = found.table(6)
            value = None if tensor is None else _tensor(tensor)[1]
        case 6:
            value = found.numbers(8, "<f4")
        case 7:
            value = found.numbers(9, "<i8")
        case 8:
            value = found.texts(10)
    return found.text(0), value


def _tensor(found: Table) -> tuple[str, Tensor | None]:
    """Tensor {0: name, 2: dims, 3: data_type, 4: raw_data, 6: external_data_offset}; None for what is no number."""
    name, shape, kind = found.text(0), found.numbers(2, "<i8"), DTYPES.get(found.number(3))
    if found.number(6, "<q", -1) >= 0:
        raise UnreadableFile(f"{name} is in another file, which is not read; convert the .onnx it was made from")
    if kind is None:
        return name, None
    raw = found.raw(4)
    if len(shape) > bounds.DIMENSIONS or min(shape, default=0) < 0 or prod(shape) * kind.itemsize != len(raw):
        raise UnreadableFile(f"{name} of shape {shape[:8]} has {len(raw)} bytes of {kind}")
    return name, Tensor.over(raw.data, kind, shape)
