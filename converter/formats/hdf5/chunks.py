"""Where the chunks of a dataset are (IV.A.2, data layout; III.A.1; VII, appendix C)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from converter.formats.hdf5.arrays import extensible_array, fixed_array
from converter.formats.hdf5.btrees import CHUNKS, children, records
from converter.formats.hdf5.counted import COST, UNDEFINED, Counted, NotRead

SINGLE, IMPLICIT, FIXED_ARRAY, EXTENSIBLE_ARRAY, TREE_2 = 1, 2, 3, 4, 5
"""Kinds of index; version 3 of the layout has only the tree of version 1."""
TREE_1 = 0
ARRAYS = {FIXED_ARRAY: fixed_array, EXTENSIBLE_ARRAY: extensible_array}
PLAIN, FILTERED = 10, 11
"""Kinds of tree of version 2 that find chunks."""

UNLIMITED = (1 << 64) - 1
"""How far a size can grow, where nothing limits it."""


class Chunk(NamedTuple):
    """A chunk: its first element's place, and where its bytes are."""

    place: tuple[int, ...]
    address: int
    size: int
    mask: int


class Chunked(NamedTuple):
    """How a dataset is cut into chunks.

    Attributes:
        address: of the index.
        shape: of a chunk.
        size: bytes of a chunk before filters.
        kind: of index.
        about: what the layout says of it.
        version: of the layout.
    """

    address: int
    shape: tuple[int, ...]
    size: int
    kind: int
    about: bytes
    version: int


def chunked(body: bytes) -> Chunked:
    """Read a layout of chunks.

    Raises:
        ValueError, struct.error: it is none.
    """
    version = body[0]
    if version == 3:
        rank, address = body[2], struct.unpack_from("<Q", body, 3)[0]
        *shape, itemsize = struct.unpack_from(f"<{rank}I", body, 11)
        index, about = TREE_1, b""
    else:
        flags, rank, wide = body[2], body[3], body[4]
        if flags & 1:
            raise NotRead("chunks that are filtered only in part are not read")
        *shape, itemsize = (int.from_bytes(body[5 + i * wide : 5 + (i + 1) * wide], "little") for i in range(rank))
        at = 5 + rank * wide
        index, about = body[at], body[at + 1 : len(body)]
        length = {SINGLE: 12 if flags & 2 else 0, FIXED_ARRAY: 1, EXTENSIBLE_ARRAY: 5, TREE_2: 6}.get(index, 0)
        about, (address,) = about[:length], struct.unpack_from("<Q", about, length)
    size = itemsize
    for length in shape:
        size *= length
    if not size:
        raise ValueError("chunks without elements")
    return Chunked(address, tuple(shape), size, index, about, version)


def chunks(
    file: Counted, layout: Chunked, shape: tuple[int, ...], limits: tuple[int, ...], *, filtered: bool
) -> list[Chunk]:
    """Every chunk.

    Args:
        file: the file.
        layout: how the array is cut.
        shape: its shape.
        limits: what it can grow to.
        filtered: whether chunks may have other sizes than values.

    Raises:
        ValueError, struct.error: they are damaged, do not cover the array, or one is outside the file.
    """
    counts = [-(-size // step) for size, step in zip(shape, layout.shape, strict=True)]
    growing = [axis for axis, limit in enumerate(limits) if limit != shape[axis]]
    if layout.kind in (IMPLICIT, *ARRAYS) and (len(growing) > 1 or any(limits[axis] != UNLIMITED for axis in growing)):
        raise NotRead("an array that can grow to a size of its own is not read in HDF5's newest form")
    wanted = 1
    for count in counts:
        wanted *= count
    file.spend(COST * wanted)  # before anything is made for each
    found = (
        []
        if layout.address == UNDEFINED
        else list(_indexed(file, layout, counts, (growing or [0])[0], filtered=filtered))
    )
    places = {chunk.place for chunk in found}
    if len(places) != len(found) or len(found) != wanted:
        raise ValueError("values that were never written, or twice")
    for chunk in found:
        at_step = all(
            0 <= at < size and at % step == 0 for at, size, step in zip(chunk.place, shape, layout.shape, strict=True)
        )
        if not at_step or chunk.address + chunk.size > len(file.data) or (not filtered and chunk.size != layout.size):
            raise ValueError("a chunk that is not in the file, or not of the array")
    return found


def _indexed(file: Counted, layout: Chunked, counts: list[int], slowest: int, *, filtered: bool) -> Iterator[Chunk]:
    """Chunks as the index has them."""
    rank, size = len(layout.shape), layout.size
    if layout.kind == TREE_1:
        for key, address in children(file, layout.address, CHUNKS, 8 + 8 * (rank + 1)):
            stored, mask = struct.unpack_from("<II", key)
            yield Chunk(struct.unpack_from(f"<{rank}Q", key, 8), address, stored, mask)
    elif layout.kind == TREE_2:
        for record in records(file, layout.address, FILTERED if filtered else PLAIN):
            address, stored, mask = _entry(record[: len(record) - 8 * rank], size, filtered=filtered)
            scaled = struct.unpack_from(f"<{rank}Q", record, len(record) - 8 * rank)
            place = tuple(at * step for at, step in zip(scaled, layout.shape, strict=True))
            yield Chunk(place, address, stored, mask)
    else:
        # In the order of their places, with the axis that can grow first.
        axes = [slowest, *(axis for axis in range(rank) if axis != slowest)]
        grid = product(*(range(0, counts[axis] * layout.shape[axis], layout.shape[axis]) for axis in axes))
        entries = _listed(file, layout, filtered=filtered)
        for place, entry in zip(grid, entries, strict=False):
            yield Chunk(tuple(place[axes.index(axis)] for axis in range(rank)), *entry)


def _entry(raw: bytes, size: int, *, filtered: bool) -> tuple[int, int, int]:
    """Address, bytes and mask of a chunk."""
    (address,) = struct.unpack_from("<Q", raw)
    if not filtered:
        return address, size, 0
    return address, int.from_bytes(raw[8:-4], "little"), int.from_bytes(raw[-4:], "little")


def _listed(file: Counted, layout: Chunked, *, filtered: bool) -> Iterator[tuple[int, int, int]]:
    """Chunks of an index that lists them in the order of their places."""
    if layout.kind == SINGLE:
        stored, mask = struct.unpack("<QI", layout.about) if filtered else (layout.size, 0)
        yield layout.address, stored, mask
    elif layout.kind == IMPLICIT:
        number = 0
        while True:
            yield layout.address + number * layout.size, layout.size, 0
            number += 1
    elif layout.kind in ARRAYS:
        entries = ARRAYS[layout.kind](file, layout.address)
        yield from (_entry(raw, layout.size, filtered=filtered) for raw in entries)
    else:
        raise ValueError(f"an index of chunks of the unknown kind {layout.kind}")
