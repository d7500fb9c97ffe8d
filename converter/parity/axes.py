"""Axes that a file declares to be of any length, and the lengths that its engine computes."""

from collections.abc import Sequence
from typing import Any

from converter.core.checkpoint import Array
from converter.parity.checks import Check
from converter.use.inputs import Batch


def frozen_axes(batches: Sequence[Batch], outputs: Sequence[Array | None]) -> list[Check]:
    """Whether an axis that is declared dynamic is not: some inputs can be computed, others of its lengths cannot."""
    whole = [o is not None and o.shape[:1] == b.array.shape[:1] for b, o in zip(batches, outputs)]
    done = [b.array.shape for b, good in zip(batches, whole) if good]
    lost = [b.array.shape for b, good in zip(batches, whole) if not good]
    if not (done and lost):
        return []
    for axis, what in ((0, "batch"), (slice(2, None), "size")):
        works = {shape[axis] for shape in done}
        fails = {shape[axis] for shape in lost} - works
        if fails and (axis != 0 or all(shape[0] not in works for shape in lost)):
            said = f"{what} is declared dynamic, but only {listed(works)} can be computed, not {listed(fails)}"
            return [Check("dynamic axes", False, said)]
    return []


def listed(lengths: set[Any]) -> str:
    """Lengths or sizes, for a message."""
    return ", ".join("x".join(map(str, n)) if isinstance(n, tuple) else str(n) for n in sorted(lengths))
