"""PyTorch's first container, a tar (torch.save before 0.1.10).

Members: ``storages`` (a count; per storage a pickle (key, location, class), an int64
element count and the elements; then the storage views), ``tensors`` (a count; per
tensor a pickle (key, storage key, class), int32 dimensions, four unused bytes, int64
sizes, strides and offset), ``pickle`` (the object, whose persistent ids are tensor
keys).  Source: torch/serialization.py, ``legacy_load``.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint, Tensor
from converter.core.errors import UnreadableFile
from converter.core.mapping import mapped
from converter.formats.tars import is_tar, members
from converter.formats.torch.pickle import Pickle
from converter.formats.torch.tensors import Storage, builders, storage_dtype, strided

NAME = "torch tar"


def matches(path: Path, head: bytes) -> bool:
    """Whether the file is a tar with the members torch wrote."""
    if not is_tar(head):
        return False
    with suppress(UnreadableFile):
        found = members(mapped(path), str(path))
        return {"storages", "tensors", "pickle"} <= {member.name for member in found}
    return False


def open_tar(path: Path) -> Checkpoint:
    """Open a tar written by the first versions of ``torch.save``."""
    where = str(path)
    data = mapped(path)
    parts = {member.name: data[member.start :][: member.size] for member in members(data, where)}
    storages = _read_storages(parts["storages"], where)
    tensors = _read_tensors(parts["tensors"], storages, where)

    def persistent(pid: Any) -> Any:
        if isinstance(pid, tuple):  # (class, source file, source text)
            return pid[0]
        if int(pid) not in tensors:
            raise UnreadableFile(f"{path}: tensor {pid} is not in the file")
        return tensors[int(pid)]

    pickle = Pickle(parts["pickle"].data, where, builders=builders(where), persistent=persistent)
    return Checkpoint(path, NAME, pickle.load(), files=(path,), inert=tuple(pickle.inert))


def _read_storages(data: Array, where: str) -> dict[int, Storage]:
    stream = Pickle(data.data, where, builders=builders(where))
    storages: dict[int, Storage] = {}
    for _ in range(int(stream.load())):
        key, _location, cls = stream.load()
        dtype = storage_dtype(cls, where)
        numel = struct.unpack("<q", stream.take(8))[0]
        storage = storages[int(key)] = Storage(str(key), dtype, numel, where)
        start = stream.end
        stream.take(numel * dtype.itemsize)
        storage.lies_in(lambda: data, start)
    for target, root_key, offset, numel in stream.load():
        storages[int(target)] = storages[int(root_key)].window(target, int(offset), int(numel))
    return storages


def _read_tensors(data: Array, storages: dict[int, Storage], where: str) -> dict[int, Tensor]:
    stream = Pickle(data.data, where, builders=builders(where))
    tensors: dict[int, Tensor] = {}
    for _ in range(int(stream.load())):
        key, storage_key, _cls = stream.load()
        dims = struct.unpack("<i", stream.take(8)[:4])[0]
        if not 0 <= dims <= bounds.DIMENSIONS:
            raise UnreadableFile(f"{where}: a tensor with {dims} dimensions")
        shape = struct.unpack(f"<{dims}q", stream.take(8 * dims))
        stride = struct.unpack(f"<{dims}q", stream.take(8 * dims))
        offset = struct.unpack("<q", stream.take(8))[0]
        if int(storage_key) not in storages:
            raise UnreadableFile(f"{where}: storage {storage_key} is not in the file")
        storage = storages[int(storage_key)]
        tensors[int(key)] = strided(storage, storage.dtype, offset, shape, stride, where)
    return tensors
