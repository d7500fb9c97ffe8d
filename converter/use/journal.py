"""Rows of a run in a file, block by block, as they come: what an interrupted run has done, and what shards have found.

The file is one line of JSON, which says what was asked, then frames: how long each is, its CRC-32, its content.
Nothing in it is run.  A frame that is not whole ends it, and is written again; the last of a block counts.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from converter.core import bounds
from converter.core.errors import CannotWrite, UnreadableFile
from converter.core.files import with_parents
from converter.use.rows import Rows

KIND = "rows of densenet-converter"
"""What the first line says it is."""
HEAD = struct.Struct("<QI")
DTYPES = ("<f4", "<f8", "<i8", "<i4")
Header = Mapping[str, Any]


class Journal:
    """Rows that are in a file already, and a place for more.

    Attributes:
        header: what was asked.
        known: where the frame of each block is, by the block's number: place, bytes, and what was read for it.
        closed: whether a run came to its end.
    """

    def __init__(self, path: Path, file: IO[bytes], header: Header) -> None:
        self.path, self.file, self.header = path, file, header
        self.known: dict[int, tuple[int, int, str]] = {}
        self.closed = False
        self.end = file.tell()

    def has(self, block: int, stamp: str) -> bool:
        """Whether the rows of a block are there, and what was read for them is as it was."""
        return block in self.known and self.known[block][2] == stamp

    def rows(self, block: int) -> Rows:
        """The rows of a block that is known.

        Raises:
            UnreadableFile: the file is damaged.
        """
        place = self.known[block]
        self.file.seek(place[0])
        return unpacked(self.file.read(place[1]), str(self.path))

    def add(self, rows: Rows, stamp: str) -> None:
        """Write the rows of a block behind the others.

        Raises:
            CannotWrite: the disk is full.
        """
        content = packed(rows, stamp)
        self.known[rows.block] = (self._write(content), len(content), stamp)

    def close(self) -> None:
        """Say that all is there."""
        self._write(b"")
        self.closed = True

    def _write(self, content: bytes) -> int:
        try:
            self.file.seek(self.end)
            self.file.write(HEAD.pack(len(content), zlib.crc32(content)) + content)
            self.file.flush()
        except OSError as error:
            raise CannotWrite(f"{self.path}: cannot be written ({error.strerror or error})") from error
        start, self.end = self.end + HEAD.size, self.file.tell()
        return start

    def find(self) -> None:
        """Find the frames that are whole."""
        size = os.fstat(self.file.fileno()).st_size
        while self.end + HEAD.size <= size:
            self.file.seek(self.end)
            length, crc = HEAD.unpack(self.file.read(HEAD.size))
            if length > size - self.end - HEAD.size:
                return
            content = self.file.read(length)
            if zlib.crc32(content) != crc:
                return
            if length:
                said = _said(content, str(self.path))[0]
                self.known[int(said["block"])] = (self.end + HEAD.size, length, str(said["stamp"]))
            self.closed = not length
            self.end += HEAD.size + length


@contextmanager
def journal(path: Path, header: Header) -> Iterator[Journal]:
    """A file of rows to go on with; one that was begun for something else is begun anew.

    Raises:
        CannotWrite: it cannot be written, another run writes it, or it is no such file.
    """
    line = json.dumps(header, ensure_ascii=True, allow_nan=False).encode() + b"\n"
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise CannotWrite(f"{path}: exists, and is no file; remove it")
        with with_parents(path), path.open("r+b" if path.exists() else "w+b") as file:
            _lock(path, file)
            first = file.readline(bounds.JSON)
            if first and not _is_ours(first) and not _was_begun(first):
                raise CannotWrite(not_ours(path))
            if first != line:
                file.seek(0)
                file.truncate()
                file.write(line)
                file.flush()
            found = Journal(path, file, header)
            found.find()
            file.truncate(found.end)
            yield found
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be written ({error.strerror or error})") from error


@contextmanager
def read_journal(path: Path) -> Iterator[Journal]:
    """A file of rows that is only read.

    Raises:
        UnreadableFile: it is none.
    """
    try:
        if path.exists() and not path.is_file():
            raise UnreadableFile(f"{path}: no file")
        with path.open("rb") as file:
            first = file.readline(bounds.JSON)
            if not _is_ours(first):
                raise UnreadableFile(f"{path}: no results of a shard")
            found = Journal(path, file, json.loads(first))
            found.find()
            yield found
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror or error})") from error


def is_ours(path: Path) -> bool:
    """Whether a file is one of rows."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _is_ours(file.readline(bounds.JSON))
    except OSError:
        return False


