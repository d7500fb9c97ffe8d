"""Keras 3's weights in several files: ``<model>.weights.json`` and the ``.weights.h5`` files it names."""

from __future__ import annotations

from pathlib import Path

from converter.core import bounds
from converter.core.checkpoint import Checkpoint
from converter.core.errors import UnreadableFile
from converter.core.mapping import mapped
from converter.core.metadata import parsed
from converter.formats.companion import companion
from converter.formats.damage import damaged
from converter.formats.hdf5 import H5Group, read_hdf5
from converter.formats.keras.h5 import by_class, descend


def matches(path: Path, head: bytes) -> bool:
    """Whether a file is the index of Keras 3's sharded weights, by its name and being JSON."""
    return path.name.endswith(".weights.json") and head.lstrip().startswith(b"{")


def open_sharded(path: Path) -> Checkpoint:
    """Open ``<model>.weights.json`` and the ``.weights.h5`` files it names; errors as for :func:`merged`."""
    root, files = merged(path)
    return Checkpoint(path, "Keras weights, HDF5, sharded", by_class(root, str(path)), {}, files)


def merged(path: Path) -> tuple[H5Group, tuple[Path, ...]]:
    """What the files of an index hold, as one tree; and these files, the index first.

    Raises:
        UnreadableFile: no valid index, or a file or weight it names is missing.
        UnsafeFile: it names a file elsewhere.
    """
    if path.stat().st_size > bounds.INDEX:
        raise UnreadableFile(f"{path}: too large for an index of sharded weights")
    with damaged(f"{path}: not an index of sharded Keras weights (no weight_map)"):
        weight_map = parsed(path.read_text("utf-8"))["weight_map"]
        places = {key: [files] if isinstance(files, str) else list(files) for key, files in weight_map.items()}
    names = sorted({str(file) for files in places.values() for file in files})
    root = H5Group()
    for name in names:
        shard = companion(path, name, flat=True)
        if not shard.is_file():
            raise UnreadableFile(f"{path}: the shard {name} is missing")
        _merge(root, read_hdf5(mapped(shard), str(shard)), str(path))
    for key in places:
        descend(root, key.strip("/"), str(path))
    return root, (path, *(path.parent / name for name in names))


def _merge(into: H5Group, other: H5Group, where: str) -> None:
    for name, value in other.items():
        have = into.get(name)
        if isinstance(have, H5Group) and isinstance(value, H5Group):
            have.attributes |= value.attributes
            _merge(have, value, where)
        elif name in into:
            raise UnreadableFile(f"{where}: {name} is in two shards")
        else:
            into[name] = value
