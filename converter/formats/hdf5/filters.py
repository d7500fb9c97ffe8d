"""Filters of chunks (IV.A.2, filter pipeline): deflate, shuffle, checksum, lzf.  Any other is a plugin's."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from converter.formats.hdf5.checksums import fletcher32

DEFLATE, SHUFFLE, FLETCHER, LZF = 1, 2, 3, 32000
KNOWN = frozenset((DEFLATE, SHUFFLE, FLETCHER, LZF))
SHRINKING = frozenset((DEFLATE, LZF))

MOST = 8

Filter = tuple[int, tuple[int, ...]]
"""Its number, and what it was told."""


def pipeline(body: bytes) -> list[Filter]:
    """The filters of a dataset from its message, in the order of writing.

    Raises:
        ValueError, struct.error: it is none.
    """
    result: list[Filter] = []
    if not body:
        return result
    version, count = body[0], body[1]
    if version not in (1, 2):
        raise ValueError(f"filters of version {version}")
    at = 8 if version == 1 else 2
    if count > MOST:
        raise ValueError(f"{count} filters")
    for _ in range(count):
        (number,) = struct.unpack_from("<H", body, at)
        at, named = at + 2, version == 1 or number >= 256
        length = struct.unpack_from("<H", body, at)[0] if named else 0
        at += 2 if named else 0
        (values,) = struct.unpack_from("<H", body, at + 2)  # behind the flags
        at += 4 + (-(-length // 8) * 8 if version == 1 else length)
        result.append((number, struct.unpack_from(f"<{values}I", body, at)))
        at += 4 * values + (4 if version == 1 and values % 2 else 0)
    return result


def unfiltered(data: bytes, filters: Sequence[Filter], mask: int, size: int) -> bytes:
    """A chunk as it was before it was filtered.

    Args:
        data: what is stored.
        filters: in the order of writing.
        mask: a bit for each of them that was left out here.
        size: bytes of the chunk.

    Raises:
        ValueError, zlib.error: it is damaged.
    """
    for place in reversed(range(len(filters))):
        number, values = filters[place]
        if mask >> place & 1:
            continue
        if number == DEFLATE:
            # At most the checksum of an earlier filter stands behind the values.
            data = zlib.decompressobj().decompress(data, size + 5)
        elif number == LZF:
            data = lzf(data, size + 4)
        elif number == FLETCHER:
            data = _summed(data)
        else:
            data = _unshuffled(data, values[0])
    if len(data) != size:
        raise ValueError(f"a chunk of {len(data)} bytes in place of {size}")
    return data


def _summed(data: bytes) -> bytes:
    if len(data) < 4:
        raise ValueError("a chunk without its checksum")
    body, said = data[:-4], int.from_bytes(data[-4:], "little")
    found = fletcher32(np.frombuffer(body, np.uint8))
    # Before HDF5 1.6.3 each sum had its bytes the other way round (H5Zfletcher32.c).
    turned = int.from_bytes(bytes(data[len(body) + i] for i in (1, 0, 3, 2)), "little")
    if found not in {_reduced(said), _reduced(turned)}:
        raise ValueError("a chunk with a wrong checksum")
    return body


def _reduced(said: int) -> int:
    """Sums below 65535, since 65535 is 0 here."""
    return (said >> 16) % 65535 << 16 | (said & 0xFFFF) % 65535


def _unshuffled(data: bytes, width: int) -> bytes:
    """First bytes of all values, then second ones ...; what is less than a value stands behind."""
    if width <= 1 or len(data) < width:
        return data
    whole = len(data) // width * width
    turned = np.frombuffer(data, np.uint8, whole).reshape(width, -1).T
    return turned.tobytes() + data[whole:]


def lzf(data: bytes, most: int) -> bytes:
    """Liblzf's compression (Marc Lehmann, lzf_d.c): runs of new bytes, and copies of what was there.

    Raises:
        ValueError: it gives more bytes than this, or refers to what is not there.
    """
    out, at, end = bytearray(), 0, len(data)
    while at < end:
        control, at = data[at], at + 1
        if control < 32:
            piece = data[at : at + control + 1]
            if len(piece) != control + 1:
                raise ValueError("truncated lzf")
            out += piece
            at += control + 1
        else:
            length = control >> 5
            if at + (2 if length == 7 else 1) > end:
                raise ValueError("truncated lzf")
            if length == 7:
                length, at = length + data[at], at + 1
            back, at = ((control & 31) << 8 | data[at]) + 1, at + 1
            start, length = len(out) - back, length + 2
            if start < 0:
                raise ValueError("lzf that refers to what is not there")
            piece = bytes(out[start : start + length])
            out += (piece * (-(-length // len(piece))))[:length]
        if len(out) > most:
            raise ValueError("lzf of more bytes than there can be")
    return bytes(out)
