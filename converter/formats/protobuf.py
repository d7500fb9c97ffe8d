"""Protocol Buffers, the wire format alone (protobuf.dev/programming-guides/encoding).

A message is a run of fields, each a number, a wire type and a value.  What the numbers
mean is in the ``.proto`` of who wrote it, and stays with the reader of that format.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from converter.core import bounds, mapping
from converter.core.checkpoint import Array
from converter.core.errors import UnreadableFile
from converter.core.mapping import WINDOW, content, is_mapped, steady
from converter.formats.damage import damaged
from converter.formats.settings import as_written

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types.  3 and 4 are groups, which no format read here has."""

PIECE = 1 << 20
"""Bytes of packed numbers that are taken apart at once."""

Field = tuple[int, int, int | memoryview]

HEADER = 20
"""Bytes of the longest two varints, which stand before a value."""


def mapped(path: Path) -> memoryview:
    """A file as a message: its bytes, mapped unless they are few."""
    data = mapping.mapped(path)
    return (steady(data) if len(data) <= WINDOW else data).data


def fields(data: memoryview) -> Iterator[Field]:
    """The fields of a message, in order: number, wire type, value.

    Args:
        data: the whole message, as single bytes (format ``B``); if they are mapped, more than ``WINDOW``.

    Yields:
        A varint as an unsigned int below 2**64; anything else as a view of ``data``:
        8 bytes, 4 bytes, or as many as the field says (text, bytes, a message, packed
        numbers).  Of what is mapped, values longer than ``WINDOW`` are not looked at, and others copies.

    Raises:
        UnreadableFile: malformed or truncated.  It does not know the file's name; ``damage.naming`` adds it.
    """
    whole, start, at = data, 0, 0  # the part that is looked at begins at ``start``
    room = end = 0 if len(data) > WINDOW and is_mapped(data) else len(data)
    left = int(bounds.FIELDS)
    while True:
        left -= 1
        if left < 0 and start + at < len(whole):
            raise UnreadableFile(f"a message of more than {bounds.FIELDS} fields")
        if at >= room:
            start, at = start + at, 0
            if start >= len(whole):
                return
            data, end, room = _part(whole, start)
        key = data[at]
        if key < 0x80:  # as nearly all are
            at += 1
        else:
            key, at = varint(data, at)
        number, wire = key >> 3, key & 7
        if not number or number >= 1 << 29:
            raise UnreadableFile(f"malformed protobuf, field number {number}")
        if wire == VARINT:
            value, at = varint(data, at)
            yield number, wire, value
            continue
        if wire == BYTES:
            if at < end and data[at] < 0x80:
                size, at = data[at], at + 1
            else:
                size, at = varint(data, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise UnreadableFile(f"malformed protobuf, wire type {wire} of field {number}")
        if size > len(whole) - start - at:
            raise UnreadableFile(f"truncated or malformed protobuf, field {number} ends behind its message")
        if end - at < size <= WINDOW:
            start, at = start + at, 0
            data, end, room = _part(whole, start)
        yield number, wire, data[at : at + size] if size <= end - at else whole[start + at : start + at + size]
        at += size


def _part(whole: memoryview, start: int) -> tuple[memoryview, int, int]:
    """A copy of a few bytes of a message that is mapped, its length, and before where a field must begin in it."""
    part = content(whole[start : start + WINDOW])
    return part, len(part), len(part) if start + len(part) == len(whole) else len(part) - HEADER


def string(value: memoryview, errors: str = "strict") -> str:
    """A field of text.

    Raises:
        UnicodeDecodeError: it is not UTF-8, if ``errors`` does not say what becomes of such bytes.
    """
    return str(content(value) if len(value) > WINDOW else value, "utf-8", errors)


def messages(data: memoryview, number: int) -> Iterator[memoryview]:
    """The values of one repeated field that are messages or text."""
    return (value for n, _, value in fields(data) if n == number and isinstance(value, memoryview))


def message(data: memoryview, number: int) -> memoryview:
    """A field that is a message, as it is first said; an empty one if it is absent."""
    return next(messages(data, number), memoryview(b""))


def text(data: memoryview, number: int) -> str:
    """A field of text; empty if it is absent.

    Raises:
        UnreadableFile: it is not UTF-8.
    """
    with damaged("malformed protobuf, a name is not text", UnicodeDecodeError):
        return string(message(data, number))


def number(data: memoryview, field: int) -> int:
    """A field that is a number; 0 if it is absent."""
    return next((signed(value) for n, _, value in fields(data) if n == field and isinstance(value, int)), 0)


def real(data: memoryview, field: int) -> float | None:
    """A field that is a float32, as people wrote it; None if it is absent."""
    found = (value for n, wire, value in fields(data) if n == field and wire == FIXED32)
    return next((as_written(np.frombuffer(value, "<f4")[0]) for value in found if isinstance(value, memoryview)), None)


def numbers(value: int | memoryview) -> Iterator[int]:
    """One value of a repeated field of numbers: a number alone, or several, packed; as unsigned ints."""
    return iter((value,)) if isinstance(value, int) else varints(value)


def varints(data: memoryview) -> Iterator[int]:
    """Packed varints, as unsigned ints below 2**64.

    Raises:
        UnreadableFile: the last one is incomplete, one is longer than ten bytes, or they are too many for a list.
    """
    left, at, data = int(bounds.NUMBERS), 0, content(data) if len(data) > WINDOW else data
    while at < len(data):
        left -= 1
        if left < 0:
            raise UnreadableFile(f"a list of more than {bounds.NUMBERS} numbers")
        value, at = varint(data, at)
        yield value


def weights(data: memoryview | bytes) -> Array:
    """Packed varints, however many, as uint64.

    Raises:
        UnreadableFile: the last one is incomplete, or one is longer than ten bytes.
    """
    raw = np.frombuffer(data, np.uint8)
    if raw.max(initial=0) < 0x80:
        return raw.astype(np.uint64)
    cuts = [0]
    while len(raw) - cuts[-1] > PIECE:  # what is computed on the way takes fifty times a piece
        last = np.flatnonzero(raw[cuts[-1] + PIECE - 16 : cuts[-1] + PIECE] < 0x80)
        if not len(last):
            raise UnreadableFile("malformed protobuf, a number that does not end")
        cuts.append(cuts[-1] + PIECE - 16 + int(last[-1]) + 1)
    return np.concatenate([_weights(raw[start:end]) for start, end in zip(cuts, [*cuts[1:], len(raw)])])


def _weights(raw: Array) -> Array:
    """The same of a piece."""
    ends = np.flatnonzero(raw < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    lengths = ends - starts + 1
    if (raw[-1:] > 0x7F).any() or lengths.max(initial=0) > 10:
        raise UnreadableFile("malformed protobuf, a number that does not end")
    values = np.zeros(len(ends), np.uint64)
    for k in range(int(lengths.max(initial=0))):
        longer = lengths > k
        values[longer] |= (raw[starts[longer] + k] & 0x7F).astype(np.uint64) << np.uint64(7 * k)
    return values


def as_varint(value: int) -> bytes:
    """A number as the packed varint it could have been."""
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*result, value))


def signed(value: int) -> int:
    """A varint as the int32 or int64 it stands for."""
    return value - (1 << 64) if value >> 63 else value


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at a byte, as an unsigned int below 2**64, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise UnreadableFile("truncated protobuf, it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise UnreadableFile("malformed protobuf, a number of more than ten bytes")
