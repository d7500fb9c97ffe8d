"""A checkpoint in several files with a JSON index (transformers' and huggingface_hub's convention)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import UnreadableFile
from converter.formats.safetensors import read_index

SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5,6})-of-(?P<of>\d{5,6})(?P<kind>\.safetensors|\.bin|\.pth?)")
"""What huggingface_hub and transformers call the parts of a checkpoint (huggingface_hub, serialization/_base.py)."""


def why_not_alone(path: Path) -> str:
    """Why a file is not to be read by itself: it is one of several shards.  Empty if it is none."""
    found = SHARD.fullmatch(path.name)
    if found is None or int(found["of"]) < 2:
        return ""
    index = path.with_name(f"{found['stem']}{found['kind']}.index.json")
    where = "" if index.exists() else ", which is not beside it"
    return f"shard {int(found['number'])} of {int(found['of'])} of a checkpoint: name the index, {index.name}{where}"


def matches(path: Path, head: bytes) -> bool:
    """Whether a file is JSON by its name and its first character."""
    return path.suffix == ".json" and head.lstrip().startswith(b"{")


def open_sharded(path: Path, opener: Callable[[Path], Checkpoint]) -> Checkpoint:
    """Open every shard named by an index and join their tensors.

    Raises:
        UnreadableFile: a shard is missing or damaged, or lacks a tensor the index promises.
        UnsafeFile: the index points outside its folder.
    """
    weight_map = read_index(path)
    files = sorted(set(weight_map.values()))
    nested = next((file for file in files if file.endswith(".json")), None)
    if nested is not None:
        raise UnreadableFile(f"{path}: its shard {nested} is an index, too; a shard holds tensors")
    shards = {file: opener(path.parent / file) for file in files}
    tensors: dict[str, Tensor] = {}
    for name, file in weight_map.items():
        tree = shards[file].tree
        tensor = tree.get(name) if isinstance(tree, dict) else None
        if not isinstance(tensor, Tensor):
            raise UnreadableFile(f"{path}: {name} is not in the shard {file}")
        tensors[name] = tensor
    format_name = shards[files[0]].format if files else "empty"
    return Checkpoint(
        path,
        f"{format_name}, sharded",
        tensors,
        {k: v for shard in shards.values() for k, v in shard.metadata.items()},
        (path, *(path.parent / file for file in files)),
        tuple(dict.fromkeys(name for shard in shards.values() for name in shard.inert)),
    )
