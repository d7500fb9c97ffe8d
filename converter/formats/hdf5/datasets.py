"""Arrays: in one piece, in their header, or in chunks (IV.A.2, data layout)."""

from __future__ import annotations

import struct
import zlib
from math import prod
from typing import NamedTuple

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Tensor
from converter.core.errors import UnsafeFile
from converter.core.mapping import steady
from converter.formats.damage import damaged
from converter.formats.hdf5.chunks import Chunk, Chunked, chunked, chunks
from converter.formats.hdf5.counted import UNDEFINED, Counted, NotRead
from converter.formats.hdf5.filters import KNOWN, SHRINKING, Filter, pipeline, unfiltered
from converter.formats.hdf5.headers import DATASPACE, EXTERNAL, FILTERS, LAYOUT, Message, one
from converter.formats.hdf5.types import limits_of

COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL = range(4)
Dtype = np.dtype[np.generic]


class Form(NamedTuple):
    """Type and shape of an array, and what that can grow to."""

    dtype: Dtype
    shape: tuple[int, ...]
    limits: tuple[int, ...]


def dataset(file: Counted, found: list[Message], dtype: Dtype, shape: tuple[int, ...], path: str) -> Tensor:
    """An array of numbers, used in place if it is stored in one piece.

    Args:
        file: the file.
        found: the messages of its header.
        dtype: of its elements, in their own order of bytes.
        shape: its sizes.
        path: names it.

    Raises:
        ValueError, struct.error: it is damaged, or stored in a way that is not read.
        UnsafeFile: its values are in another file.
    """
    layout, size = one(file, found, LAYOUT), prod(shape) * dtype.itemsize
    version, kind = layout[0], layout[1]
    if version not in (3, 4, 5):
        raise NotRead(f"{path} has a layout of version {version}, which is not read")
    if kind == VIRTUAL or one(file, found, EXTERNAL):
        raise UnsafeFile(f"the values of {path} are in another file")
    if not size and any(length > len(file.data) for length in shape):
        raise ValueError(f"{path} has a size that cannot be right")
    if kind == COMPACT:
        (length,) = struct.unpack_from("<H", layout, 2)
        raw = layout[4 : 4 + length]
        if len(raw) != size:
            raise ValueError(f"{path} has a size that cannot be right")
        return Tensor.over(raw, dtype, shape)
    if kind == CONTIGUOUS:
        address, stored = struct.unpack_from("<QQ", layout, 2)
        if size and (address == UNDEFINED or stored != size or address + size > len(file.data)):
            raise ValueError(f"{path} ends behind the end of the file, or was never written")
        file.take(size)
        return Tensor.over(file.data[address : address + size] if size else b"", dtype, shape)
    if kind != CHUNKED:
        raise ValueError(f"{path} has a layout of kind {kind}")
    chunk_layout, filters = chunked(layout), pipeline(one(file, found, FILTERS))
    limits = limits_of(one(file, found, DATASPACE)) or shape
    return _in_chunks(file, chunk_layout, filters, Form(dtype, shape, limits), path)


def _in_chunks(file: Counted, layout: Chunked, filters: list[Filter], form: Form, path: str) -> Tensor:
    dtype, shape, limits = form
    used = {number for number, _ in filters}
    if used - KNOWN:
        raise NotRead(f"{path} is compressed in a way that cannot be read")
    size = prod(shape) * dtype.itemsize
    if layout.size != prod(layout.shape) * dtype.itemsize or len(layout.shape) != len(shape):
        raise ValueError(f"{path} has chunks of another type or shape")
    found = chunks(file, layout, shape, limits, filtered=bool(filters)) if size else []
    stored = sum(chunk.size for chunk in found)
    whole = len(found) * layout.size
    ratio = 1 if not used & SHRINKING else bounds.INFLATED if whole < bounds.LARGE else bounds.LARGE_INFLATED
    if whole > stored * ratio:
        raise ValueError(f"{path} has a size that cannot be right")
    file.take(stored)
    data, what = file.data, file.what

    def read() -> Array:
        result = np.empty(shape, dtype)
        with damaged(f"{what}, {path}", ValueError, LookupError, zlib.error, why=str):
            for chunk in found:
                values = _values(data, chunk, layout, filters, dtype)
                result[_extent(chunk, layout)] = values[_inside(chunk, layout, shape)]
        return result.astype(dtype.newbyteorder("="), copy=False)

    return Tensor(shape, dtype.newbyteorder("="), read)


def _values(data: Array, chunk: Chunk, layout: Chunked, filters: list[Filter], dtype: Dtype) -> Array:
    raw = steady(data[chunk.address : chunk.address + chunk.size]).tobytes()
    return np.frombuffer(unfiltered(raw, filters, chunk.mask, layout.size), dtype).reshape(layout.shape)


def _extent(chunk: Chunk, layout: Chunked) -> tuple[slice, ...]:
    """Where a chunk's values belong; chunks at the edge reach behind it."""
    return tuple(slice(at, at + step) for at, step in zip(chunk.place, layout.shape, strict=True))


def _inside(chunk: Chunk, layout: Chunked, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(0, min(step, size - at)) for at, step, size in zip(chunk.place, layout.shape, shape, strict=True)
    )
