"""Several heads are judged one by one, but what they share is computed once for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from converter.core.checkpoint import Array
from converter.engines.run import Outputs, Run

Look = tuple[Any, ...]


def look(x: Array) -> Look:
    """What tells an input from others."""
    return x.shape, str(x.dtype), sha256(x.tobytes()).digest()


@dataclass(frozen=True)
class Joint:
    """What was computed for all heads when the first was judged.

    An engine that is asked again about the same input computes again: what differs from run to run stays seen.

    Attributes:
        heads: their names.
        pooled: what global pooling gives in float32 and in float64 (True), with how many positions the maps have, by
            input; for every piece in which it went through the reference.
        made: results of every head, by engine, input, and how often that was asked before.
    """

    heads: tuple[str, ...]
    pooled: dict[tuple[bool, Look], tuple[list[Array], list[int]]] = field(default_factory=dict)
    made: dict[tuple[str, Look, int], tuple[Array, ...]] = field(default_factory=dict)

    def run(self, engine: str, head: str, start: Callable[[], Outputs]) -> Run:
        """An engine for one of the heads, started where it has not computed the others yet.

        Args:
            engine: its name, with that of what it runs.
            head: which.
            start: how to start it for all of them, in their order.
        """
        at, asked = self.heads.index(head), Counter[Look]()
        started = [] if any(name == engine for name, *_ in self.made) else [start()]

        def run(x: Array) -> Array:
            same = look(x)
            key = engine, same, asked[same]
            asked[same] += 1
            if key not in self.made:
                started.extend([] if started else [start()])
                self.made[key] = started[0](x)
            return self.made[key][at]

        return run
