"""Names as layouts have them: ``features.module.conv0`` is ``features.conv0``, ``conv1/conv_3`` is ``conv1/conv``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from converter.reading.wrappers import Group

WRAPPERS = frozenset("module _orig_mod _fsdp_wrapped_module _checkpoint_wrapped_module _forward_module".split())
"""What DataParallel, torch.compile, FSDP, activation checkpointing and DeepSpeed call the module they wrap."""

AGAIN = (
    r"((?:^|/)(?:conv1/(?:conv|bn)|conv\d+_block\d+_[012]_(?:conv|bn)|conv1_(?:conv|bn)|pool\d+_(?:conv|bn)|bn|fc1000))"
    r"_\d+(?=/(?:kernel|bias|gamma|beta|moving_mean|moving_variance)$)"
)
"""A variable of keras.applications where TensorFlow 1 had made that scope before: of a session's second model."""

Value = TypeVar("Value")


def renamed(group: Group) -> Group:
    """The group without wrappers inside its names, and without the numbers of a session's second Keras model."""
    return _again(unwrapped(group))


def _again(group: Group) -> Group:
    if not any("/" in key and re.search(AGAIN, key) for key in group.tensors):
        return group
    return _moved(group, lambda name: re.sub(AGAIN, r"\1", name))


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

    return _moved(group, plain)


def _moved(group: Group, plain: Callable[[str], str]) -> Group:
    """The group under other names; as it is where two of them would be one."""
    keys = [*group.tensors, *group.unread]
    called = {key: plain(key) for key in keys}
    if len(set(called.values())) < len(keys):
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
        sources={**group.sources, **{new: group.names(old) for old, new in called.items() if new != old}},
    )
