"""``.npy`` (numpy.lib.format): an array, or objects as a pickle (``numpy.save`` of a dict of arrays)."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint, Tensor
from converter.core.errors import ForeignFile, UnreadableFile
from converter.core.mapping import mapped, steady
from converter.formats.damage import damaged
from converter.formats.torch.bare_pickle import read_bare_pickle
from densenet.bounds import never_ends

NAME = "npy"
MAGIC = b"\x93NUMPY"
ENTRY = re.compile(
    r"\s*'(?P<key>descr|fortran_order|shape)'\s*:\s*('(?P<type>[<>|=]?[biufcSUVO]\d{0,9})'|(?P<flag>True|False)"
    r"|\((?P<shape>[\d\s,L]{0,999})\))\s*,?"
)
"""One of the three of a header, as ``repr`` writes them; Python 2 wrote an L behind long numbers."""


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins like numpy's."""
    return head.startswith(MAGIC)


def open_npy(path: Path) -> Checkpoint:
    """Open an ``.npy`` that holds objects."""
    data: Array = mapped(path)
    tree, inert = read_npy(steady(data[: bounds.NPY_HEADER]).tobytes(), len(data), lambda: data, str(path), "it")
    if isinstance(tree, Tensor):
        raise ForeignFile(f"{path}: one array, not a checkpoint")
    return Checkpoint(path, NAME, tree, files=(path,), inert=inert)


def read_npy(
    head: bytes, length: int, whole: Callable[[], Array], where: str, name: str
) -> tuple[Any, tuple[str, ...]]:
    """What the bytes of an ``.npy`` hold: an array, or a tree of objects and the classes that became inert records.

    Args:
        head: the first :data:`bounds.NPY_HEADER` of them, or all.
        length: how many there are.
        whole: all of them, flat; an array's are asked for when it is read.
        where: names the file in errors.
        name: names these bytes there.

    Raises:
        UnreadableFile: damaged or truncated.
        UnsafeFile: its objects ask for code to be run.
    """
    with damaged(f"{where}: {name} is not an array", why=str):
        shape, fortran, dtype, start = _header(head)
    if dtype.hasobject:
        return read_bare_pickle(whole()[start:].data, where)
    size = prod(shape) * dtype.itemsize
    if start + size > length:
        raise UnreadableFile(f"{where}: truncated, {name} is not complete")
    return Tensor.over(lambda: whole()[start : start + size], dtype, shape, fortran=fortran), ()


def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether the first index runs fastest, type, and where the values begin (numpy.lib.format).

    Raises:
        ValueError: it is none, or of a type that holds neither numbers, text nor objects.
    """
    width = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}.get(head[6:8], 0)
    start = 8 + width + int.from_bytes(head[8 : 8 + width], "little")
    if not head.startswith(MAGIC) or not width or start > len(head):
        raise ValueError("its header is damaged")
    text, found = head[8 + width : start].decode("latin-1").strip(), dict[str, re.Match[str]]()
    at, end = 1, len(text) - 1
    while entry := ENTRY.match(text, at, end):
        at, found[entry["key"]] = entry.end(), entry
    if (text[:1], text[at:].strip()) != ("{", "}") or len(found) != 3:
        raise ValueError("its header is damaged")
    kind, flag, axes = found["descr"]["type"], found["fortran_order"]["flag"], found["shape"]["shape"]
    if kind is None or flag is None or axes is None:
        raise ValueError("its header is damaged")
    shape = tuple(int(axis.strip().rstrip("L")) for axis in axes.split(",") if axis.strip())
    if len(shape) > bounds.DIMENSIONS:
        raise ValueError("its header is damaged")
    return shape, flag == "True", np.dtype(kind), start


def read_array(path: Path) -> Array:
    """The numbers of an ``.npy`` that holds one array, in memory.

    Raises:
        UnreadableFile: it is none, or damaged.
    """
    try:
        if never_ends(path):
            raise UnreadableFile(f"{path}: no regular file")
        size = path.stat().st_size
        with path.open("rb") as file:
            value, _ = read_npy(
                file.read(bounds.NPY_HEADER), size, lambda: np.fromfile(path, np.uint8), str(path), "it"
            )
        if not isinstance(value, Tensor):
            raise UnreadableFile(f"{path}: holds objects, not an array")
        return value.read()
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror or error})") from error
