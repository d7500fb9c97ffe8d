"""A frozen TensorFlow graph (``.pb``): a GraphDef whose variables have become Const nodes.

tensorflow/core/framework/graph.proto, node_def.proto, attr_value.proto.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import UnreadableFile
from converter.formats.messages import messages, number, text
from converter.formats.protobuf import fields, mapped
from converter.formats.tensorflow.protos import shape_of, tensor_of

NAME = "TensorFlow frozen graph"
HEAD = re.compile(rb"\x0a[\x80-\xff]{0,4}[\x00-\x7f]\x0a.([A-Za-z0-9.][\w.\\/>-]*)\x12.([A-Z]\w*)", re.DOTALL)
"""A node {1: name, 2: operator}, and so the beginning of a graph."""


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins with a node that has a name and an operator, of the lengths they say."""
    found = HEAD.match(head)
    return found is not None and all(len(found[group]) >= head[found.start(group) - 1] > 0 for group in (1, 2))


def open_graph(path: Path) -> Checkpoint:
    """Open a frozen graph: its constants that can be weights, by the names of their nodes.

    Constants without dimensions or of integers are arguments of operators.

    Raises:
        UnreadableFile: damaged or truncated.
    """
    tensors: dict[str, Tensor] = {}
    eps: set[float] = set()
    try:
        for node in messages(mapped(path), 1):
            kind = text(node, 2)
            if kind == "Const":
                name, tensor = text(node, 1), _value(node)
                if tensor is not None and tensor.shape and tensor.dtype.kind in "fV":
                    tensors[name] = tensor
            elif kind.startswith("FusedBatchNorm"):
                eps |= {_float(value) for value in _attributes(node, "epsilon")}
    except UnreadableFile as error:
        raise UnreadableFile(f"{path}: not a TensorFlow graph ({error})") from error
    if len(eps) > 1:
        raise UnreadableFile(f"{path}: its batch norms have different eps: {', '.join(map(str, sorted(eps)))}")
    return Checkpoint(path, NAME, tensors, {}, (path,), settings={"eps": eps.pop()} if eps else {})


def _attributes(node: memoryview, name: str) -> list[memoryview]:
    """Attributes of that name: NodeDef {5: attr {1: key, 2: value}}."""
    return [value for attr in messages(node, 5) if text(attr, 1) == name for value in messages(attr, 2)]


def _value(node: memoryview) -> Tensor | None:
    """AttrValue {8: tensor {1: dtype, 2: shape}}."""
    for attribute in _attributes(node, "value"):
        for message in messages(attribute, 8):
            shape = next((shape_of(m) for m in messages(message, 2)), ())
            return tensor_of(message, shape, number(message, 1))
    return None


def _float(value: memoryview) -> float:
    """AttrValue {4: f}, as the shortest number that is that float32."""
    found: list[Any] = [v for n, _, v in fields(value) if n == 4 and isinstance(v, memoryview) and len(v) == 4]
    return float(str(np.float32(struct.unpack("<f", found[0])[0]))) if found else 0.0
