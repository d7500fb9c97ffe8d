"""Wrappers inside names: ``features.module.conv0`` is ``features.conv0``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from converter.reading.wrappers import Group

WRAPPERS = frozenset("module _orig_mod _fsdp_wrapped_module _checkpoint_wrapped_module _forward_module".split())
"""What DataParallel, torch.compile, FSDP, activation checkpointing and DeepSpeed call the module they wrap."""

Value = TypeVar("Value")


def unwrapped(group: Group) -> Group:
    """The group without the wrappers inside its names.

    Those that stand before all names alike stay: they are a prefix like any other.
    """
    keys = [*group.tensors, *group.unread]
    if not any(part in WRAPPERS for key in keys for part in key.split(".")):
        return group
    paths = [key.split(".")[:-1] for key in keys]
    lead = next((i for i, parts in enumerate(zip(*paths)) if len(set(parts)) > 1), min(map(len, paths)))

    def plain(name: str) -> str:
        parts = name.split(".")
        return ".".join((*parts[:lead], *(part for part in parts[lead:] if part not in WRAPPERS)))

    renamed = {key: plain(key) for key in keys}
    if len(set(renamed.values())) < len(keys):
        return group

    def moved(values: Mapping[str, Value]) -> dict[str, Value]:
        return {plain(key): value for key, value in values.items()}  # of wrapper and wrapped the latter stays

    return replace(
        group,
        tensors=moved(group.tensors),
        modules=frozenset(map(plain, group.modules)),
        attributes=moved(group.attributes),
        classes=moved(group.classes),
        unread=moved(group.unread),
        sources={**group.sources, **{new: group.names(old) for old, new in renamed.items() if new != old}},
    )
