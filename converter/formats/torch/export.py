"""Programs of torch.export (``.pt2``): their state dict, under its own names, and their graph.

Three layouts of the zip (torch/export/pt2_archive/_package.py, torch/export/__init__.py):
since 2.9 one raw member per storage and ``data/weights/<model>_weights_config.json``; in 2.8
``data/weights/<model>.pt``, before ``serialized_state_dict.pt``, both a torch zip in the zip.
The graph is JSON.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.dtypes import numbered
from converter.core.errors import UnreadableFile
from converter.core.metadata import parsed
from converter.formats.damage import damaged, typed
from converter.formats.torch.tensors import Storage, strided
from converter.formats.torch.zip import extra_metadata, pickle_in, read_pickle
from converter.formats.zips import Zip

NAME = "torch.export"
CONFIG = "_weights_config.json"
OLD_STATES = ("serialized_state_dict.pt", "serialized_state_dict.json")
"""Both are torch zips, whatever the second is called."""
CONSTANTS_CONFIG = "_constants_config.json"
OLD_CONSTANTS = ("serialized_constants.pt", "serialized_constants.json")

SCALARS = numbered(
    "uint8 int8 int16 int32 int64 float16 float32 float64 - complex64 complex128 bool bfloat16", 1
) | numbered("uint16 float8_e4m3fn float8_e5m2 - - - uint32 uint64", 28)
"""torch/_export/serde/schema.py, ScalarType."""


def matches(archive: Zip) -> bool:
    """Whether this zip is an exported program (it holds other torch zips, so this comes before those)."""
    return any(name in OLD_STATES or _is_weights(name) for name in archive.names)


def open_export(path: Path) -> Checkpoint:
    """Open an exported program.

    Raises:
        UnreadableFile: damaged, or it holds several programs.
        UnsafeFile: a pickle in it asks for code to be run.
    """
    archive = Zip(path)
    holders = [name for name in archive.names if name in OLD_STATES or _is_weights(name)]
    if len(holders) != 1:
        raise UnreadableFile(f"{path}: holds {len(holders)} programs; save the one you mean alone")
    holder, inert = holders[0], tuple[str, ...]()
    tree: Any
    if holder.endswith(CONFIG):
        tree = _weights(archive, holder)
    else:
        tree, inert = _inner(archive, holder)
    for other in archive.names:
        if other.endswith(".pt") and other != holder and "sample_inputs" in other and archive.size(other):
            _inner(archive, other)  # of no use here, but nobody shall take a file with code in it for good
    if not isinstance(tree, dict):
        raise UnreadableFile(f"{path}: {holder} holds no state dict")
    graph = {"program": _program(archive), "constants": _constants(archive)}
    return Checkpoint(path, NAME, tree, extra_metadata(archive), (path,), inert, graph=graph)


def _is_weights(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return folder.endswith("data/weights") and (file.endswith((CONFIG, ".pt")))


def _json(archive: Zip, name: str) -> Any:
    if archive.size(name) > bounds.JSON:
        raise UnreadableFile(f"{archive.path}: {name} is too large")
    with damaged(f"{archive.path}: {name} is damaged", ValueError, why=str):
        return parsed(archive.read(name).tobytes())


def _weights(archive: Zip, config: str) -> dict[str, Tensor]:
    """The tensors a PayloadConfig lists: views of raw members, little-endian as the machine that wrote them."""
    folder, where = config.rpartition("/")[0], str(archive.path)
    storages: dict[tuple[str, np.dtype[Any]], Storage] = {}
    result: dict[str, Tensor] = {}
    with damaged(f"{where}: {config} is damaged", why=typed):
        for name, entry in _json(archive, config)["config"].items():
            if entry["use_pickle"]:
                raise UnreadableFile(f"{where}: {name} is a subclass of Tensor, which cannot be read")
            meta, member = entry["tensor_meta"], f"{folder}/{entry['path_name']}"
            if meta["dtype"] not in SCALARS:
                raise UnreadableFile(f"{where}: {name} has element type {meta['dtype']}, which cannot be read")
            dtype = SCALARS[meta["dtype"]]
            if (member, dtype) not in storages:
                storage = Storage(member, dtype, archive.size(member) // dtype.itemsize, where)
                storage.lies_in(partial(archive.place, member))
                storages[member, dtype] = storage
            shape, stride = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
            offset = meta["storage_offset"]["as_int"]
            result[name] = strided(storages[member, dtype], dtype, offset, shape, stride, where)
    return result


def _inner(archive: Zip, name: str) -> tuple[Any, tuple[str, ...]]:
    inner = archive.zip_in(name)
    pickle = pickle_in(inner)
    if pickle is None:
        raise UnreadableFile(f"{archive.path}: {name} is no torch zip")
    return read_pickle(inner, pickle)


def _program(archive: Zip) -> Any:
    """The program: its graph and what its inputs and outputs are."""
    models = [n for n in archive.names if n.endswith(".json") and n.rpartition("/")[0].endswith("models")]
    models += [n for n in archive.names if n == "serialized_exported_program.json"]
    if len(models) != 1:
        raise UnreadableFile(f"{archive.path}: an archive of torch.export with {len(models)} programs; one is needed")
    return _json(archive, models[0])


def _constants(archive: Zip) -> dict[str, Any]:
    """Tensors that are in no state dict, by name."""
    found: dict[str, Any] = {}
    for name in archive.names:
        folder, _, file = name.rpartition("/")
        if folder.endswith("data/constants") and file.endswith(CONSTANTS_CONFIG):
            found |= _weights(archive, name)
        elif name in OLD_CONSTANTS or (folder.endswith("data/constants") and file.endswith(".pt")):
            tree, _ = _inner(archive, name) if archive.size(name) else ({}, ())
            found |= tree if isinstance(tree, dict) else {}
    return found
