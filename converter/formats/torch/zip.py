"""PyTorch's zip container (torch.save since 1.6; also what TorchScript uses).

A zip of stored members under one folder: ``data.pkl``, one member per storage in
``data/``, ``byteorder``, ``version``.  Stored members are used in place, mapped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converter.core.checkpoint import Checkpoint
from converter.core.errors import UnreadableFile
from converter.formats.torch.bare_pickle import NDARRAY, with_arrays
from converter.formats.torch.pickle import Pickle
from converter.formats.torch.tensors import Storage, builders, mapped, storage_dtype
from converter.formats.zips import Zip

NAME = "torch zip"


def matches(archive: Zip) -> bool:
    """Whether this zip is one of torch's."""
    return any(name.endswith("/data.pkl") or name == "data.pkl" for name in archive.names)


def open_zip(path: Path) -> Checkpoint:
    """Open a zip written by ``torch.save``.

    Raises:
        UnreadableFile: damaged, or without a pickle.
        UnsafeFile: the pickle asks for code to be run.
    """
    archive = Zip(path)
    name = next(n for n in archive.names if n.endswith("data.pkl"))
    folder = name.removesuffix("data.pkl")
    tree, inert = read_pickle(archive, name, f"{folder}data/")
    for other in archive.names:
        if other.endswith(".pkl") and other != name:  # a TorchScript module's constants: nothing of ours, but looked at
            Pickle(archive.read(other).data, str(path), persistent=lambda _: None).load()
    scripted = any(member.startswith(f"{folder}code/") for member in archive.names)
    return Checkpoint(path, "TorchScript" if scripted else NAME, tree, files=(path,), inert=inert)


def read_pickle(archive: Zip, pickle: str, folder: str) -> tuple[Any, tuple[str, ...]]:
    """One pickle of a torch zip, its storages being the members of ``folder``; and what became inert.

    Raises:
        UnreadableFile: damaged, or a storage is missing or too short.
        UnsafeFile: it asks for code to be run.
    """
    where = str(archive.path)
    member = f"{pickle.rpartition('/')[0]}/byteorder".lstrip("/")
    order = bytes(archive.read(member)).strip() if member in archive.names else b"little"
    if order not in (b"little", b"big"):
        raise UnreadableFile(f"{where}: unknown byte order {order!r}")
    storages: dict[str, Storage] = {}

    def persistent(pid: Any) -> Storage:
        kind, cls, key, _device, numel = pid[:5]
        if kind != "storage" or not isinstance(key, (str, int)):
            raise UnreadableFile(f"{where}: a reference of unknown kind")
        key = str(key)
        if key not in storages:
            dtype, member = storage_dtype(cls, where), f"{folder}{key}"
            storage = storages[key] = Storage(key, dtype, int(numel), where)
            size = storage.numel * dtype.itemsize
            if archive.size(member) < size:
                raise UnreadableFile(f"{where}: {member} holds {archive.size(member)} bytes, {size} are needed")
            storage.fetch = lambda: mapped(archive.read(member), 0, dtype, storage.numel, big=order == b"big")
        return storages[key]

    machine = Pickle(archive.read(pickle).data, where, builders=builders(where), persistent=persistent)
    tree = machine.load()
    return (with_arrays(tree, where) if NDARRAY in machine.inert else tree), tuple(machine.inert)
