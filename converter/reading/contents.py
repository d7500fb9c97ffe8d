"""What else is in a file: how far training was, its scores, its optimizer; in few words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from converter.core.checkpoint import Record, Tensor
from converter.core.text import well_formed
from converter.reading.entries import listed, number
from converter.reading.wrappers import SKIPPED

INSIDE = r"meta|hyper_?parameters|hparams|args|arguments|cfg|config|opts?|options|params|stats|metrics|scores"
"""Members whose own members are told, too."""
MODULES = ("_modules", "_parameters", "_buffers")
COUNTER = "num_batches_tracked"
"""A member of every batch norm of PyTorch's, in state dicts that are a file's top level."""
LONG, MANY = 60, 64
"""Characters of a text, and members, that are told."""

Told = str | int | float | bool


def contents_of(tree: Any) -> dict[str, Told]:
    """What stands beside the weights in a file's top level, by name: numbers and texts, and what other things are."""
    inside = tree.state if isinstance(tree, Record) else tree
    if not isinstance(inside, Mapping) or any(name in inside for name in MODULES):
        return {}
    found: dict[str, Told] = {}
    for name, value in inside.items():
        if str(name).endswith(COUNTER):
            continue
        for place, told in _told(str(name), value):
            if len(found) < MANY:
                found[well_formed(place)] = told
    return found


def _told(name: str, value: Any) -> Iterator[tuple[str, Told]]:
    if (plain := _plain(value)) is not None:
        yield name, plain
    elif name in SKIPPED:
        yield name, _state(value)
    elif isinstance(value, Tensor):
        return
    elif re.fullmatch(INSIDE, name.lower()):
        members = value.state if isinstance(value, Record) else value
        if isinstance(members, dict):
            for key, member in members.items():
                if (plain := _plain(member)) is not None:
                    yield f"{name}.{key}", plain
    elif (items := listed(value)) and not any(isinstance(item, Tensor) for item in items):
        yield name, f"{len(items)} values" if number(items[0]) is not None else f"{len(items)} items"


def _plain(value: Any) -> Told | None:
    """A number, a truth value or a short text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return well_formed(value) if 0 < len(value) <= LONG and value.isprintable() else None
    found = number(value)
    return found if found is not None and isfinite(found) else None


def _state(value: Any) -> str:
    """What an optimizer or a scheduler keeps."""
    states = value if isinstance(value, list | tuple) else [value]
    rates = [rate for state in states for rate in _rates(state)]
    said = dict.fromkeys(f"{rate:g}" for rate in rates)
    return f"state, learning rate {', '.join(list(said)[:3])}" if said else "state"


def _rates(state: Any) -> Iterator[float]:
    inside = state.state if isinstance(state, Record) else state
    groups = inside.get("param_groups") if isinstance(inside, dict) else None
    for group in groups if isinstance(groups, list | tuple) else ():
        rate = number(group.get("lr")) if isinstance(group, dict) else None
        if rate is not None:
            yield float(rate)
