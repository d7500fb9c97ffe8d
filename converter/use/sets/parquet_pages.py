"""What the pages of a Parquet file unpack to, by their headers alone, before pyarrow allocates it.

A page says how many bytes it has once unpacked, and pyarrow takes as many; what the file's footer says of a group of
rows need not be true.  A dictionary's value, and a beginning that values share, cost the file nothing each time.  Both
footer and headers are Thrift's compact protocol (parquet-format: src/main/thrift/parquet.thrift; thrift:
doc/specs/thrift-compact-protocol.md).  pyarrow's own ``RowGroupMetaData.column`` ends the process where statistics are
damaged, and tells nothing of pages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import IO, Any

from converter.core import bounds

END, ENCRYPTED = b"PAR1", b"PARE"
DELTA_BYTE_ARRAY = 7
DICTIONARY_PAGE = 2
HEADERS = {0: 5, DICTIONARY_PAGE: 7, 3: 8}
"""By a page's kind the field of its header that says how many values it has; of others nothing is read."""
FIRST = 1 << 10
"""Bytes in which most headers of pages end."""


@dataclass(frozen=True)
class Chunk:
    """A column's pages in one group of rows: its path in the schema, and where they stand."""

    path: str
    start: int
    end: int


@dataclass
class Pages:
    """What pages of one column unpack to.

    Attributes:
        shared: bytes that one value may have without costing the file as many: of dictionaries, of pages whose values
            share beginnings.
        mean: the most bytes that a value of a page has in the mean.
        values: how many there are.
        count: of pages.
    """

    shared: int = 0
    mean: int = 0
    values: int = 0
    count: int = 0

    def rows(self, most: int) -> int:
        """How many rows to read at once: no more than ``most``, and than fit into ``bounds.UNPACKED``."""
        return max(1, min(most, bounds.UNPACKED // max(self.shared, self.mean, 1)))


def chunks(file: IO[bytes], size: int) -> list[list[Chunk]]:
    """Of each group of rows the chunks of its columns.

    Raises:
        ValueError: the footer is damaged, or too large.
    """
    file.seek(max(size - 8, 0))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] == ENCRYPTED:
        raise ValueError("it is encrypted")
    if tail[4:] != END or length > size - 12:
        raise ValueError("no footer")
    if length > bounds.PARQUET_FOOTER:
        raise ValueError(f"a footer of {length:,} bytes")
    file.seek(size - 8 - length)
    try:
        groups = _Thrift(_all(file, length)).struct().get(4, [])
        return [[_chunk(column[3]) for column in group[1]] for group in groups]
    except (LookupError, TypeError, AttributeError, EOFError) as error:
        raise ValueError("its footer is damaged") from error


def _chunk(meta: dict[int, Any]) -> Chunk:
    path = ".".join(part.decode("utf-8", "replace") for part in meta[3])
    if not meta[5]:
        return Chunk(path, len(END), len(END))  # no values, no pages
    start, first = meta[9], meta.get(11, 0)
    start = first if 0 < first < start else start
    return Chunk(path, start, start + meta[7])


def pages(file: IO[bytes], size: int, some: Collection[Chunk], most: int) -> Pages:
    """What the pages of some chunks unpack to.

    Args:
        file: the open file.
        size: its bytes.
        some: chunks of a column.
        most: pages that are looked at.

    Raises:
        ValueError: a header is damaged, or a page unpacks to far more than the file has.
    """
    found = Pages()
    for chunk in some:
        if not 4 <= chunk.start <= chunk.end <= size:
            raise ValueError("pages outside the file")
        at = chunk.start
        while at < chunk.end:
            said, length = _header(file, at, chunk.end)
            _count(found, said, size)
            if found.count > most:
                raise ValueError("too many pages")
            at += length + int(said[3])
    return found


def _count(found: Pages, said: dict[int, Any], size: int) -> None:
    """Count a page by its header.

    Raises:
        ValueError: it is damaged, or unpacks to far more than the file has.
    """
    try:
        kind, unpacked, packed = int(said[1]), int(said[2]), int(said[3])
        own = said[HEADERS[kind]] if kind in HEADERS else {1: 0}
        values, encoding = int(own[1]), int(own.get(4 if HEADERS.get(kind) == 8 else 2, 0))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("a page without its size") from error
    if unpacked < 0 or packed < 0 or values < 0:
        raise ValueError("a page of a negative size")
    if packed > size:
        raise ValueError(f"a page of {packed:,} bytes")
    if kind == DICTIONARY_PAGE and values > unpacked:
        raise ValueError(f"a dictionary of {values:,} values in {unpacked:,} bytes")
    if unpacked > max(bounds.LARGE, bounds.PAGE_INFLATED * size):
        raise ValueError(f"a page that unpacks to {unpacked:,} bytes")
    found.count += 1
    if kind == DICTIONARY_PAGE or encoding == DELTA_BYTE_ARRAY:
        found.shared = max(found.shared, unpacked)
    if kind != DICTIONARY_PAGE:
        found.values += values
        found.mean = max(found.mean, unpacked // max(values, 1))


def _header(file: IO[bytes], at: int, end: int) -> tuple[dict[int, Any], int]:
    """A page's header, and how long it is.

    Raises:
        ValueError: it is damaged, or longer than pyarrow takes.
    """
    length = FIRST
    while True:
        length = min(length, end - at)
        file.seek(at)
        thrift = _Thrift(_all(file, length))
        try:
            return thrift.struct(), thrift.at
        except EOFError:
            if length >= min(end - at, bounds.PAGE_HEADER):
                raise ValueError("a page without a header") from None
            length *= 16


def _all(file: IO[bytes], length: int) -> bytes:
    data = bytes(file.read(length))
    while len(data) < length and (more := file.read(length - len(data))):
        data += more
    return data


class _Thrift:
    """Values of Thrift's compact protocol: structs as dicts by field number, lists, integers, bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise EOFError
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        result = shift = 0
        while True:
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def integer(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def take(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise EOFError
        self.at += length
        return self.data[self.at - length : self.at]

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > bounds.THRIFT_NESTED:
            raise ValueError("too many structs within each other")
        result, number = dict[int, Any](), 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.integer()
            kind = head & 15
            if number in result:
                raise ValueError("a field that is there twice")
            result[number] = kind == 1 if kind in (1, 2) else self.value(kind, depth)
        return result

    def value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return self.byte() == 1
        if kind == 3:
            return self.byte()
        if kind in (4, 5, 6):
            return self.integer()
        if kind == 7:
            return self.take(8)
        if kind == 8:
            return self.take(self.varint())
        if kind in (9, 10):
            return list(self.items(depth))
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError(f"a value of kind {kind}")

    def items(self, depth: int) -> Iterator[Any]:
        head = self.byte()
        count = self.varint() if head >> 4 == 15 else head >> 4
        if count > len(self.data) - self.at:
            raise EOFError
        if depth > bounds.THRIFT_NESTED:
            raise ValueError("too many lists within each other")
        for _ in range(count):
            yield self.value(head & 15, depth + 1)
