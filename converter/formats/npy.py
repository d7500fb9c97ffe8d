"""``.npy`` (numpy.lib.format): an array, or objects as a pickle (``numpy.save`` of a dict of arrays)."""

from __future__ import annotations

import io
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array, Checkpoint, Tensor
from converter.core.errors import UnreadableFile
from converter.formats.damage import MALFORMED, damaged
from converter.formats.torch.bare_pickle import read_bare_pickle

NAME = "npy"
MAGIC = b"\x93NUMPY"


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins like numpy's."""
    return head.startswith(MAGIC)


def open_npy(path: Path) -> Checkpoint:
    """Open an ``.npy`` that holds objects."""
    tree, inert = read_npy(np.memmap(path, np.uint8, mode="r"), str(path), "it")
    if isinstance(tree, Tensor):
        raise UnreadableFile(f"{path}: one array, not a checkpoint")
    return Checkpoint(path, NAME, tree, files=(path,), inert=inert)


def read_npy(data: Array, where: str, name: str) -> tuple[Any, tuple[str, ...]]:
    """What the bytes of an ``.npy`` hold: an array, or a tree of objects and the classes that became inert records.

    Args:
        data: the bytes, flat.
        where: names the file in errors.
        name: names these bytes there.

    Raises:
        UnreadableFile: damaged or truncated.
        UnsafeFile: its objects ask for code to be run.
    """
    stream = io.BytesIO(data[: 1 << 16].tobytes())
    with damaged(f"{where}: {name} is not an array", *MALFORMED, EOFError, why=str):
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read_header[version](stream)
    start = stream.tell()
    if dtype.hasobject:
        return read_bare_pickle(data[start:].data, where)
    size = prod(shape) * dtype.itemsize
    if start + size > len(data):
        raise UnreadableFile(f"{where}: truncated, {name} is not complete")
    return Tensor.over(data[start : start + size], dtype, shape, fortran=fortran), ()
