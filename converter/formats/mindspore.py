"""MindSpore, ``.ckpt``: a Checkpoint as binary protobuf (mindspore/ccsrc/utils/checkpoint.proto).

``save_checkpoint`` cuts big tensors into slices, which follow each other under the same
name, and can put a checksum behind the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint, Tensor
from converter.core.dtypes import Types
from converter.core.errors import UnreadableFile
from converter.core.mapping import WINDOW, content
from converter.formats.damage import naming
from converter.formats.protobuf import BYTES, fields, mapped, numbers

NAME = "MindSpore"
NUMBERS = "Float16 Float32 Float64 BFloat16 Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Bool"
DTYPES = Types({name: name.lower() for name in NUMBERS.split()})
"""mindspore/train/serialization.py, tensor_to_np_type."""

TEXT = "str"
"""Type of what ``append_dict`` put beside the weights as text: UTF-32, as NumPy has it."""

CHECKSUM, CHECKSUM_SIZE = b"crc_num", 17
"""What a checksum begins with, and its size in all."""


class Slice(NamedTuple):
    """One entry: a tensor, or the next piece of one."""

    name: str
    shape: tuple[int, ...]
    type: str
    content: memoryview


def matches(path: Path, head: bytes) -> bool:
    """Whether a file is a bare protobuf whose first field is a named tensor."""
    if not head.startswith(b"\x0a"):
        return False
    try:
        found = next(_slices(_message(path)))
    except (UnreadableFile, StopIteration):
        return False
    return bool(found.name) and found.type in (*DTYPES, TEXT)


def open_mindspore(path: Path) -> Checkpoint:
    """Open a ``.ckpt`` of MindSpore."""
    slices: dict[str, list[Slice]] = {}
    count = 0
    with naming(path):
        for found in _slices(_message(path)):
            slices.setdefault(found.name, []).append(found)
            if (count := count + 1) > bounds.ARRAYS:
                raise UnreadableFile(f"more than {bounds.ARRAYS} tensors and slices of tensors")
        tree = {
            name: _text(pieces) if pieces[0].type == TEXT else _tensor(name, pieces) for name, pieces in slices.items()
        }
    return Checkpoint(path, NAME, tree, files=(path,))


def _message(path: Path) -> memoryview:
    data = mapped(path)
    checked = bytes(content(data[-CHECKSUM_SIZE:])).startswith(CHECKSUM)
    data = data[:-CHECKSUM_SIZE] if checked else data
    return data if len(data) > WINDOW else content(data)


def _slices(data: memoryview) -> Iterator[Slice]:
    for number, _, value in fields(data):
        if number != 1 or not isinstance(value, memoryview):
            raise UnreadableFile(f"no checkpoint of MindSpore, it has a field {number}")
        members = {key: member for key, _, member in fields(value) if isinstance(member, memoryview)}
        if not members.keys() >= {1, 2}:
            raise UnreadableFile("no checkpoint of MindSpore, or one with hash tables (MapTensor)")
        yield _slice(str(content(members[1][:4096]), "utf-8", "replace"), members[2])


def _slice(name: str, data: memoryview) -> Slice:
    dims: list[int] = []
    kind, values = "", memoryview(b"")
    for number, wire, value in fields(data):
        if number == 1:
            dims += islice(numbers(value), bounds.DIMENSIONS + 1)
        elif number == 2 and isinstance(value, memoryview):
            kind = str(content(value[:64]), "utf-8", "replace")
        elif number == 3 and wire == BYTES and isinstance(value, memoryview):
            values = value
        if len(dims) > bounds.DIMENSIONS:
            raise UnreadableFile(f"{name} has more than {bounds.DIMENSIONS} dimensions")
    return Slice(name, tuple(dims), kind, values)


def _text(pieces: list[Slice]) -> str:
    return b"".join(content(piece.content[: bounds.NAME]) for piece in pieces)[: bounds.NAME].decode(
        "utf-32-le", "replace"
    )


def _tensor(name: str, pieces: list[Slice]) -> Tensor:
    shape, kind = pieces[0].shape, pieces[0].type
    if kind not in DTYPES:
        raise UnreadableFile(f"{name} has type {kind!r}, which cannot be read")
    dtype = DTYPES[kind]
    size = sum(len(piece.content) for piece in pieces)
    if shape == (0,) and size == dtype.itemsize:
        shape = ()  # how a scalar is written
    if any(piece.type != kind for piece in pieces) or size != prod(shape) * dtype.itemsize:
        raise UnreadableFile(f"the data of {name} do not fit its shape")
    if len(pieces) == 1:
        return Tensor.over(pieces[0].content, dtype, shape)

    def read() -> Array:
        parts = [np.frombuffer(content(piece.content), np.uint8) for piece in pieces]
        return np.concatenate(parts).view(dtype).reshape(shape)

    return Tensor(shape, dtype, read)
