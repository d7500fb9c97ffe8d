"""How long the texts of an HDF5 object's attributes claim to be, read off its header.

The HDF5 library allocates what a variable-length text claims, gigabytes in a damaged
file, before it finds that the file holds no such text.  So the claims are read first
(HDF Group, "HDF5 File Format Specification", IV.A object headers).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from converter.core.checkpoint import Array
from converter.core.mapping import steady

CONTINUATION, ATTRIBUTE = 0x10, 0x0C
VARIABLE_LENGTH = 9
MAX_MESSAGES = 4096
HEAP = b"GCOL\x01\0\0\0"
"""How a global heap begins: its signature, version and three zeros."""


def text_lengths(data: Array, address: int) -> dict[str, int]:
    """Per attribute of variable length: how many bytes its texts claim together.

    Attributes that are not in the header itself (HDF5's dense storage) are not listed.

    Raises:
        ValueError, IndexError, struct.error: no valid header is there.
    """
    result = {}
    for kind, body in _messages(data, address):
        if kind != ATTRIBUTE:
            continue
        version = body[0]
        sizes = struct.unpack_from("<HHH", body, 2)
        step = 8 if version == 1 else 1  # version 1 pads the name, the type and the shape
        name, dtype, shape = (-(-size // step) * step for size in sizes)
        at = 9 if version == 3 else 8
        if version > 1 and body[1] & 1:
            continue  # the type is elsewhere
        if body[at + name] & 15 == VARIABLE_LENGTH:
            text = body[at : at + sizes[0]].rstrip(b"\0").decode("utf-8", "replace")
            elements = body[at + name + dtype + shape :]  # (length, heap address, index) each
            result[text] = sum(struct.unpack_from("<I", elements, i)[0] for i in range(0, len(elements) - 15, 16))
    return result


def check_heaps(data: Array) -> bool:
    """Look at every global heap (III.E), where texts lie: the HDF5 library walks one for ever that has an empty object.

    Raises:
        ValueError: an object of one ends before it begins, or behind the heap.
    """
    at = _find(data, 0)
    while at >= 0:
        size = int.from_bytes(steady(data[at + 8 : at + 16]).tobytes(), "little")
        heap = steady(data[at : at + size]).tobytes() if size <= len(data) - at else b""
        place = 16
        while place + 16 <= len(heap):
            index, length = struct.unpack_from("<H6xQ", heap, place)
            # Free space, of index 0, counts its own header.
            place += length if not index else 16 + -(-length // 8) * 8
            if not index and length < 16:
                raise ValueError("a heap with an object of no size")
            if place > len(heap):
                raise ValueError("a heap with an object that reaches behind it")
        at = _find(data, at + max(len(heap), 8))
    return True


def _find(data: Array, start: int) -> int:
    """Where the next global heap begins; -1 if there is none."""
    step = 1 << 20
    for at in range(start, len(data), step):
        found = steady(data[at : at + step + len(HEAP) - 1]).tobytes().find(HEAP)
        if found >= 0:
            return at + found
    return -1


def _messages(data: Array, address: int) -> Iterator[tuple[int, bytes]]:
    """Type and body of every message of an object header, its continuations included."""
    head = steady(data[address : address + 64]).tobytes()
    modern = head[:4] == b"OHDR"
    if modern:
        flags = head[5]
        at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        start, size = address + at + width, int.from_bytes(head[at : at + width], "little")
        prefix = 6 if flags & 4 else 4
    elif head[:1] == b"\1":
        start, size, prefix = address + 16, struct.unpack_from("<I", head, 8)[0], 8
    else:
        raise ValueError("no object header")
    chunks, count = [(start, size)], 0
    while chunks:
        start, size = chunks.pop(0)
        chunk, at = steady(data[start : start + size]).tobytes(), 0
        while at + prefix <= len(chunk):
            kind, length = struct.unpack_from("<BH" if modern else "<HH", chunk, at)
            body = chunk[at + prefix : at + prefix + length]
            at, count = at + prefix + length, count + 1
            if count > MAX_MESSAGES:
                raise ValueError("an object header without end")
            if kind == CONTINUATION:
                offset, long = struct.unpack_from("<QQ", body)
                chunks.append((offset + 4, long - 8) if modern else (offset, long))  # "OCHK" before, a checksum behind
            else:
                yield kind, body
