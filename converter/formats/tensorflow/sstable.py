"""LevelDB's sorted string table: keys and values in blocks, found through an index block.

The layout is that of google/leveldb, doc/table_format.md; TensorFlow carries a copy
(tensorflow/core/lib/io/table*).  A block may be compressed with Snappy (google/snappy,
format_description.txt).
"""

from __future__ import annotations

from collections.abc import Iterator

from converter.core import bounds
from converter.core.errors import UnreadableFile
from converter.core.mapping import Window, content
from converter.formats import protobuf

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
FOOTER = 48
TRAILER = 5
"""After a block: its compression, and a checksum that is not verified."""

LONGEST = 10
"""Bytes of a number."""


def entries(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Every key and value of a table, in the order of the keys; nothing uncompressed is copied.

    Raises:
        UnreadableFile: no table, truncated or damaged.  It does not know the file's name.
    """
    footer = content(data[-FOOTER:])
    if len(footer) < FOOTER or footer[-8:] != MAGIC:
        raise UnreadableFile("truncated or no table, its footer is missing")
    footer = footer[:-8]
    _, _, at = _handle(footer, 0)  # the metaindex: filters, which a whole reading does not need
    start, size, _ = _handle(footer, at)
    last = 0
    for _, handle in _block(data, start, size):
        start, size, _ = _handle(handle, 0)
        if start < last:
            raise UnreadableFile("damaged table, its blocks overlap")
        last = start + size
        yield from _block(data, start, size)


def _handle(data: memoryview, at: int) -> tuple[int, int, int]:
    start, at = varint(data, at)
    size, at = varint(data, at)
    return start, size, at


def _block(data: memoryview, start: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    if start + size + TRAILER > len(data):
        raise UnreadableFile("truncated table, a block ends behind the end of the file")
    block, compression = data[start : start + size], content(data[start + size :][:1])[0]
    if compression == 1:
        block = unsnap(content(block))
    elif compression:
        raise UnreadableFile(f"a table with compression {compression}, which is not read")
    window = Window(block)
    restarts = int.from_bytes(window.piece(max(0, len(block) - 4), 4), "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise UnreadableFile("damaged table, a block without entries")
    at, key, budget = 0, b"", bounds.TABLE_KEYS * size
    while at < end:
        head, used = window.piece(at, 3 * LONGEST), 0
        shared, used = varint(head, used)
        unshared, used = varint(head, used)
        length, used = varint(head, used)
        at += used
        if shared > len(key) or at + unshared + length > end:
            raise UnreadableFile("damaged table, an entry ends behind its block")
        key = key[:shared] + bytes(content(window.piece(at, unshared)))
        budget -= len(key)
        if budget < 0:
            raise UnreadableFile("damaged table, its keys are too long")
        at += unshared
        yield key, window.piece(at, length)
        at += length


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """A variable-length number, and where it ends."""
    try:
        return protobuf.varint(data, at)
    except UnreadableFile as error:
        raise UnreadableFile("truncated or damaged, it ends within a number") from error


def unsnap(data: memoryview) -> memoryview:
    """Undo Snappy: a length, then literals and copies of what came before.

    Raises:
        UnreadableFile: damaged.
    """
    size, at = varint(data, 0)
    if size > bounds.SNAPPY * len(data):
        raise UnreadableFile("damaged Snappy block, its size cannot be right")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        kind, length = tag & 3, (tag >> 2) + 1
        at += 1
        if kind == 0:  # a literal, its length in the tag or in 1 to 4 bytes
            if length > 60:
                width = length - 60
                length, at = int.from_bytes(data[at : at + width], "little") + 1, at + width
            if at + length > len(data):
                raise UnreadableFile("truncated Snappy block")
            out += data[at : at + length]
            at += length
        else:  # a copy: offsets of 11 bits (three of them in the tag), 16 or 32
            width = (1, 2, 4)[kind - 1]
            offset, at = int.from_bytes(data[at : at + width], "little"), at + width
            if kind == 1:
                offset, length = offset | (tag >> 5) << 8, (tag >> 2 & 7) + 4
            if not 0 < offset <= len(out):
                raise UnreadableFile("damaged Snappy block, a copy from before its beginning")
            first = len(out) - offset
            piece = out[first : first + length]  # shorter than length where it runs into itself
            out += (piece * (length // len(piece) + 1))[:length]
        if len(out) > size:
            break
    if len(out) != size:
        raise UnreadableFile("damaged Snappy block")
    return memoryview(bytes(out))
