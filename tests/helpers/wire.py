"""Protocol Buffers written by hand, for tests of what reads them."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """A number below 2**64."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A varint field."""
    return varint(field << 3) + varint(value)


def data(field: int, value: bytes | str) -> bytes:
    """A field of text, bytes, a message or packed numbers."""
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def fixed32(field: int, value: bytes) -> bytes:
    """A field of four bytes."""
    return varint(field << 3 | 5) + value
