"""``.npy`` (numpy.lib.format): an array, or objects as a pickle (``numpy.save`` of a dict of arrays)."""

from __future__ import annotations

import io
from collections.abc import Callable
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
HEAD = 1 << 16
"""Bytes that hold any header."""


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins like numpy's."""
    return head.startswith(MAGIC)


def open_npy(path: Path) -> Checkpoint:
    """Open an ``.npy`` that holds objects."""
    data: Array = np.memmap(path, np.uint8, mode="r")
    tree, inert = read_npy(data[:HEAD].tobytes(), len(data), lambda: data, str(path), "it")
    if isinstance(tree, Tensor):
        raise UnreadableFile(f"{path}: one array, not a checkpoint")
    return Checkpoint(path, NAME, tree, files=(path,), inert=inert)


def read_npy(
    head: bytes, length: int, whole: Callable[[], Array], where: str, name: str
) -> tuple[Any, tuple[str, ...]]:
    """What the bytes of an ``.npy`` hold: an array, or a tree of objects and the classes that became inert records.

    Args:
        head: the first :data:`HEAD` of them, or all.
        length: how many there are.
        whole: all of them, flat; an array's are asked for when it is read.
        where: names the file in errors.
        name: names these bytes there.

    Raises:
        UnreadableFile: damaged or truncated.
        UnsafeFile: its objects ask for code to be run.
    """
    stream = io.BytesIO(head)
    with damaged(f"{where}: {name} is not an array", *MALFORMED, EOFError, why=str):
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read_header[version](stream)
    start = stream.tell()
    if dtype.hasobject:
        return read_bare_pickle(whole()[start:].data, where)
    size = prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or start + size > length:
        raise UnreadableFile(f"{where}: truncated, {name} is not complete")
    return Tensor.over(lambda: whole()[start : start + size], dtype, shape, fortran=fortran), ()