def not_ours(path: Path) -> str:
    """What is said where another file stands in the way."""
    return f"{path}: exists, and is none of what this tool writes; remove it"


def _is_ours(line: bytes) -> bool:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND


def _was_begun(line: bytes) -> bool:
    """Whether it is a first line of ours that was not written to its end."""
    ours = json.dumps({"kind": KIND})[:-1].encode()
    return not line.endswith(b"\n") and (line.startswith(ours) or ours.startswith(line))


def _lock(path: Path, file: IO[bytes]) -> None:
    """Keep a second run from writing into the same file."""
    try:
        import fcntl  # noqa: PLC0415 (there is none on Windows)
    except ImportError:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CannotWrite(f"{path}: another run is writing it") from None
    except OSError:  # a file system without locks
        return


def packed(rows: Rows, stamp: str) -> bytes:
    """Rows as bytes: the length of a JSON text, the text, arrays."""
    arrays = [np.ascontiguousarray(array) for array in rows.outputs]
    said = {
        "block": rows.block,
        "first": rows.first,
        "stamp": stamp,
        "names": rows.names,
        "places": rows.places,
        "failed": list(rows.failed.items()),
        "said": rows.said,
        "arrays": [[array.dtype.newbyteorder("<").str, array.shape] for array in arrays],
    }
    text = json.dumps(said, ensure_ascii=True, allow_nan=False).encode()
    data = (array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for array in arrays)
    return struct.pack("<Q", len(text)) + text + b"".join(data)


def _said(content: bytes, where: str) -> tuple[dict[str, Any], int]:
    """What a frame says, and where its arrays begin.

    Raises:
        UnreadableFile: it is damaged.
    """
    try:
        end = 8 + struct.unpack_from("<Q", content)[0]
        found = json.loads(content[8:end])
        if not isinstance(found, dict) or not isinstance(found.get("block"), int) or "stamp" not in found:
            raise ValueError("no block")
    except (ValueError, struct.error, RecursionError) as error:
        raise UnreadableFile(f"{where}: damaged ({error})") from error
    return found, end


def unpacked(content: bytes, where: str) -> Rows:
    """The rows that :func:`packed` made bytes of.

    Raises:
        UnreadableFile: they are damaged.
    """
    said, at = _said(content, where)
    try:
        arrays = []
        for dtype, shape in said["arrays"]:
            if dtype not in DTYPES or not all(isinstance(n, int) and n >= 0 for n in shape):
                raise ValueError(f"an array of {dtype}")
            count = int(np.prod(shape, dtype=object))
            arrays.append(np.frombuffer(content, dtype, count, at).reshape(shape))
            at += arrays[-1].nbytes
        names, places = tuple(map(str, said["names"])), tuple(map(int, said["places"]))
        failed = {int(place): str(why) for place, why in said["failed"]}
        if not {*places, *failed} <= set(range(len(names))) or any(len(array) != len(places) for array in arrays):
            raise ValueError("rows of other images")
        return Rows(
            said["block"],
            said["first"],
            names,
            places,
            tuple(arrays),
            failed,
            {str(line): int(count) for line, count in said["said"].items()},
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnreadableFile(f"{where}: damaged ({error})") from error
