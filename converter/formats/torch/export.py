"""Programs of torch.export (``.pt2``): their state dict, under its own names.

Three layouts of the zip (torch/export/pt2_archive/_package.py, torch/export/__init__.py):
since 2.9 one raw member per storage and ``data/weights/<model>_weights_config.json``; in 2.8
``data/weights/<model>.pt``, before ``serialized_state_dict.pt``, both a torch zip in the zip.
The graph is JSON, and says what no tensor shows: eps, and pooling that rounds up.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet, UnreadableFile
from converter.formats.damage import damaged, typed
from converter.formats.dtypes import numbered
from converter.formats.torch.tensors import Storage, strided
from converter.formats.torch.zip import pickle_in, read_pickle
from converter.formats.zips import Zip

NAME = "torch.export"
CONFIG = "_weights_config.json"
OLD_STATES = ("serialized_state_dict.pt", "serialized_state_dict.json")
"""Both are torch zips, whatever the second is called."""
MAX_JSON = 1 << 24

OPERATORS = frozenset(
    """conv2d conv3d convolution batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit relu relu_ cat
    max_pool2d max_pool3d avg_pool2d avg_pool3d adaptive_avg_pool2d adaptive_avg_pool3d mean flatten view reshape
    _unsafe_view linear addmm mm t permute transpose dropout dropout_ alias clone detach detach_ contiguous add add_
    sym_size adaptive_max_pool2d amax squeeze unsqueeze sigmoid softmax _softmax log_softmax _assert_tensor_metadata pad
    max_pool2d_with_indices sym_constrain_range_for_size to _to_copy empty_like zeros_like
    lift_fresh_copy mul div""".split()
)
"""Operators of torch.ops.aten that exported DenseNets are made of (also heads of theirs)."""

SCALARS = {
    **numbered("uint8 int8 int16 int32 int64 float16 float32 float64 - complex64 complex128 bool bfloat16", 1),
    **numbered("uint16 float8_e4m3fn float8_e5m2 - - - uint32 uint64", 28),
}
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
        if other.endswith(".pt") and other != holder and "sample_inputs" in other:
            _inner(archive, other)  # of no use here, but nobody shall take a file with code in it for good
    settings = _settings(archive)
    return Checkpoint(path, NAME, tree, {}, (path,), inert, settings)


def _is_weights(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return folder.endswith("data/weights") and (file.endswith((CONFIG, ".pt")))


def _json(archive: Zip, name: str) -> Any:
    if archive.size(name) > MAX_JSON:
        raise UnreadableFile(f"{archive.path}: {name} is too large")
    with damaged(f"{archive.path}: {name} is damaged", ValueError, RecursionError, why=str):
        return json.loads(archive.read(name).tobytes())


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
                storage.lies_in(partial(archive.read, member))
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


def _settings(archive: Zip) -> dict[str, Any]:
    """What the graph says of norms and pooling, as config fields; nothing where it says nothing."""
    models = [n for n in archive.names if n.endswith(".json") and n.rpartition("/")[0].endswith("models")]
    models += [n for n in archive.names if n == "serialized_exported_program.json"]
    if len(models) != 1:
        return {}
    settings: dict[str, Any] = {}
    with damaged(f"{archive.path}: {models[0]} is damaged", why=typed):
        for node in _json(archive, models[0])["graph_module"]["graph"]["nodes"]:
            given = {item["name"]: next(iter(item["arg"].values()), None) for item in node["inputs"]}
            function = node["target"].removeprefix("torch.ops.aten.").partition(".")[0]
            if node["target"].startswith("torch.ops.aten.") and function not in OPERATORS:
                raise NotADenseNet(f"{archive.path}: its graph has {function}, which a DenseNet does not have")
            eps = given.get("eps", 1e-5)
            if "batch_norm" in function and settings.setdefault("eps", eps) != eps:
                raise UnreadableFile(f"{archive.path}: its batch norms have different eps")
            if function in ("max_pool2d", "max_pool3d"):
                settings["stem_ceil"] = bool(given.get("ceil_mode", False))
            elif function in ("avg_pool2d", "avg_pool3d"):
                settings["transition_ceil"] = bool(given.get("ceil_mode", False))
    return settings
