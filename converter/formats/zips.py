"""A zip file whose stored members can be used in place.  Shared by the formats that are zips."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array
from converter.core.errors import CannotExpress, UnreadableFile
from converter.core.mapping import mapped, steady
from converter.core.metadata import from_comment, to_comment
from converter.formats.damage import damaged

DAMAGE = (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, OSError)
"""What ``zipfile`` raises for a damaged one."""


class Zip:
    """Members by name; sizes are checked against the file before anything is allocated.

    Attributes:
        metadata: what the comment says, where this tool wrote it.

    Raises:
        UnreadableFile: damaged, encrypted, or using a compression we do not read.
    """

    def __init__(self, path: Path, inner: Array | None = None, broken: str = "damaged or truncated zip") -> None:
        self.path = path
        self.bytes: Array = mapped(path) if inner is None else inner
        with damaged(f"{path}: {broken}", *DAMAGE, why=str):
            _check_directory(self.bytes)
        with (
            damaged(f"{path}: {broken}", *DAMAGE, why=str),
            zipfile.ZipFile(path if inner is None else io.BytesIO(steady(inner).data)) as archive,
        ):
            self.infos = {info.filename: info for info in archive.infolist()}
            self.metadata = from_comment(archive.comment.decode("utf-8", "replace"))
        self.names = list(self.infos)
        packed = sum(info.file_size for info in self.infos.values() if info.compress_type != zipfile.ZIP_STORED)
        if packed > max(bounds.LARGE, bounds.LARGE_INFLATED * len(self.bytes)):
            raise UnreadableFile(f"{path}: its members unpack to more than {bounds.LARGE_INFLATED} times its size")
        ends = sorted((info.header_offset, info.compress_size) for info in self.infos.values())
        if any(start + size > following for (start, size), (following, _) in pairwise(ends)):
            raise UnreadableFile(f"{path}: {broken} (members that overlap)")

    def zip_in(self, name: str) -> Zip:
        """A member that is a zip itself."""
        return Zip(self.path, self.place(name), f"{name} is damaged")

    def size(self, name: str) -> int:
        """Uncompressed size of a member in bytes."""
        if name not in self.infos:
            raise UnreadableFile(f"{self.path}: the zip lacks {name}")
        return self.infos[name].file_size

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of a member, no more than that inflated."""
        raw, stored = self._raw(name)
        if stored:
            return steady(raw[:size]).tobytes()
        with damaged(f"{self.path}: damaged zip member {name}", zlib.error, why=str):
            return zlib.decompressobj(-15).decompress(steady(raw).data, size)

    def read(self, name: str) -> Array:
        """A member as a flat array of bytes, in memory."""
        return steady(self.place(name))

    def place(self, name: str) -> Array:
        """A member as a flat array of bytes: a view of the mapped file if stored, else inflated."""
        raw, stored = self._raw(name)
        if stored:
            return raw
        size = self.size(name)
        with damaged(f"{self.path}: damaged zip member {name}", zlib.error, why=str):
            data = zlib.decompressobj(-15).decompress(steady(raw).data, size + 1)
        if len(data) != size or zlib.crc32(data) != self.infos[name].CRC:
            raise UnreadableFile(f"{self.path}: damaged zip member {name}")
        return np.frombuffer(data, np.uint8)

    def _raw(self, name: str) -> tuple[Array, bool]:
        """A member's bytes as they lie in the file, and whether they are stored as they are."""
        size, info = self.size(name), self.infos[name]
        start = info.header_offset
        header = steady(self.bytes[start : start + 30]).tobytes()
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise UnreadableFile(f"{self.path}: damaged zip, no member header for {name}")
        if info.flag_bits & 1:
            raise UnreadableFile(f"{self.path}: encrypted zip")
        names, extra = struct.unpack("<HH", header[26:30])
        start += 30 + names + extra
        raw = self.bytes[start : start + info.compress_size]
        if len(raw) < info.compress_size:
            raise UnreadableFile(f"{self.path}: truncated, {name} ends behind the end of the file")
        if info.compress_type == zipfile.ZIP_STORED and size == info.compress_size:
            return raw, True
        ratio = bounds.INFLATED if size < bounds.LARGE else bounds.LARGE_INFLATED
        if info.compress_type != zipfile.ZIP_DEFLATED or size > info.compress_size * ratio:
            raise UnreadableFile(f"{self.path}: {name} has a size or compression that cannot be right")
        return raw, False


def _check_directory(data: Array) -> None:
    """Raise ValueError for a directory of too many members, each of which would become an object (APPNOTE.TXT, 4.3)."""
    tail = steady(data[-(22 + zipfile.ZIP_MAX_COMMENT) :]).tobytes()
    end = tail.rfind(b"PK\5\6")
    size = int.from_bytes(tail[end + 12 : end + 16], "little") if end >= 0 else 0
    if size == 0xFFFFFFFF and tail[end - 20 : end - 16] == b"PK\6\7":  # zip64: the end of its directory says it
        at = int.from_bytes(tail[end - 12 : end - 4], "little")
        size = int.from_bytes(steady(data[at + 40 : at + 48]).tobytes(), "little")
    if size > bounds.DIRECTORY:
        raise ValueError(f"its directory has {size:,} bytes, {bounds.DIRECTORY:,} are read")


ALIGNMENT = 64
HEADER = 30
"""Bytes of a member's header before its name."""
EPOCH = (1980, 1, 1, 0, 0, 0)


class ZipWriter(zipfile.ZipFile):
    """Adds members one by one; each begins at a multiple of 64 bytes, so that it can be mapped.

    Its ``comment``, which readers of zips pass over, is written when it is closed.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, "w", zipfile.ZIP_STORED)
        self.target = file

    def add(self, name: str, *data: bytes | memoryview) -> None:
        """Add a member, in pieces of single bytes."""
        info = zipfile.ZipInfo(name, EPOCH)
        info.file_size = sum(map(len, data))
        used = self.target.tell() + HEADER + len(name.encode()) + 4
        padding = -used % ALIGNMENT
        info.extra = struct.pack("<HH", 0x4246, padding) + b"Z" * padding  # "FB", the id torch uses for padding
        with self.open(info, "w") as member:
            for piece in data:
                member.write(piece)


def comment_of(path: Path, metadata: Mapping[str, str]) -> bytes:
    """Metadata as a zip's comment.

    Raises:
        CannotExpress: a comment has no room for so much.
    """
    comment = to_comment(metadata).encode()
    if len(comment) > zipfile.ZIP_MAX_COMMENT:
        raise CannotExpress(
            f"{path}: has room for {zipfile.ZIP_MAX_COMMENT:,} bytes of class names and the like, not for "
            f"{len(comment):,}; write a .safetensors file"
        )
    return comment
