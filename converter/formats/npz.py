"""npz: a zip of ``.npy`` members (numpy.lib.format).  Members that hold Python objects are refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from converter.checkpoint import Checkpoint, Tensor
from converter.errors import UnreadableFile, UnsafeFile
from converter.formats.zips import Zip

NAME = "npz"


def matches(archive: Zip) -> bool:
    """Whether every member of the zip is an array."""
    return bool(archive.names) and all(name.endswith(".npy") for name in archive.names)


def open_npz(path: Path) -> Checkpoint:
    """Open an npz as ``numpy.savez`` and ``savez_compressed`` write it.

    Raises:
        UnreadableFile: damaged.
        UnsafeFile: a member holds pickled Python objects.
    """
    archive = Zip(path)
    tree = {name.removesuffix(".npy"): _tensor(archive, name) for name in archive.names}
    return Checkpoint(path, NAME, tree, files=(path,))


def _tensor(archive: Zip, name: str) -> Tensor:
    member = archive.read(name)
    stream = io.BytesIO(member[: 1 << 16].tobytes())
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read_header[version](stream)
    except (ValueError, KeyError, EOFError) as error:
        raise UnreadableFile(f"{archive.path}: {name} is not an array ({error})") from error
    if dtype.hasobject:
        raise UnsafeFile(f"{archive.path}: refused, {name} holds pickled Python objects; nothing was executed")
    start, size = stream.tell(), int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if start + size > len(member):
        raise UnreadableFile(f"{archive.path}: truncated, {name} is not complete")

    def read() -> np.ndarray[Any, Any]:
        flat = member[start : start + size].view(dtype)
        array = flat.reshape(shape[::-1]).transpose() if fortran else flat.reshape(shape)
        return array if dtype.isnative else array.astype(dtype.newbyteorder("="))

    return Tensor(tuple(shape), dtype.newbyteorder("="), read)
