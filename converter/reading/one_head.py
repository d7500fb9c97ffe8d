"""One head of several, by the user's choice: the others beside it are left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from converter.core.errors import ConverterError
from converter.reading.heads import matrix_shape
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
    chosen = _matrices(group, beside[above + SEPARATOR.split(place[len(above) :])[0]])
    others = [
        name
        for name, keys in beside.items()
        if name != place and _is_head(group, keys) and not _feeds(_matrices(group, keys), chosen)
    ]
    dropped = {key: f"another head than {place}, which was chosen" for name in others for key in beside[name]}
    return replace(group, dropped={**group.dropped, **dropped})


def _place(key: str, head: str) -> str | None:
    """The name of the module in a key that is called as the head is."""
    at = f".{key}".replace("/", ".").find(f".{head}.".replace("/", "."))
    return None if at < 0 else key[: at + len(head)]


def _is_head(group: Group, keys: Sequence[str]) -> bool:
    """Whether tensors are linear layers, and what may stand between them."""
    return bool(_matrices(group, keys)) and all(len(matrix_shape(group.tensors[key].shape)) <= 2 for key in keys)


def _feeds(layers: Sequence[tuple[int, ...]], head: Sequence[tuple[int, ...]]) -> bool:
    """Whether the last of some layers gives as many features as a head takes: all heads may share them."""
    return bool(layers and head) and layers[-1][0] == head[0][1]


def _matrices(group: Group, keys: Sequence[str]) -> list[tuple[int, ...]]:
    """The shapes (out, in) of linear layers among tensors; Keras' kernels are stored (in, out)."""
    shapes = {key: matrix_shape(group.tensors[key].shape) for key in keys}
    return [shape[::-1] if "kernel" in key else shape for key, shape in shapes.items() if len(shape) == 2]
