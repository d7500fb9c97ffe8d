"""One layout tried on one group of tensors, and what came of it; and how lists of names are said."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from converter.layouts.layout import Layout, Stored
from converter.reading.wrappers import Group
from converter.structures.front import Front
from densenet.config import DenseNetConfig

LISTED = 6
NUMBER = re.compile(r"\d{1,9}")


@dataclass(frozen=True)
class Candidate:
    """One layout tried on one group of tensors, and what came of it.

    Attributes:
        layout: the layout tried.
        group: the tensors, with what was made of some (a head of another shape, say).
        prefix: what stands before the layout's own names.
        config: the network, as far as shapes tell it; None if they are of none.
        used: how and under which names every library tensor is stored.
        dropped: keys that are no part of the network, and why.
        missing, unexpected, misshapen, problem: what speaks against this reading.
        notes: what people should know.
        head_note: what is assumed of a head of several layers, if nothing says more.
        graph: what the file's graph settles.
        front: what it does to images before the network.
        activation: what it does with the logits.
        eps: of the norms, by library name, where the graph says it.
        made_for: of norms that are made of what only scales and shifts: for which eps, whatever the network's is.
        unfolded: norms that are folded into the convolutions before them, and the key of those biases.
    """

    layout: Layout
    group: Group
    prefix: str
    config: DenseNetConfig | None = None
    used: Mapping[str, Stored] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()
    head_note: str = ""
    graph: Mapping[str, Any] = field(default_factory=dict)
    front: Front = field(default_factory=Front)
    activation: str = ""
    eps: Mapping[str, float] = field(default_factory=dict)
    made_for: Mapping[str, float] = field(default_factory=dict)
    unfolded: Mapping[str, str] = field(default_factory=dict)

    @property
    def accounted(self) -> int:
        """How many source keys this reading explains."""
        return sum(len(stored.keys) for stored in self.used.values()) + len(self.dropped)

    @property
    def fits(self) -> bool:
        """Whether every tensor is accounted for."""
        return self.config is not None and not (self.missing or self.unexpected or self.misshapen or self.problem)

    def why_not(self) -> str:
        """What speaks against this reading, in one line; empty if it fits."""
        parts = [self.problem] if self.problem else []
        if self.missing:
            parts.append(f"missing {some(self.missing)}{self._nearest()}")
        if self.unexpected:
            parts.append(f"unexpected {some(self.unexpected)}")
        if self.misshapen:
            parts.append(some(self.misshapen))
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """This reading as plain JSON values."""
        return {
            "layout": self.layout.name,
            "inside": self.group.path,
            "prefix": self.prefix,
            "accounted": self.accounted,
            "of": len(self.group.tensors),
            "fits": self.fits,
            "against": self.why_not(),
        }

    def _nearest(self) -> str:
        from difflib import get_close_matches  # noqa: PLC0415 (for errors only)

        close = get_close_matches(self.missing[0], self.unexpected, 1, 0.6)
        return f" (nearest: {close[0]})" if close else ""


def some(names: Sequence[str]) -> str:
    """A few names; those that differ in their numbers alone as one: ``denselayer{1...6}.norm1.bias``."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(NUMBER.sub("#", name), []).append(name)
    merged = [text for group in alike.values() for text in (group if len(group) < 3 else [_template(group)])]
    text = ", ".join(merged[:LISTED])
    return text if len(merged) <= LISTED else f"{text} and {len(merged) - LISTED} more"


def _template(names: Sequence[str]) -> str:
    """Names of one form, with the range of every number that is not always the same."""
    columns = zip(*(map(int, NUMBER.findall(name)) for name in names))
    ranges = iter(str(min(c)) if min(c) == max(c) else f"{{{min(c)}...{max(c)}}}" for c in columns)
    return NUMBER.sub(lambda _: next(ranges), names[0])
