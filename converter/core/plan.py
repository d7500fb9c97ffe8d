"""What would be done, and how long it would take, from a part of it that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, ClassVar

from converter.core.page import Table

MEASURED = 12
"""Pieces that are measured, at most."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a verb would do.

    Attributes:
        verb: what is done.
        kinds: by the ending of names how many there are, how many bytes they have, and what else ``COUNTED`` says.
        seconds: the estimated time.
        measured: on how many it rests.
        failed: what is known to fail, and why.
        notes: what people should know.
    """

    COUNTED: ClassVar[tuple[str, ...]] = ("sources", "bytes")

    verb: str
    kinds: Mapping[str, Sequence[int]]
    seconds: float
    measured: int
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def total(self, place: int) -> int:
        """What is counted at a place of ``kinds``, of all."""
        return sum(counts[place] for counts in self.kinds.values())

    def table(self) -> Table:
        """By ending."""
        rows = [[ending or "(none)", *(f"{n:,}" for n in counts)] for ending, counts in self.kinds.items()]
        return Table("", ("name ends in", *self.COUNTED), rows, self.COUNTED)

    def lines(self) -> list[str]:
        """In words."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "verb": self.verb,
            **{name: self.total(place) for place, name in enumerate(self.COUNTED)},
            "kinds": {ending: dict(zip(self.COUNTED, counts)) for ending, counts in self.kinds.items()},
            "seconds": round(self.seconds, 3),
            "measured": self.measured,
            "failed": dict(self.failed),
            "notes": list(self.notes),
        }


def counted(names: Sequence[str], *numbers: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """By the ending of names how many there are, and sums of numbers of each; those of most bytes first."""
    found: dict[str, list[int]] = {}
    for name, *own in zip(names, *numbers):
        counts = found.setdefault(PurePath(name).suffix.lower(), [0] * (len(own) + 1))
        for place, n in enumerate((1, *own)):
            counts[place] += n
    ordered = sorted(found.items(), key=lambda kind: (-kind[1][1], kind[0]))
    return {ending: tuple(counts) for ending, counts in ordered}


def middles(count: int, most: int = MEASURED) -> list[int]:
    """The one in the middle of each of ``most`` equal parts; all where there are no more."""
    return sorted({(2 * k + 1) * count // (2 * most) for k in range(most)}) if count else []


def about(seconds: float) -> str:
    """A time in words."""
    if seconds < 90:
        return f"about {seconds:.1f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 90 * 60 else f"about {seconds / 3600:.1f} h"


def several(count: int, what: str) -> str:
    """A number of things, in words."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
