"""npz: a zip of ``.npy`` members (numpy.lib.format).  Members that hold Python objects are refused."""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import CannotExpress, UnreadableFile, UnsafeFile
from converter.core.files import replacing
from converter.formats.damage import MALFORMED, damaged
from converter.formats.zips import Zip, ZipWriter

NAME = "npz"


def matches(archive: Zip) -> bool:
    """Whether every member of the zip is an array."""
    return bool(archive.names) and all(name.endswith(".npy") for name in archive.names)


def open_npz(path: Path) -> Checkpoint:
    """Open an npz as ``numpy.savez`` and ``savez_compressed`` write it."""
    archive = Zip(path)
    tree = {name.removesuffix(".npy"): _tensor(archive, name) for name in archive.names}
    return Checkpoint(path, NAME, tree, files=(path,))


def _tensor(archive: Zip, name: str) -> Tensor:
    stream = io.BytesIO(archive.head(name, 1 << 16))
    with damaged(f"{archive.path}: {name} is not an array", *MALFORMED, EOFError, why=str):
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read_header[version](stream)
    if dtype.hasobject:
        raise UnsafeFile(f"{archive.path}: refused, {name} holds pickled Python objects; nothing was executed")
    start, size = stream.tell(), prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or start + size > archive.size(name):
        raise UnreadableFile(f"{archive.path}: truncated, {name} is not complete")
    if archive.stored(name):
        return Tensor.over(archive.read(name)[start : start + size], dtype, shape, fortran=fortran)
    return Tensor.over(lambda: archive.read(name)[start : start + size], dtype, shape, fortran=fortran)


def write_npz(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as the members of an npz.

    Raises:
        CannotExpress: an element type numpy alone does not know (bfloat16).
        CannotWrite: the target cannot be written.
    """
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "V":
            raise CannotExpress(f"{path}: npz cannot hold {name} of type {tensor.dtype}; use --dtype fp32")
    with replacing(path) as file, ZipWriter(file) as archive:
        for name, tensor in tensors.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(tensor.read(), order="C"), allow_pickle=False)
            archive.add(f"{name}.npy", member.getvalue())
