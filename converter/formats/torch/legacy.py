"""PyTorch's non-zip container (torch.save from 0.1.10 to 1.5, and ``_use_new_zipfile_serialization=False``).

Five pickles in a row: magic number, protocol version, system info, the object, the
keys of its storages; then for each key an int64 element count and the elements,
always little-endian (torch/serialization.py, ``_legacy_load``; the flag in the
system info describes the writer's machine, not the data).  The storages are used in
place, mapped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.core.checkpoint import Array, Checkpoint
from converter.core.errors import UnreadableFile
from converter.core.mapping import Window, mapped, steady
from converter.formats.torch.numpy_arrays import is_array, with_arrays
from converter.formats.torch.pickle import Pickle
from converter.formats.torch.tensors import Storage, builders, storage_dtype

NAME = "torch legacy"
MAGIC = 0x1950A86A20F9469CFC6C
FRONT = 1 << 20
"""Bytes that hold the pickles of nearly every file; the storages follow."""
MAGIC_BYTES = MAGIC.to_bytes(10, "little")


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins with torch's magic number (a pickled long, in binary or in text)."""
    return MAGIC_BYTES in head[:32] or head.startswith(f"L{MAGIC}L".encode())


def open_legacy(path: Path) -> Checkpoint:
    """Open a file of the older ``torch.save``."""
    tree, inert = read_legacy(mapped(path), str(path))
    return Checkpoint(path, NAME, tree, files=(path,), inert=inert)


def read_legacy(data: Array, path: str, depth: int = 0) -> tuple[Any, tuple[str, ...]]:
    """What the bytes of such a file hold, and the classes that became inert records."""
    front = steady(data[:FRONT])
    try:
        return _parsed(data, front, path, depth)
    except UnreadableFile:
        if len(front) == len(data):
            raise
    steady(data[:1])  # says so if the file has changed: it is not to be looked at then
    return _parsed(data, data, path, depth)  # longer pickles than are usual, or damage


def _parsed(data: Array, front: Array, path: str, depth: int) -> tuple[Any, tuple[str, ...]]:
    """The same, the pickles read from a part of the bytes that holds them all."""
    where = path
    storages: dict[str, Storage] = {}

    def persistent(pid: Any) -> Any:
        kind = pid[0]
        if kind == "module":  # (kind, class, source file, source text): the class, never its source
            return pid[1]
        if kind != "storage":
            raise UnreadableFile(f"{path}: a reference of unknown kind")
        cls, key, _location, numel = pid[1:5]
        if not isinstance(key, (str, int)):
            raise UnreadableFile(f"{path}: a reference of unknown kind")
        root = storages.get(str(key)) or Storage(str(key), storage_dtype(cls, where), int(numel), where)
        storages[root.key] = root
        if len(pid) > 5 and pid[5] is not None:
            view_key, offset, size = pid[5]
            return root.window(view_key, int(offset), int(size))
        return root

    pickle = Pickle(front.data, where, builders=builders(where), persistent=persistent, depth=depth)
    if pickle.load() != MAGIC:
        raise UnreadableFile(f"{path}: not a torch file")
    version = pickle.load()
    if version != 1001:
        raise UnreadableFile(f"{path}: torch file of unknown protocol {version!r}")
    pickle.load()  # system info
    tree = pickle.load()
    keys = pickle.load()
    at, counts = pickle.end, Window(data)
    for key in keys:
        storage = storages.get(str(key))
        if at + 8 > len(data):
            raise UnreadableFile(f"{path}: truncated, the storages end after {len(data)} bytes")
        count = int.from_bytes(counts.piece(at, 8), "little", signed=True)
        if storage is None:
            raise UnreadableFile(f"{path}: storage {key} belongs to no tensor")
        size = count * storage.dtype.itemsize
        if count < storage.numel or at + 8 + size > len(data):
            raise UnreadableFile(f"{path}: truncated, storage {key} is not complete")
        storage.lies_in(lambda: data, at + 8)
        at += 8 + size
    missing = [s.key for s in storages.values() if s.fetch is None]
    if missing:
        raise UnreadableFile(f"{path}: {len(missing)} storages are not in the file")
    if any(map(is_array, pickle.inert)):
        tree = with_arrays(tree, where)
    return tree, tuple(pickle.inert)
