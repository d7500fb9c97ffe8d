"""HDF5's checksums: Jenkins' lookup3 of structure, Fletcher's of chunks."""

from __future__ import annotations

import struct

import numpy as np

from converter.core.checkpoint import Array

MASK = 0xFFFFFFFF


def _rotated(value: int, by: int) -> int:
    return ((value << by) | (value >> (32 - by))) & MASK


def lookup3(data: bytes) -> int:
    """Bob Jenkins' hashlittle with start value 0 (lookup3.c, 2006, public domain)."""
    a = b = c = (0xDEADBEEF + len(data)) & MASK
    if not data:
        return c
    last = (len(data) - 1) // 12 * 12
    words: tuple[int, ...] = struct.unpack_from(f"<{last // 4}I", data)
    for i in range(0, len(words), 3):
        a, b, c = (a + words[i]) & MASK, (b + words[i + 1]) & MASK, (c + words[i + 2]) & MASK
        a = (a - c) & MASK ^ ((c << 4 | c >> 28) & MASK)
        c = (c + b) & MASK
        b = (b - a) & MASK ^ ((a << 6 | a >> 26) & MASK)
        a = (a + c) & MASK
        c = (c - b) & MASK ^ ((b << 8 | b >> 24) & MASK)
        b = (b + a) & MASK
        a = (a - c) & MASK ^ ((c << 16 | c >> 16) & MASK)
        c = (c + b) & MASK
        b = (b - a) & MASK ^ ((a << 19 | a >> 13) & MASK)
        a = (a + c) & MASK
        c = (c - b) & MASK ^ ((b << 4 | b >> 28) & MASK)
        b = (b + a) & MASK
    rest: tuple[int, ...] = struct.unpack("<3I", data[last:].ljust(12, b"\0"))
    x, y, z = rest
    a, b, c = (a + x) & MASK, (b + y) & MASK, (c + z) & MASK
    c = ((c ^ b) - _rotated(b, 14)) & MASK
    a = ((a ^ c) - _rotated(c, 11)) & MASK
    b = ((b ^ a) - _rotated(a, 25)) & MASK
    c = ((c ^ b) - _rotated(b, 16)) & MASK
    a = ((a ^ c) - _rotated(c, 4)) & MASK
    b = ((b ^ a) - _rotated(a, 14)) & MASK
    return ((c ^ b) - _rotated(b, 24)) & MASK


def fletcher32(data: Array) -> int:
    """Fletcher's sums of big-endian 16-bit words, each below 65535 (H5checksum.c, where 0 may be 65535 too).

    Args:
        data: bytes, flat.
    """
    whole = data[: len(data) // 2 * 2].view(">u2")
    words = whole if len(data) % 2 == 0 else np.append(whole, np.array([int(data[-1]) << 8], ">u2"))
    first = second = 0
    step = 1 << 20
    for start in range(0, len(words), step):
        piece = words[start : start + step].astype(np.uint64)
        second += first * len(piece) + int((piece * np.arange(len(piece), 0, -1, dtype=np.uint64)).sum())
        first += int(piece.sum())
    return int(second % 65535) << 16 | first % 65535
