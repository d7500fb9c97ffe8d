"""One checkpoint inside something: compressed (gzip, bz2, xz, lzma, zlib), or the only one in a zip or tar.

It is unpacked into a temporary file, which is gone as soon as its reader has mapped it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint
from converter.core.errors import CannotWrite, ConverterError, UnreadableFile
from converter.core.files import scratch
from converter.core.mapping import mapped, steady
from converter.core.metadata import parsed
from converter.formats.tars import is_tar, members

Opener = Callable[[Path], Checkpoint]
CHUNK = 1 << 20
CALLED = 60
"""Characters of a member's name that its file is called by, from the end: the ending tells what it is."""
SUFFIXES = (
    *(".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".pkl", ".h5", ".hdf5", ".keras", ".npz", ".npy", ".onnx", ".t7"),
    *(".pdparams", ".params", ".caffemodel", ".joblib", ".tar", ".gz", ".pb", ".pt2", ".th", ".weights"),
)
"""What a checkpoint among the members of an archive is called like."""
TEXTS = (
    *(".py", ".pyc", ".txt", ".json", ".yaml", ".yml", ".md", ".csv", ".log", ".toml", ".cfg", ".ini", ".sh", ".xml"),
    *(".html", ".ipynb", ".png", ".jpg", ".jpeg", ".pdf", ".prototxt", ".distcp"),
)
"""What is none, or not alone."""
MANIFEST = "MAR-INF/MANIFEST.json"
DAMAGED = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    ValueError,
    RuntimeError,
)


class _Zlib:
    """A zlib stream as a file to read (joblib's ``compress=3``)."""

    def __init__(self, path: Path) -> None:
        self.file, self.machine = path.open("rb"), zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        while not self.machine.eof:
            data = self.machine.unconsumed_tail or self.file.read(CHUNK)
            if not data:
                raise EOFError("ends in the middle")
            if found := self.machine.decompress(data, size):
                return found
        return b""

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class _Piece:
    """Bytes of a mapped file as a file to read."""

    def __init__(self, data: Array) -> None:
        self.data = data

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        piece, self.data = steady(self.data[:size]), self.data[size:]
        return piece.tobytes()

    def close(self) -> None:
        """Let go of the file."""
        self.data = self.data[:0]


KINDS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"]\x00\x00": lzma.open,
    b"x\x01": _Zlib,
    b"x^": _Zlib,
    b"x\x9c": _Zlib,
    b"x\xda": _Zlib,
}


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins like one that is compressed, or like a tar."""
    return head.startswith(tuple(KINDS)) or is_tar(head)


def open_packed(path: Path, opener: Opener) -> Checkpoint:
    """The checkpoint in a compressed file, a tar or a zip.

    Raises:
        UnreadableFile: it is damaged, or holds no checkpoint or several; names them.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
        kind = next((kind for magic, kind in KINDS.items() if head.startswith(magic)), None)
        if kind is not None:
            name = path.stem if path.suffix in (".gz", ".bz2", ".xz", ".lzma", ".z") else path.name
            with _unpacked(path, kind(path), name) as inner:
                return _opened(path, inner, opener)
        if head.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name and not name.endswith("/")]
                chosen = _named(names, lambda name: archive.open(name).read(bounds.MANIFEST)) or _only(path, names)
                with _unpacked(path, archive.open(chosen), chosen) as inner:
                    return _opened(path, inner, opener)
        data = mapped(path)
        found = {member.name: member for member in members(data, str(path))}

        def bytes_of(name: str, most: int | None = None) -> Array:
            return data[found[name].start :][: found[name].size][:most]

        chosen = _named(list(found), lambda name: steady(bytes_of(name, bounds.MANIFEST)).tobytes()) or _only(
            path, list(found)
        )
        with _unpacked(path, _Piece(bytes_of(chosen)), chosen) as inner:
            return _opened(path, inner, opener)
    except ConverterError:
        raise
    except DAMAGED as error:
        raise UnreadableFile(f"{path}: damaged, it cannot be unpacked ({type(error).__name__})") from error


def _opened(path: Path, inner: Path, opener: Opener) -> Checkpoint:
    """What is inside, as the archive's; errors name the archive and, of more than a stream, the member."""
    try:
        return replace(opener(inner), path=path, files=(path,))
    except ConverterError as error:
        named = str(path) if inner.suffix == ".tar" or inner.name == path.name else f"{path}: {inner.name} in it"
        raise type(error)(str(error).replace(str(inner), named)) from error


def _named(names: list[str], read: Callable[[str], bytes]) -> str:
    """The member that TorchServe's manifest names; empty without one (pytorch/serve, model_archiver)."""
    if MANIFEST not in names:
        return ""
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        named = str(parsed(read(MANIFEST))["model"]["serializedFile"])
        return named if named in names else ""
    return ""


def _only(path: Path, names: list[str]) -> str:
    """The one member that is called like a checkpoint; or, where none is, the one that may be one."""
    plain = [name for name in names if not PurePosixPath(name).name.startswith(".")]
    found = [name for name in plain if name.lower().endswith(SUFFIXES)]
    found = found or [name for name in plain if not name.lower().endswith(TEXTS)]
    if len(found) == 1:
        return found[0]
    some = ", ".join((found or names)[:4]) or "nothing"
    some += " ..." if len(found or names) > 4 else ""
    if found:
        raise UnreadableFile(f"{path}: an archive of {len(found)} checkpoints ({some}); unpack it and name one")
    raise UnreadableFile(f"{path}: an archive without tensors, and without one checkpoint in it ({some}); unpack it")


def _put(target: IO[bytes], chunk: bytes, path: Path) -> None:
    """Write and flush: what fails here is the disk, not the archive."""
    try:
        target.write(chunk)
        target.flush()
    except OSError as error:
        why = error.strerror or error
        raise CannotWrite(f"{path}: cannot be unpacked ({why}); set TMPDIR to a folder with room") from error


@contextmanager
def _unpacked(path: Path, source: Any, name: str) -> Iterator[Path]:
    """A stream as a file of its own, for as long as it is being opened."""
    size = path.stat().st_size
    limit = min(bounds.INFLATED * size + CHUNK, max(bounds.LARGE, bounds.LARGE_INFLATED * size))
    with scratch() as folder:
        inner = folder / (PurePosixPath(name).name[-CALLED:] or "checkpoint")
        with inner.open("wb") as target:
            while chunk := source.read(CHUNK):
                _put(target, chunk, path)
                if target.tell() > limit:
                    raise UnreadableFile(f"{path}: unpacks to more than {limit >> 20} MB; weights hardly shrink")
        source.close()
        yield inner
