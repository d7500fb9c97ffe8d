"""``.npy`` of an object: ``numpy.save`` of a dict of arrays, a header and then a pickle (numpy.lib.format)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from converter.core.checkpoint import Checkpoint
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
    data = np.memmap(path, np.uint8, mode="r")
    stream = io.BytesIO(data[: 1 << 16].tobytes())
    with damaged(f"{path}: not an array", *MALFORMED, EOFError, why=str):
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        _, _, dtype = read_header[version](stream)
    if not dtype.hasobject:
        raise UnreadableFile(f"{path}: one array, not a checkpoint")
    tree, inert = read_bare_pickle(data[stream.tell() :].data, str(path))
    return Checkpoint(path, NAME, tree, files=(path,), inert=inert)
