"""B-trees, version 1 (III.A.1) and 2 (III.A.2), as flat lists of what their leaves hold."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from converter.formats.hdf5.counted import UNDEFINED, Counted

GROUP, CHUNKS = 0, 1
"""Kinds of version 1."""


def children(file: Counted, address: int, kind: int, key: int) -> Iterator[tuple[bytes, int]]:
    """Key and child of every entry of a tree of version 1, in order.

    Args:
        file: the file.
        address: the root.
        kind: what the tree must be of.
        key: bytes of a key.

    Raises:
        ValueError, struct.error: no valid tree is there.
    """
    waiting: list[tuple[int, int]] = [(address, -1)]
    while waiting:
        place, expected = waiting.pop()
        head = file.at(place, 24, b"TREE")
        found, level, used = struct.unpack_from("<BBH", head, 4)
        if found != kind or (expected >= 0 and level != expected):
            raise ValueError("a tree with nodes of another")
        body, step = file.at(place + 24, (key + 8) * used + key), key + 8
        entries = [
            (body[at : at + key], struct.unpack_from("<Q", body, at + key)[0]) for at in range(0, used * step, step)
        ]
        if level:
            waiting += [(child, level - 1) for _, child in reversed(entries)]
        else:
            yield from entries


def width(limit: int) -> int:
    """How many bytes hold a number up to this one (H5VM_limit_enc_size)."""
    return (max(limit, 1).bit_length() - 1) // 8 + 1


def records(file: Counted, address: int, kind: int) -> Iterator[bytes]:
    """Every record of a tree of version 2; none if it was never made.

    Raises:
        ValueError, struct.error: no valid tree is there.
    """
    if address == UNDEFINED:
        return
    head = file.summed(address, 38, b"BTHD")
    version, found, node, size, depth = struct.unpack_from("<BBIHH", head, 4)
    root, count = struct.unpack_from("<QH", head, 16)
    if version or found != kind or not size or node < 10 + size:
        raise ValueError("a tree of another kind")
    per_leaf = (node - 10) // size
    # Of a pointer: the child's records, and those of all below it, which leaves do without (III.A.2).
    wide, most, totals = width(per_leaf), per_leaf, [0]
    for _ in range(depth):
        pointer = 8 + wide + totals[-1]
        held = (node - 10 - pointer) // (size + pointer)
        if held <= 0 or len(totals) > 32:
            raise ValueError("a tree that is too deep")
        most = (held + 1) * most + held
        totals.append(width(most))
    waiting = [(root, count, depth)] if root != UNDEFINED else []
    while waiting:
        place, count, level = waiting.pop()
        pointer = 8 + wide + (totals[level - 1] if level else 0)
        used = size * count + (pointer * (count + 1) if level else 0)
        if 10 + used > node:
            raise ValueError("a node with more than it has room for")
        body = file.summed(place, 10 + used, b"BTIN" if level else b"BTLF")
        yield from (body[at : at + size] for at in range(6, 6 + size * count, size))
        if level:
            start = 6 + size * count
            for at in range(start, start + pointer * (count + 1), pointer):
                (child,) = struct.unpack_from("<Q", body, at)
                waiting.append((child, int.from_bytes(body[at + 8 : at + 8 + wide], "little"), level - 1))
