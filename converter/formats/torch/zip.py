"""PyTorch's zip container (torch.save since 1.6; TorchScript has more in it, ``script.py``).

A zip of stored members under one folder: ``data.pkl``, one member per storage in
``data/``, ``byteorder``, ``version``.  Stored members are used in place, mapped.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from converter.core.checkpoint import Checkpoint
from converter.core.errors import UnreadableFile
from converter.core.metadata import MEMBER, from_member
from converter.formats.torch.numpy_arrays import is_array, with_arrays
from converter.formats.torch.pickle import Pickle
from converter.formats.torch.tensors import Storage, builders, storage_dtype
from converter.formats.zips import Zip

NAME = "torch zip"


def matches(archive: Zip) -> bool:
    """Whether this zip is one of torch's."""
    return pickle_in(archive) is not None


def pickle_in(archive: Zip) -> str | None:
    """The name, without ``.pkl``, of the pickle that holds what was saved."""
    found = (name for name in archive.names if name == "data.pkl" or name.endswith("/data.pkl"))
    return next((name.removesuffix(".pkl") for name in found), None)


def open_zip(path: Path) -> Checkpoint:
    """Open a zip written by ``torch.save``."""
    archive = Zip(path)
    name = pickle_in(archive) or "data"
    tree, inert = read_pickle(archive, name)
    for other in archive.names:
        if other.endswith(".pkl") and other != f"{name}.pkl":  # of no use, but nobody shall take it for good
            Pickle(archive.read(other).data, str(path), persistent=lambda _: None).load()
    return Checkpoint(path, NAME, tree, archive.metadata, (path,), inert)


def extra_metadata(archive: Zip) -> dict[str, str]:
    """What this tool wrote into a program, as ``extra_files`` of torch.export.save and torch.jit.save."""
    name = next((name for name in archive.names if name.endswith(f"extra/{MEMBER}")), None)
    return from_member(bytes(archive.read(name))) if name is not None else {}


def read_pickle(archive: Zip, name: str, depth: int = 0) -> tuple[Any, tuple[str, ...]]:
    """One pickle of a torch zip, its storages being the members of a folder of that name; and what became inert.

    Raises:
        UnreadableFile: damaged, or a storage is missing or too short.
        UnsafeFile: it asks for code to be run.
    """
    where = str(archive.path)
    member = f"{name.rpartition('/')[0]}/byteorder".lstrip("/")
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
            dtype, member = storage_dtype(cls, where), f"{name}/{key}"
            storage = storages[key] = Storage(key, dtype, int(numel), where)
            size = storage.numel * dtype.itemsize
            if archive.size(member) < size:
                raise UnreadableFile(f"{where}: {member} holds {archive.size(member)} bytes, {size} are needed")
            storage.lies_in(partial(archive.place, member), big=order == b"big")
        return storages[key]

    data = archive.read(f"{name}.pkl").data
    machine = Pickle(data, where, builders=builders(where), persistent=persistent, depth=depth)
    tree = machine.load()
    return (with_arrays(tree, where) if any(map(is_array, machine.inert)) else tree), tuple(machine.inert)
