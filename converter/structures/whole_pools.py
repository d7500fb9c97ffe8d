"""Pooling that was made for maps of one size: right before the classifier it is global."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from converter.structures.ops import Kind, Op

BEHIND = ("flatten", "linear")
GLOBAL: dict[str, Kind] = {"avg_pool": "global_avg", "max_pool": "global_max"}


def whole_pools(ops: Iterable[Op]) -> tuple[list[Op], list[str]]:
    """Operators where the pooling before a linear layer is global, and notes of those that did not say so.

    For files that do not say how large images are: a linear layer takes one position, so that the window was as
    large as the maps.
    """
    every, notes = list(ops), list[str]()
    takers: dict[str, list[Op]] = {}
    for op in every:
        for x in op.x:
            takers.setdefault(x, []).append(op)

    def is_whole(op: Op) -> bool:
        behind = takers.get(op.y, [])
        while len(behind) == 1 and behind[0].kind == "skip":
            behind = takers.get(behind[0].y, [])
        unpadded = op.window is not None and not any((*op.window.begin, *op.window.end))
        return op.kind in GLOBAL and unpadded and bool(behind) and all(each.kind in BEHIND for each in behind)

    for i, op in enumerate(every):
        if is_whole(op):
            every[i] = replace(op, kind=GLOBAL[op.kind], window=None)
            notes.append(f"{op.name} ({op.window}) is taken as global pooling, as it is for images of the right size")
    return every, notes
