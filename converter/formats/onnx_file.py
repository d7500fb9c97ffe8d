"""ONNX models (onnx/onnx.proto), read in place: the graph as plain data, its constants as tensors.

Only the protobuf wire format is interpreted; the ``onnx`` package is not needed, weights
are neither parsed nor copied.  External data stays within the model's own folder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint, Tensor
from converter.core.dtypes import numbered
from converter.core.errors import UnreadableFile
from converter.core.mapping import content
from converter.formats.companion import companion
from converter.formats.damage import damaged, naming
from converter.formats.foreign import text_it_is
from converter.formats.protobuf import BYTES, VARINT, as_varint, fields, mapped, numbers, signed, string, weights

NAME = "onnx"

MAX_DEPTH = 16
"""Of graphs within graphs."""
LOOPS = ("Loop", "Scan", "SequenceMap")
"""Operators that repeat a graph, as often as the file says."""

MODEL: dict[int, int] = {1: VARINT, 5: VARINT, **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), BYTES)}
"""Fields of a ModelProto with their wire types."""
TEXTS = (2, 3, 4)
GRAPH = 7

DTYPES = numbered("float32 uint8 int8 uint16 int16 int32 int64 - bool float16 float64 uint32 uint64 - - bfloat16", 1)
"""TensorProto.DataType; text, complex numbers and anything below a byte are no weights."""

RAW, EXTERNAL = 9, 13
FLOATS: dict[int, np.dtype[Any]] = {4: np.dtype("f4"), 10: np.dtype("f8")}
VARINTS = (5, 7, 11)
"""Where a TensorProto keeps its values: raw_data, external_data, float_data and double_data, int*_data."""


def matches(path: Path, head: bytes) -> bool:
    """Whether a file is an ONNX model: the fields of a ModelProto, and a graph among them.

    CoreML models and TensorFlow's saved_model.pb begin with the same byte, but have a
    message where ONNX has the producer's name.
    """
    named = path.suffix.lower() == ".onnx" and not text_it_is(head)
    return (head.startswith(b"\x08") or named) and _has_fields(path, named=named)


def is_certain(path: Path, head: bytes) -> bool:
    """The same by the bytes alone, whatever the name."""
    return head.startswith(b"\x08") and _has_fields(path, named=False)


def _has_fields(path: Path, *, named: bool) -> bool:
    texts = 0
    try:
        for number, wire, value in islice(fields(mapped(path)), 64):
            if MODEL.get(number) != wire:
                return False
            if number in TEXTS:
                if not string(value).isprintable():  # type: ignore[arg-type]
                    return False
                texts += 1
            if number == GRAPH:
                return named or texts > 0 or _first_field(value) in (1, 2, 5, 11)
    except (UnreadableFile, UnicodeDecodeError):
        return named or texts > 0
    return False


def is_onnx(path: Path) -> bool:
    """Whether a path is a file that holds an ONNX model."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        return matches(path, file.read(512))


def open_onnx(path: Path) -> Checkpoint:
    """Open an ONNX model.

    The tree: ``nodes`` (op, domain, name, inputs, outputs, attributes; ``references``, attributes that are a
    function's own) in the file's order, ``initializers`` by name, ``inputs`` (name to shape; None where it is
    dynamic), ``outputs`` (names), ``functions`` of the model itself (domain, name, inputs, outputs, nodes,
    attributes it has defaults for), ``opset`` of the standard operators (0 if it does not say), ``loop`` (the name of a
    node that repeats a graph, wherever it is; empty if there is none).

    Raises:
        UnreadableFile: malformed, truncated, or its external data is missing or too short.
        UnsafeFile: its external data is outside its own folder.
    """
    wrong_wire_type = (ValueError, TypeError, struct.error)  # or text that is none
    with damaged(f"{path}: damaged", *wrong_wire_type, why=str), naming(path):
        return _Reader(path).open()


def check_for_running(path: Path) -> None:
    """Refuse a model that libraries must not run, before they look at it; a missing file they name themselves.

    Raises:
        UnreadableFile: it is damaged, its external data is missing, or it has a loop, which may never end.
        UnsafeFile: its external data is outside its own folder.
    """
    with suppress(OSError):
        about = path.stat()
        _check_for_running(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=32)
def _check_for_running(path: Path, _time: int, _size: int) -> None:
    """The same of a file as it is now, once however many libraries read it."""
    loop = open_onnx(path).tree["loop"]
    if loop:
        raise UnreadableFile(f"{path}: {loop}, which may never end; simplify it first (onnxsim)")


def _first_field(value: int | memoryview) -> int:
    return next((number for number, _, _ in fields(value)), 0) if isinstance(value, memoryview) else 0


