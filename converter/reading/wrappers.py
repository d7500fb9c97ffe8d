"""What people wrap weights in: training checkpoints, whole modules, averaged copies.

``groups`` lists every place in a checkpoint's tree that holds enough named tensors to
be a network, best first; ``recognise.py`` then says which of them is a DenseNet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from converter.core.checkpoint import Record, Tensor, child_items

MIN_TENSORS = 8
MAX_DEPTH = 6
MAX_TENSORS = 1 << 14
"""Ten times what the largest DenseNet has."""

SKIPPED = frozenset(
    "optimizer optimizers optimizer_states opt optim lr_scheduler lr_schedulers scheduler param_schedulers amp_scaler "
    "scaler grad_scaler message_hub callbacks loops rng_state".split()
)
"""Training state that holds tensors but no network."""

AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?|average)([._]|$)|_ema$", re.IGNORECASE)
"""Where trainers keep the averaged weights, which is what they evaluate (timm: load_checkpoint(use_ema=True))."""

MMENGINE = ("message_hub", "meta")
"""Beside these ``state_dict`` has the average and ``ema_state_dict`` the raw weights (mmengine's EMAHook)."""


@dataclass(frozen=True)
class Group:
    """Named tensors that belong together.

    Attributes:
        path: where in the file they are, ``""`` for the top, ``state_dict``, ``model`` ...
        tensors: by dotted name.
        modules: names of all modules, also those without tensors, where the file tells.
        attributes: numbers of a pickled module by dotted name: ``eps``, ``ceil_mode`` ...
        classes: class of a pickled module by dotted name.
        extras: plain values that stood beside the tensors.
    """

    path: str
    tensors: Mapping[str, Tensor]
    modules: frozenset[str] = frozenset()
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)


def groups(tree: Any) -> list[Group]:
    """Every group of tensors in a tree, the one to prefer first."""
    found = list(_groups(tree, "", MAX_DEPTH, set()))
    swapped = isinstance(tree, dict) and any(name in tree for name in MMENGINE)
    return sorted(found, key=lambda group: bool(AVERAGED.search(group.path)) == swapped)


def _groups(node: Any, path: str, depth: int, seen: set[int]) -> Iterator[Group]:
    if id(node) in seen:  # a pickle can hold the same object a million times
        return
    seen.add(id(node))
    if isinstance(node, Record):
        group = _module_group(node, path)
        if len(group.tensors) >= MIN_TENSORS:
            yield group
            return
    elif isinstance(node, dict):
        tensors = {str(k): v for k, v in node.items() if isinstance(v, Tensor)}
        if MIN_TENSORS <= len(tensors) <= MAX_TENSORS:
            metadata = getattr(node, "attributes", {}).get("_metadata", {})
            modules = frozenset(map(str, metadata)) if isinstance(metadata, dict) else frozenset()
            yield Group(path, tensors, modules)
    if depth:
        for name, child in child_items(node):
            if name not in SKIPPED and isinstance(child, (dict, list, tuple, Record)):
                yield from _groups(child, f"{path}.{name}" if path else name, depth - 1, seen)


def _module_group(root: Record, path: str) -> Group:
    """A pickled module as the group its ``state_dict()`` would be."""
    tensors: dict[str, Tensor] = {}
    attributes: dict[str, dict[str, Any]] = {}
    classes: dict[str, str] = {}
    todo: list[tuple[Record, str]] = [(root, "")]
    seen: set[int] = set()
    while todo:
        record, name = todo.pop(0)
        if id(record) in seen or not isinstance(record.state, dict):
            continue
        seen.add(id(record))
        state, dot = record.state, f"{name}." if name else ""
        classes[name] = record.cls
        attributes[name] = {str(k): v for k, v in state.items() if isinstance(v, (int, float, str, bool, tuple))}
        hidden = state.get("_non_persistent_buffers_set") or ()
        # A scripted module keeps its tensors and children as plain attributes, an eager one in three dicts.
        eager = "_modules" in state
        members = [state.get(k) or {} for k in ("_parameters", "_buffers")] if eager else [state]
        for member in members:
            tensors |= {dot + str(k): v for k, v in child_items(member) if isinstance(v, Tensor) and k not in hidden}
        children = child_items(state["_modules"] if eager else state)
        todo += [(v, dot + k) for k, v in children if isinstance(v, Record)]
    return Group(path, tensors, frozenset(classes), attributes, classes)
