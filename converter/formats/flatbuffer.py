"""FlatBuffers (flatbuffers.dev, "Internals"), the wire format alone: tables, vectors and text, each place checked.

What the numbers of fields mean is in the schema of who wrote it, and stays with the reader of that format.  The
``flatbuffers`` package follows whatever offset a file has, also behind its end or before its beginning, and needs code
generated from a schema; here a place outside the file is an error, and so are more tables than any network has, which
few bytes make of vectors that all point to the same ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds, mapping
from converter.core.checkpoint import Array
from converter.core.errors import UnreadableFile
from converter.core.mapping import steady

PAGE = 1 << 14
"""Bytes of structure that are read at a time."""
PAGES = 256
"""Pages that are kept."""


class Buffer:
    """The bytes of a file, and how many tables may still be looked at.  Errors do not name the file."""

    def __init__(self, path: Path) -> None:
        self.data = mapping.mapped(path)
        self.left = int(bounds.TABLES)
        self.pages: dict[int, memoryview] = {}

    def root(self) -> Table:
        """The outermost table."""
        return Table(self, self.number(0, "<I"))

    def bytes(self, at: int, size: int) -> memoryview:
        """A few bytes of structure.

        Raises:
            UnreadableFile: they are not all within the file.
        """
        if at < 0 or size < 0 or at + size > len(self.data):
            raise UnreadableFile("damaged, something in it is said to be outside it")
        page, first = divmod(at, PAGE)
        if first + size > PAGE:
            return steady(self.data[at : at + size]).data
        if page not in self.pages:
            if len(self.pages) >= PAGES:
                self.pages.clear()
            self.pages[page] = steady(self.data[page * PAGE : (page + 1) * PAGE]).data
        return self.pages[page][first : first + size]

    def number(self, at: int, form: str) -> Any:
        """A number at a place."""
        return struct.unpack(form, self.bytes(at, struct.calcsize(form)))[0]

    def vector(self, at: int, size: int) -> tuple[int, int]:
        """Where the elements of a vector begin, whose place is a number at ``at``, and how many there are.

        Raises:
            UnreadableFile: they are not all within the file.
        """
        start = at + self.number(at, "<I")
        count = self.number(start, "<I")
        if start + 4 + count * size > len(self.data):
            raise UnreadableFile("damaged, a vector ends behind its end")
        return start + 4, count

    def spend(self, count: int = 1) -> None:
        """Count what is looked at.

        Raises:
            UnreadableFile: it is more than any network has.
        """
        self.left -= count
        if self.left < 0:
            raise UnreadableFile(f"more than {bounds.TABLES} tables and numbers; not a DenseNet")


class Table:
    """A table; its fields by their numbers in the schema, from 0 on, those that are absent with their defaults."""

    __slots__ = ("at", "buffer", "fields", "size")

    def __init__(self, buffer: Buffer, at: int) -> None:
        buffer.spend()
        self.buffer, self.at = buffer, at
        self.fields = at - buffer.number(at, "<i")
        self.size = buffer.number(self.fields, "<H")

    def place(self, field: int) -> int:
        """Where a field is; 0 where it is absent."""
        entry = 4 + 2 * field
        offset = self.buffer.number(self.fields + entry, "<H") if entry + 2 <= self.size else 0
        return self.at + offset if offset else 0

    def number(self, field: int, form: str = "<i", default: float = 0) -> Any:
        """A number; ``form`` is its type as ``struct`` has it."""
        at = self.place(field)
        return self.buffer.number(at, form) if at else default

    def table(self, field: int) -> Table | None:
        """A table."""
        at = self.place(field)
        return Table(self.buffer, at + self.buffer.number(at, "<I")) if at else None

    def tables(self, field: int) -> Iterator[Table]:
        """The tables of a vector."""
        at = self.place(field)
        first, count = self.buffer.vector(at, 4) if at else (0, 0)
        for place in range(first, first + 4 * count, 4):
            yield Table(self.buffer, place + self.buffer.number(place, "<I"))

    def texts(self, field: int) -> list[str]:
        """The texts of a vector."""
        at = self.place(field)
        first, count = self.buffer.vector(at, 4) if at else (0, 0)
        self.buffer.spend(count)
        return [self._text(place) for place in range(first, first + 4 * count, 4)]

    def text(self, field: int) -> str:
        """Text; empty where it is absent."""
        at = self.place(field)
        return self._text(at) if at else ""

    def _text(self, at: int) -> str:
        start, size = self.buffer.vector(at, 1)
        if size > bounds.NAME:
            raise UnreadableFile(f"a name of {size} characters")
        return bytes(self.buffer.bytes(start, size)).decode("utf-8", "replace")

    def numbers(self, field: int, kind: str = "<i4") -> list[Any]:
        """The numbers of a vector; ``kind`` is their type as numpy has it."""
        values = np.frombuffer(steady(self.raw(field, np.dtype(kind).itemsize)), kind)
        self.buffer.spend(len(values))
        return list(values.tolist())

    def has(self, field: int) -> bool:
        """Whether a vector is there and not empty."""
        at = self.place(field)
        return bool(at) and self.buffer.vector(at, 1)[1] > 0

    def raw(self, field: int, size: int = 1) -> Array:
        """The bytes of a vector's elements of that ``size``, which are not looked at."""
        at = self.place(field)
        if not at:
            return np.zeros(0, np.uint8)
        first, count = self.buffer.vector(at, size)
        return self.buffer.data[first : first + count * size]
