"""Attributes of an object (IV.A.2, attribute; dense storage IV.A.2, attribute info): numbers and texts."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from converter.formats.hdf5.btrees import records
from converter.formats.hdf5.counted import UNDEFINED, Counted, NotRead
from converter.formats.hdf5.headers import (
    ATTRIBUTE,
    ATTRIBUTE_INFO,
    DATASPACE,
    DATATYPE,
    SHARED,
    Message,
    one,
    shared,
)
from converter.formats.hdf5.heaps import FractalHeap, GlobalHeaps
from converter.formats.hdf5.types import FLOAT, INTEGER, TEXT, kind_of, shape_of

BY_NAME = 8
"""The kind of tree that finds attributes by their names."""

MOST = 1 << 20
"""Values of one attribute."""


class Attributes:
    """The attributes of a file's objects."""

    def __init__(self, file: Counted) -> None:
        self.file = file
        self.texts = GlobalHeaps(file)

    def of(self, found: list[Message]) -> dict[str, Any]:
        """Numbers and texts among an object's attributes by name, as plain Python values.

        Raises:
            ValueError, struct.error, LookupError: one is damaged.
        """
        result: dict[str, Any] = {}
        for body in self._bodies(found):
            name, value = self._value(body)
            if value is not None:
                result[name] = value
        return result

    def _bodies(self, found: list[Message]) -> Iterator[bytes]:
        for message in found:
            if message.kind == ATTRIBUTE:
                yield shared(self.file, message.body, ATTRIBUTE) if message.flags & SHARED else message.body
        info = one(self.file, found, ATTRIBUTE_INFO)
        if not info:
            return
        heap, tree = struct.unpack_from("<QQ", info, 4 if info[1] & 1 else 2)
        if heap == UNDEFINED:
            return
        dense = FractalHeap(self.file, heap)
        for record in records(self.file, tree, BY_NAME):
            if record[8] & SHARED:
                raise NotRead("attributes shared by several objects are not read")
            yield dense.object(record[:8])

    def _value(self, body: bytes) -> tuple[str, Any]:
        """Name and value; None where it is neither numbers nor text."""
        version, flags = body[0], body[1]
        if version not in (1, 2, 3):
            raise ValueError(f"an attribute of version {version}")
        at, parts = 9 if version == 3 else 8, []
        for size in struct.unpack_from("<HHH", body, 2):
            parts.append(body[at : at + size])
            at += -(-size // 8) * 8 if version == 1 else size  # version 1 pads
        if version > 1 and flags & 1:
            parts[1] = shared(self.file, parts[1], DATATYPE)
        if version > 1 and flags & 2:
            parts[2] = shared(self.file, parts[2], DATASPACE)
        name, kind, shape = parts[0].split(b"\0")[0].decode("utf-8", "replace"), kind_of(parts[1]), shape_of(parts[2])
        if not (kind.cls in (INTEGER, FLOAT, TEXT) or kind.variable) or shape is None:
            return name, None
        count, raw = prod(shape), body[at:]
        if count > MOST or count * kind.size > len(raw):
            raise ValueError(f"the attribute {name} has a size that cannot be right")
        values: list[Any]
        if kind.dtype is not None:
            values = np.frombuffer(raw, kind.dtype, count).tolist()
        else:
            cells = [raw[i : i + kind.size] for i in range(0, count * kind.size, kind.size)]
            values = [self._text(cell, variable=kind.variable) for cell in cells]
        return name, values if shape else values[0]

    def _text(self, cell: bytes, *, variable: bool) -> str:
        """A text in place, zeros behind it, or in a heap, with a zero behind it."""
        if not variable:
            return cell.rstrip(b"\0").decode("utf-8", "replace")
        length, heap, number = struct.unpack("<IQI", cell)
        if not length and heap in (0, UNDEFINED):
            return ""
        text = self.texts.object(heap, number)
        if length > len(text):
            raise ValueError("a text with a length that cannot be right")
        return text[:length].split(b"\0")[0].decode("utf-8", "replace")
