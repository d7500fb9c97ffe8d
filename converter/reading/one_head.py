"""One head of several, by the user's choice: the others beside it are left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from math import prod

from converter.core.errors import ConverterError
from converter.reading.wrappers import Group

SEPARATOR = re.compile(r"[./]")


def with_head(groups: Sequence[Group], head: str, where: str) -> list[Group]:
    """Groups of tensors with one head: those that stand beside it under the same module are left out.

    Args:
        groups: a file's sets of weights.
        head: the module's name, ``heads.age``, or the last part of it, ``age``.
        where: names the file in errors.

    Raises:
        ConverterError: no set of weights has such a head.
    """
    result = [_with_head(group, head) for group in groups]
    if all(group is None for group in result):
        raise ConverterError(f"{where}: there is no head {head!r}")
    return [group for group in result if group is not None]


def _with_head(group: Group, head: str) -> Group | None:
    places = {place for key in group.tensors if (place := _place(key, head)) is not None}
    if len(places) != 1:
        return None
    (place,) = places
    above = place[: max(place.rfind("."), place.rfind("/")) + 1]
    beside: dict[str, list[str]] = {}
    for key in group.tensors:
        if key.startswith(above):
            beside.setdefault(above + SEPARATOR.split(key[len(above) :])[0], []).append(key)
    others = [name for name, keys in beside.items() if name != place and _is_head(group, keys)]
    dropped = {key: f"another head than {place}, which was chosen" for name in others for key in beside[name]}
    return replace(group, dropped={**group.dropped, **dropped})


def _place(key: str, head: str) -> str | None:
    """The name of the module in a key that is called as the head is."""
    at = f".{key}".replace("/", ".").find(f".{head}.".replace("/", "."))
    return None if at < 0 else key[: at + len(head)]


def _is_head(group: Group, keys: Sequence[str]) -> bool:
    """Whether tensors are linear layers, and what may stand between them."""
    shapes = [group.tensors[key].shape for key in keys]
    flat = [shape[:2] if len(shape) > 2 and prod(shape[2:]) == 1 else shape for shape in shapes]
    return any(len(shape) == 2 for shape in flat) and all(len(shape) <= 2 for shape in flat)
