"""A frozen TensorFlow graph (``.pb``): a GraphDef whose variables have become Const nodes.

tensorflow/core/framework/graph.proto, node_def.proto, attr_value.proto.
"""

from __future__ import annotations

import re
from pathlib import Path

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import UnreadableFile
from converter.formats.damage import damaged, naming
from converter.formats.protobuf import mapped, messages, number, real, text
from converter.formats.settings import one_eps
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
    """
    tensors: dict[str, Tensor] = {}
    eps: set[float] = set()
    with damaged(f"{path}: not a TensorFlow graph", UnreadableFile, why=str):
        for node in messages(mapped(path), 1):
            kind = text(node, 2)
            if kind == "Const":
                name, tensor = text(node, 1), _value(node)
                if tensor is not None and tensor.shape and tensor.dtype.kind in "fV":
                    tensors[name] = tensor
            elif kind.startswith("FusedBatchNorm"):
                eps |= {real(value, 4) or 0.0 for value in _attributes(node, "epsilon")}  # AttrValue {4: f}
    with naming(path):
        return Checkpoint(path, NAME, tensors, {}, (path,), settings=one_eps(eps))


def _attributes(node: memoryview, name: str) -> list[memoryview]:
    """Attributes of that name: NodeDef {5: attr {1: key, 2: value}}."""
    return [value for attr in messages(node, 5) if text(attr, 1) == name for value in messages(attr, 2)]


def _value(node: memoryview) -> Tensor | None:
    """AttrValue {8: tensor {1: dtype, 2: shape}}."""
    for attribute in _attributes(node, "value"):
        for proto in messages(attribute, 8):
            return tensor_of(proto, shape_of(proto), number(proto, 1))
    return None
