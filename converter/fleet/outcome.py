"""What became of one source of many."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DONE, CURRENT, FAILED, FOREIGN, PART = "done", "up to date", "failed", "no checkpoint", "part of another"
"""All that can become of a source."""


@dataclass(frozen=True)
class Outcome:
    """What became of one source.

    Attributes:
        status: one of those above.
        format, layout, architecture: what it is, where that was found out.
        result: all that the verb says, as JSON values.
        why: why it failed, or is no checkpoint.
        kind: of the failure, in a few words.
        notes: what was assumed.
        suites: of a verification, its JUnit suites.
    """

    status: str
    format: str = ""
    layout: str = ""
    architecture: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    kind: str = ""
    notes: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()


@dataclass(frozen=True)
class Told:
    """A source as tables and reports name it, where its result is, and what became of it."""

    source: str
    target: str
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        own = self.outcome
        said = {"format": own.format, "layout": own.layout, "architecture": own.architecture}
        why = {"error": own.why, "kind": own.kind, "target": self.target}
        return {
            "source": self.source,
            "status": own.status,
            **{name: text for name, text in (*why.items(), *said.items()) if text},
            "notes": list(own.notes),
            "result": dict(own.result) or None,
        }
