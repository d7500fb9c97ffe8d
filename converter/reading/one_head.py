"""One head of several, by the user's choice: the others beside it are left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from converter.core.errors import ConverterError
from converter.reading.heads import NOT_LINEAR, matrix_shape
from converter.reading.longer_heads import BEHIND, BRANCH, PROJECTION
from converter.reading.wrappers import Group

SEPARATOR = re.compile(r"[./]")
OURS = re.compile(r"(head\.\d+\.(linear|norm)|classifier)\.\w+")
"""What the library layout has in ``heads.NAME``."""
OTHERS = (NOT_LINEAR, PROJECTION, BRANCH, BEHIND)
OTHER = "another head than"
LONGEST = 512
"""No name of a head's tensor is longer."""


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
    whole = any(key.startswith((f"{head}.", f"{head}/")) for key in group.tensors)
    places = {head} if whole else {place for key in group.tensors if (place := _place(key, head)) is not None}
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
    dropped = {key: f"{OTHER} {place}, which was chosen" for name in others for key in beside[name]}
    return _as_plain(replace(group, dropped={**group.dropped, **dropped}), place)


def _as_plain(group: Group, place: str) -> Group:
    """A group in the library layout with the head's tensors where a plain network has them; any other as it is."""
    above = place.rpartition(".")[0]
    keys = [key for key in group.tensors if key.startswith(f"{place}.")]
    if above.rpartition(".")[2] != "heads" or not all(OURS.fullmatch(key, len(place) + 1) for key in keys):
        return group
    at = len(above) - len("heads")
    names = {key: key[:at] + key[len(place) + 1 :] for key in keys}
    tensors = {names.get(key, key): tensor for key, tensor in group.tensors.items()}
    return replace(group, tensors=tensors, sources={**group.sources, **{new: (old,) for old, new in names.items()}})


def side_by_side(group: Group) -> list[str]:
    """Modules of linear layers that stand beside each other in one module and take alike, none of which feeds another.

    Of several such modules the outermost; nothing where a name is that of something else than a head.
    """
    levels: dict[str, dict[str, list[str]]] = {}
    for key in (key for key in group.tensors if len(key) < LONGEST):
        for at in (0, *(found.end() for found in SEPARATOR.finditer(key))):
            if found := SEPARATOR.search(key, at):
                levels.setdefault(key[:at], {}).setdefault(key[: found.start()], []).append(key)
    for above in sorted(levels, key=lambda level: len(SEPARATOR.findall(level))):
        layers = {name: _matrices(group, keys) for name, keys in levels[above].items() if _is_head(group, keys)}
        heads = [name for name, own in layers.items() if not any(_feeds(own, other) for other in layers.values())]
        if len(heads) > 1 and len({layers[name][0][1] for name in heads}) == 1:
            names = [name[len(above) :].lower() for name in heads]
            return [] if any(re.search(each, name) for each in OTHERS for name in names) else heads
    return []


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
    """The shapes (out, in) of linear layers among tensors, a classifier last; Keras' kernels are stored (in, out)."""
    ordered = sorted(keys, key=lambda key: key.endswith(".classifier.weight"))
    shapes = {key: matrix_shape(group.tensors[key].shape) for key in ordered}
    return [shape[::-1] if "kernel" in key else shape for key, shape in shapes.items() if len(shape) == 2]