class _Reader:
    """One file being opened.  Errors do not name the file; ``open_onnx`` adds that."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[Path, memoryview] = {path: mapped(path)}
        self.left = int(bounds.FIELDS)
        self.depth = 0
        self.loop = ""

    def fields(self, message: int | memoryview) -> Iterator[tuple[int, Any]]:
        """Number and value of every field of a message, while the file's allowance lasts."""
        if not isinstance(message, memoryview):
            raise UnreadableFile("damaged, a number where a message belongs")
        for number, _, value in fields(message):
            self.left -= 1
            if self.left < 0:
                raise UnreadableFile(f"more than {bounds.FIELDS} fields; not a DenseNet")
            yield number, value

    def open(self) -> Checkpoint:
        tree: dict[str, Any] = {
            "nodes": [],
            "initializers": {},
            "inputs": {},
            "outputs": [],
            "functions": [],
            "opset": 0,
        }
        metadata: dict[str, str] = {}
        graphs = 0
        for number, value in self.fields(self.files[self.path]):
            if number == GRAPH:
                graphs += 1
                self.graph(value, tree)
            elif number == 14:
                key, text = self.pair(value)
                metadata[key] = text
            elif number == 25:
                tree["functions"].append(self.function(value))
            elif number == 8:
                domain, version = self.opset(value)
                tree["opset"] = version if domain in ("", "ai.onnx") else tree["opset"]
        if graphs != 1:
            raise UnreadableFile("not a whole ONNX model, it has no graph")
        tree["loop"] = self.loop
        return Checkpoint(self.path, NAME, tree, metadata, tuple(self.files))

    def graph(self, message: memoryview, tree: dict[str, Any]) -> None:
        for number, value in self.fields(message):
            if number == 1:
                tree["nodes"].append(self.node(value))
            elif number == 5:
                name, tensor = self.tensor(value)
                tree["initializers"][name] = tensor
            elif number == 11:
                name, shape = self.value_info(value)
                tree["inputs"][name] = shape
            elif number == 12:
                tree["outputs"].append(self.value_info(value)[0])

    def opset(self, message: memoryview) -> tuple[str, int]:
        """OperatorSetIdProto {1: domain, 2: version}."""
        entry = dict(self.fields(message))
        return string(entry.get(1, memoryview(b""))), int(entry.get(2, 0))

    def function(self, message: memoryview) -> dict[str, Any]:
        """FunctionProto {1: name, 4: input, 5: output, 7: node, 10: domain, 11: attribute_proto}."""
        function: dict[str, Any] = {
            "domain": "",
            "name": "",
            "inputs": [],
            "outputs": [],
            "nodes": [],
            "attributes": {},
        }
        for number, value in self.fields(message):
            if number in (1, 10):
                function["name" if number == 1 else "domain"] = string(value)
            elif number in (4, 5):
                function["inputs" if number == 4 else "outputs"].append(string(value))
            elif number == 7:
                function["nodes"].append(self.node(value))
            elif number == 11:
                name, attribute, _ = self.attribute(value)
                function["attributes"][name] = attribute
        return function

    def node(self, message: memoryview) -> dict[str, Any]:
        node: dict[str, Any] = {"op": "", "domain": "", "name": "", "inputs": [], "outputs": []}
        node |= {"attributes": {}, "references": {}}
        texts = {3: "name", 4: "op", 7: "domain"}
        for number, value in self.fields(message):
            if number in (1, 2):
                node["inputs" if number == 1 else "outputs"].append(string(value))
            elif number in texts:
                node[texts[number]] = string(value)
            elif number == 5:
                name, attribute, reference = self.attribute(value)
                if reference:
                    node["references"][name] = reference
                else:
                    node["attributes"][name] = attribute
        if node["op"] in LOOPS:
            self.loop = f"{node['op']} {node['name'] or ''.join(node['outputs'][:1])}"
        return node

    def attribute(self, message: memoryview) -> tuple[str, Any, str]:
        """Name, value (a number, text, tensor, list; None for a subgraph), the function's attribute it refers to."""
        name, single, reference = "", None, ""
        several: list[Any] | None = None
        for number, value in self.fields(message):
            if number == 1:
                name = string(value)
            elif number == 2:
                single = struct.unpack("<f", value)[0]
            elif number == 3:
                single = signed(value)
            elif number == 4:
                single = string(value, "replace")
            elif number == 5:
                single = self.tensor(value)[1]
            elif number in (6, 11):
                self.subgraph(value)
            elif number in (7, 8, 9):
                several = [] if several is None else several
                several += self.several(number, value)
            elif number == 21:
                reference = string(value)
        return name, several if several is not None else single, reference

    def subgraph(self, message: memoryview) -> None:
        """A branch or a loop's body: nothing of it is kept, but what holds of all graphs holds of it."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableFile("branches within branches; not a DenseNet")
        self.graph(message, {"nodes": [], "initializers": {}, "inputs": {}, "outputs": []})
        self.depth -= 1

    def several(self, number: int, value: Any) -> list[Any]:
        if number == 9:
            return [string(value, "replace")]
        if number == 7:
            return [x for (x,) in struct.iter_unpack("<f", content(value))]
        found = list(map(signed, numbers(value)))
        self.left -= len(found)
        return found

    def value_info(self, message: memoryview) -> tuple[str, list[int | None] | None]:
        """Name and shape of a graph's input: ValueInfoProto.type.tensor_type.shape.dim[].dim_value."""
        name, shape = "", None
        for number, value in self.fields(message):
            if number == 1:
                name = string(value)
            elif number == 2:
                for kind, tensor_type in self.fields(value):
                    for part, dims in self.fields(tensor_type) if kind == 1 else ():
                        if part == 2:
                            shape = [self.dimension(dim) for n, dim in self.fields(dims) if n == 1]
        return name, shape

    def dimension(self, message: memoryview) -> int | None:
        found = dict(self.fields(message))
        string(found.get(2, memoryview(b"")))  # its name is not used here, but libraries stumble over what is no text
        size = signed(found.get(1, 0))
        return size if size > 0 else None

    def pair(self, message: memoryview) -> tuple[str, str]:
        entry = dict(self.fields(message))
        return string(entry.get(1, memoryview(b""))), string(entry.get(2, memoryview(b"")))

    # -- tensors -------------------------------------------------------------------

    def tensor(self, message: memoryview) -> tuple[str, Tensor | None]:
        """Name and tensor of a TensorProto; None for types that no weight has."""
        name, code, shape, external = "", 0, list[int](), dict[str, str]()
        chunks: list[tuple[int, memoryview]] = []
        for number, value in self.fields(message):
            if number == 1:
                shape += map(signed, numbers(value))
            elif number == 2:
                code = int(value)
            elif number == 8:
                name = string(value)
            elif number == EXTERNAL:
                key, text = self.pair(value)
                external[key] = text
            elif number == RAW or number in FLOATS or number in VARINTS:
                chunks.append((number, value if isinstance(value, memoryview) else memoryview(as_varint(value))))
        if code not in DTYPES:
            return name, None
        dtype = DTYPES[code]
        if len(shape) > 16 or min(shape, default=0) < 0:
            raise UnreadableFile(f"{name} has a malformed shape {shape[:16]}")
        numel = prod(shape)
        size = numel * dtype.itemsize
        if external:
            return name, Tensor.over(self.external(name, external, size), dtype, shape)
        kinds = {number for number, _ in chunks}
        if kinds == {RAW} and len(chunks) == 1:
            if len(chunks[0][1]) != size:
                raise UnreadableFile(f"{name} of shape {shape} has {len(chunks[0][1])} bytes, {size} are needed")
            return name, Tensor.over(chunks[0][1], dtype, shape)
        if len(kinds) > 1 or (numel and not kinds):
            raise UnreadableFile(f"{name} of shape {shape} has no data, or too much")
        values = b"".join(content(chunk) for _, chunk in chunks)
        stored = FLOATS.get(next(iter(kinds)), dtype) if kinds else dtype
        # A varint takes at least one byte: the shape cannot ask for more than the file holds.
        if (len(values) < numel) if kinds & {*VARINTS} else (len(values) != numel * stored.itemsize):
            raise UnreadableFile(f"{name} of shape {shape} has {len(values)} bytes of values")
        if kinds & {*VARINTS}:
            return name, _packed(values, dtype, shape, f"{self.path}: {name}")
        return name, Tensor.of(np.frombuffer(values, stored).astype(dtype, copy=False).reshape(shape))

    def external(self, name: str, entry: dict[str, str], size: int) -> memoryview:
        """The bytes of external data (onnx/docs/ExternalData.md): location, offset, length."""
        location = entry.get("location", "")
        file = companion(self.path, location)
        if file not in self.files:
            if not file.is_file() or not file.stat().st_size:
                raise UnreadableFile(f"its external data {location} is missing or empty")
            self.files[file] = mapped(file)
        data = self.files[file]
        with damaged(f"{name} has a malformed offset or length", ValueError):
            offset = int(entry.get("offset") or 0)
            length = int(entry.get("length") or size)
        if offset < 0 or length != size:
            raise UnreadableFile(f"{name} has {length} bytes of external data at {offset}, {size} are needed")
        if offset + size > len(data):
            raise UnreadableFile(f"{location} is truncated, {name} ends behind its end")
        return data[offset : offset + size]


def _packed(data: bytes, dtype: np.dtype[Any], shape: list[int], where: str) -> Tensor:
    """Varints; float16 and bfloat16 as the integers their bits are (onnx.proto, ``int32_data``)."""

    def read() -> Array:
        values = weights(data)
        if len(values) != prod(shape):
            raise UnreadableFile(f"{where} of shape {shape} has {len(values)} values")
        bits = dtype.itemsize == 2 and (dtype.kind in "fV")
        return (values.astype(np.uint16).view(dtype) if bits else values.view(np.int64).astype(dtype)).reshape(shape)

    return Tensor(tuple(shape), dtype, read)
