"""Files read in place, and read for certain.

A mapped file costs no memory, but a page that was cut off since kills the process that looks at it (SIGBUS), and its
caller's interpreter with it.  So what is mapped is only pointed at, and looked at through the file's descriptor:
values when they are needed, structure a few kB at a time.  What has changed by then is an error.
"""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.errors import UnreadableFile

Numbers = np.ndarray[Any, Any]

WINDOW = 1 << 12
"""Bytes of structure that are read at a time; what is no longer than that is always a copy."""


class Stamp:
    """Which file a path or descriptor is, and its state."""

    def __init__(self, status: os.stat_result) -> None:
        self.told = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def check(self, status: os.stat_result, path: Path) -> None:
        """Compare with a later state.

        Raises:
            UnreadableFile: it is another.
        """
        if Stamp(status).told != self.told:
            raise UnreadableFile(f"{path}: changed while it was read")


class _Mapping(mmap.mmap):
    """The bytes of a file."""

    path: Path
    descriptor: int
    stamp: Stamp
    address: int

    def again(self, start: int, size: int) -> Numbers:
        """Some of them, read through the descriptor."""
        result = np.empty(size, np.uint8)
        done, view = 0, result.data
        while done < size:
            got = os.preadv(self.descriptor, [view[done:]], start + done)
            if not got:
                break
            done += got
        self.stamp.check(os.fstat(self.descriptor), self.path)
        if done < size:
            raise UnreadableFile(f"{self.path}: changed while it was read")
        result.flags.writeable = False
        return result


def mapped(path: Path) -> Numbers:
    """All bytes of a file, flat, read when they are looked at; errors as for :func:`opened`."""
    return np.frombuffer(opened(path), np.uint8)


def opened(path: Path) -> mmap.mmap:
    """A file mapped into memory.

    Raises:
        OSError, ValueError: it cannot be opened, or is empty.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        mapping = _Mapping(handle, 0, access=mmap.ACCESS_READ)
        mapping.path, mapping.descriptor, mapping.stamp = path, handle, Stamp(os.fstat(handle))
        mapping.address = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
    except BaseException:
        os.close(handle)
        raise
    weakref.finalize(mapping, os.close, handle)
    return mapping


def steady(raw: Numbers) -> Numbers:
    """Bytes or numbers that no change of their file can take away: a copy of what is mapped, else themselves.

    Args:
        raw: contiguous, flat.

    Raises:
        UnreadableFile: the file changed since it was opened.
    """
    owner = _owner(raw)
    if owner is None or not raw.nbytes:
        return raw
    start = raw.__array_interface__["data"][0] - owner.address
    return owner.again(start, raw.nbytes).view(raw.dtype)


def is_mapped(raw: Numbers | memoryview) -> bool:
    """Whether these are bytes of a mapped file, which a change of it can take away."""
    return _owner(raw) is not None


def _owner(raw: Numbers | memoryview) -> _Mapping | None:
    owner: Any = raw if hasattr(os, "preadv") else None
    while owner is not None and not isinstance(owner, _Mapping):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    return owner


def content(view: memoryview) -> memoryview:
    """Single bytes that no change of their file can take away; errors as for :func:`steady`."""
    return steady(np.frombuffer(view, np.uint8)).data


class Window:
    """Flat bytes that are looked at from front to back, those of a mapped file through its descriptor."""

    def __init__(self, data: Numbers | memoryview) -> None:
        self.data = np.frombuffer(data, np.uint8)
        self.step = WINDOW if is_mapped(self.data) else len(self.data)
        self.first, self.held = 0, memoryview(b"")

    def piece(self, start: int, size: int) -> memoryview:
        """Some of the bytes, fewer where they end: a copy of a few, a view of many (for :func:`steady`)."""
        at = start - self.first
        if at < 0 or at + size > len(self.held):
            if size > self.step:
                return self.data[start : start + size].data
            self.first, at = start, 0
            self.held = steady(self.data[start : start + self.step]).data
        return self.held[at : at + size]
