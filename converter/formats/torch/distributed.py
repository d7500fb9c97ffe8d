"""``torch.distributed.checkpoint``: a folder of ``.metadata`` and ``__0_0.distcp`` files (FSDP, Lightning, accelerate).

``.metadata`` is a pickle that says of every tensor its type, size and chunks, and for each chunk the file and the
bytes in it; there lies a ``torch.save`` of the chunk (torch/distributed/checkpoint/metadata.py, filesystem.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint, Record, Tensor
from converter.core.errors import UnreadableFile
from converter.core.mapping import mapped, steady
from converter.formats.companion import companion
from converter.formats.damage import damaged
from converter.formats.torch.nested import read_nested
from converter.formats.torch.pickle import Pickle
from converter.formats.torch.tensors import builders, named_dtype

NAME = "torch distributed checkpoint"
METADATA = ".metadata"
HOME = "torch.distributed.checkpoint."

Sizes = tuple[int, ...]


class Chunk(NamedTuple):
    """A box of a tensor, and where its values are: a piece of a file."""

    start: Sizes
    sizes: Sizes
    data: Array


def matches_folder(path: Path) -> bool:
    """Whether a folder holds such a checkpoint."""
    return (path / METADATA).is_file()


def open_distributed(path: Path) -> Checkpoint:
    """Open such a folder, by any of its files too; sharded tensors are put together when they are read.

    Raises:
        UnreadableFile: damaged, a file or chunk is missing, or the chunks are transformed (compressed, say).
        UnsafeFile: it points outside its own folder, or the pickle asks for code to be run.
    """
    folder = path if path.is_dir() else path.parent
    metadata = folder / METADATA
    if not metadata.is_file():
        raise UnreadableFile(f"{path}: a shard of torch.distributed.checkpoint without the {METADATA} beside it")
    if not 0 < metadata.stat().st_size <= bounds.METADATA:
        raise UnreadableFile(f"{metadata}: empty, or too large to be a description of tensors")
    pickle = Pickle(mapped(metadata).data, str(metadata), builders=builders(str(metadata)))
    pickle.built = _as_key
    about = pickle.load()
    files = _Files(folder)
    tree: dict[str, Any] = {}
    with damaged(f"{metadata}: damaged, it does not describe tensors"):
        said, places, stored = (about.state.get(k) for k in ("state_dict_metadata", "planner_data", "storage_data"))
        for name, what in said.items():
            value = what  # a plain value: a counter, a learning rate
            if "size" in (what.state or {}):
                value = _tensor(name, what.state, stored, files)
            *above, last = (places or {}).get(name) or (name,)
            node = tree
            for step in map(str, above):
                node = node.setdefault(step, {})
            node[str(last)] = value
    inert = tuple(name for name in pickle.inert if not name.startswith((HOME, "torch.", "pathlib.")))
    return Checkpoint(
        folder, NAME, tree, files=(metadata, *(folder / name for name in sorted(files.opened))), inert=inert
    )


def _as_key(record: Record) -> Any:
    """A chunk's index, which is a key of the table of places, as text; anything else as it is."""
    if record.cls != f"{HOME}metadata.MetadataIndex" or not isinstance(record.state, dict):
        return record
    offset = record.state.get("offset")
    return _key(record.state.get("fqn"), offset if isinstance(offset, tuple) else ())


def _key(name: Any, offset: Sizes) -> str:
    """A tensor's chunk by where it begins; those that begin at the origin may not say it."""
    return f"{name} {','.join(map(str, offset)) if any(offset) else ''}"


class _Files:
    """The files of such a folder, mapped when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: dict[str, Array] = {}

    def piece(self, place: Mapping[str, Any], where: str) -> Array:
        """The bytes of a chunk."""
        name, start, length = str(place["relative_path"]), int(place["offset"]), int(place["length"])
        if place.get("transform_descriptors"):
            how = ", ".join(map(str, place["transform_descriptors"]))
            raise UnreadableFile(f"{where} is stored through {how}, which is not read")
        file = companion(self.folder / METADATA, name, flat=True)
        if name not in self.opened:
            if not file.is_file() or not file.stat().st_size:
                raise UnreadableFile(f"{self.folder}: the file {name} is missing or empty")
            self.opened[name] = mapped(file)
        data = self.opened[name][start : start + length] if start >= 0 < length else self.opened[name][:0]
        if not 0 < length == len(data):
            raise UnreadableFile(f"{where} ends behind the end of {name} (truncated?)")
        return data


def _tensor(name: str, about: Mapping[str, Any], stored: Mapping[str, Any], files: _Files) -> Tensor:
    where = f"{files.folder}: {name}"
    properties, shape = about["properties"].state, tuple(about["size"])
    dtype = properties["dtype"] if isinstance(properties, dict) else properties[0]
    element = named_dtype(dtype, where)
    chunks = []
    for chunk in about["chunks"][: bounds.CHUNKS + 1]:
        start, sizes = tuple(chunk.state["offsets"]), tuple(chunk.state["sizes"])
        place = stored.get(_key(name, start))
        if place is None:
            raise UnreadableFile(f"{where} lacks its chunk at {list(start)}")
        chunks.append(Chunk(start, sizes, files.piece(place.state, where)))
    _check(chunks, shape, where)

    def read() -> Array:
        if len(chunks) == 1:
            return _values(chunks[0], element, where)
        whole = np.empty(shape, element)
        for chunk in chunks:
            box = tuple(slice(at, at + n) for at, n in zip(chunk.start, chunk.sizes))
            whole[box] = _values(chunk, element, where)
        whole.flags.writeable = False
        return whole

    return Tensor(shape, element, read)


def _check(chunks: list[Chunk], shape: Sizes, where: str) -> None:
    """Raise UnreadableFile unless the chunks are all of the tensor, each element once."""
    if len(chunks) > bounds.CHUNKS:
        raise UnreadableFile(f"{where} has more than {bounds.CHUNKS} chunks")
    boxes = [list(zip(chunk.start, chunk.sizes, strict=True)) for chunk in chunks]
    inside = all(
        len(box) == len(shape) and all(min(at, n) >= 0 and at + n <= all_ for (at, n), all_ in zip(box, shape))
        for box in boxes
    )
    complete = sum(prod(chunk.sizes) for chunk in chunks) == prod(shape)
    twice = any(
        all(a < b + m and b < a + n for (a, n), (b, m) in zip(one, other)) for one, other in combinations(boxes, 2)
    )
    if not inside or not complete or twice:
        raise UnreadableFile(f"{where} of shape {list(shape)} is not what its {len(chunks)} chunks make")


def _values(chunk: Chunk, dtype: np.dtype[Any], where: str) -> Array:
    tensor, _ = read_nested(steady(chunk.data).data, where, 1)
    if not isinstance(tensor, Tensor) or tensor.shape != chunk.sizes or tensor.dtype != dtype:
        raise UnreadableFile(f"{where}: a chunk is not of the size and type that {METADATA} says")
    return tensor.read()
