"""The members of a group: symbol tables (III.B, III.C), link messages, and dense storage of those (IV.A.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from converter.formats.hdf5.btrees import GROUP, children, records
from converter.formats.hdf5.counted import UNDEFINED, Counted
from converter.formats.hdf5.headers import LINK, LINK_INFO, SYMBOLS, Message, one
from converter.formats.hdf5.heaps import FractalHeap, name_at, names

BY_NAME = 5
"""The kind of tree that finds links by their names."""
ENTRY = 40
SOFT = 2
"""What a symbol table calls a link to a name."""

Member = tuple[bytes, int | None]
"""A name, and the address of its object header; None if it is a link to a name, here or in another file."""


def is_group(found: list[Message]) -> bool:
    """Whether an object with these messages is a group."""
    return any(message.kind in (SYMBOLS, LINK_INFO) for message in found)


def members(file: Counted, found: list[Message]) -> list[Member]:
    """The members of a group, in the order of their making where that was kept, else by name.

    Raises:
        ValueError, struct.error: they are damaged.
    """
    table = one(file, found, SYMBOLS)
    if table:
        return sorted(_symbols(file, *struct.unpack_from("<QQ", table)), key=lambda member: member[0])
    info = one(file, found, LINK_INFO)
    tracked = bool(info[1] & 1)
    heap, tree = struct.unpack_from("<QQ", info, 10 if tracked else 2)
    bodies = [message.body for message in found if message.kind == LINK]
    if heap != UNDEFINED:
        dense = FractalHeap(file, heap)
        bodies += [dense.object(record[4:11]) for record in records(file, tree, BY_NAME)]
    links = [_link(body) for body in bodies]
    return [member for _, member in sorted(links, key=lambda link: (link[0] if tracked else 0, link[1][0]))]


def _symbols(file: Counted, tree: int, heap: int) -> Iterator[Member]:
    text = names(file, heap)
    for _, node in children(file, tree, GROUP, 8):
        (count,) = struct.unpack_from("<H", file.at(node, 8, b"SNOD"), 6)
        for offset, address, cached in struct.iter_unpack("<QQI20x", file.at(node + 8, ENTRY * count)):
            name = name_at(text, offset)
            file.spend(len(name))
            yield name, None if cached == SOFT else address


def _link(body: bytes) -> tuple[int, Member]:
    """A link and when it was made."""
    version, flags = body[0], body[1]
    if version != 1:
        raise ValueError(f"a link of version {version}")
    at, kind, made = 2, 0, 0
    if flags & 8:
        kind, at = body[at], at + 1
    if flags & 4:
        made, at = struct.unpack_from("<Q", body, at)[0], at + 8
    at += 1 if flags & 16 else 0
    width = 1 << (flags & 3)
    size, at = int.from_bytes(body[at : at + width], "little"), at + width
    name, rest = body[at : at + size], body[at + size :]
    if len(name) != size or not name:
        raise ValueError("a link without a name")
    return made, (name, struct.unpack_from("<Q", rest)[0] if not kind else None)
