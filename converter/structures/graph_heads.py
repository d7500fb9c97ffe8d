"""Which results of a graph belong to which head, and what heads are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol, TypeVar

from converter.core.errors import NotADenseNet, SeveralHeads
from converter.structures.ops import Op
from densenet.head import callable_as

PART = re.compile(r"[./:]")


class Judged(Protocol):
    """A result that was followed."""

    output: str
    classifier: Op | None
    notes: list[str]


J = TypeVar("J", bound=Judged)


def chosen_of(layout: str, judges: Sequence[J], head: str) -> tuple[Sequence[J], str]:
    """The results of one head (its logits, and what is made of them) and its name; all of them where there is one.

    Args:
        layout: name of the source's conventions.
        judges: the results.
        head: which one is wanted, where there are several.

    Raises:
        SeveralHeads: there are several, and it is not said which.
        NotADenseNet: none is called so.
    """
    heads: dict[str, list[J]] = {}
    for judge in judges:
        if judge.classifier is not None:
            heads.setdefault(judge.classifier.weights["weight"].key, []).append(judge)
    if len(heads) < 2:
        return judges, ""
    plainest = [min(alike, key=lambda judge: len(judge.notes)).output for alike in heads.values()]
    # A program of PyTorch's calls its results by number; where the weights are says more.
    names = _distinct([*heads] if layout.startswith("torch") else plainest)
    wanted = PART.split(head)[-1]
    for name, alike in zip(names, heads.values()):
        if wanted == name:
            return alike, name
    if wanted:
        raise NotADenseNet(f"there is no head {head!r}; its heads are {', '.join(names)}")
    raise SeveralHeads(f"{len(heads)} heads ({', '.join(names)}); --head NAME reads one of them", tuple(names))


def _distinct(paths: Sequence[str]) -> list[str]:
    """Short names for paths: the part in which they first differ, or all of it."""
    parts = [[part for part in PART.split(path) if part] or ["?"] for path in paths]
    at = next((i for i, column in enumerate(zip(*parts)) if len(set(column)) > 1), 0)
    names = [callable_as(path[at]) for path in parts]
    return names if len(set(names)) == len(names) else [callable_as(path).strip("_") for path in paths]
