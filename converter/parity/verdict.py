"""What a verification found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.notebook import html_table
from converter.core.version import __version__
from converter.parity.budget import Judgement
from converter.parity.checks import Check
from converter.parity.compare import RULE, Comparison
from converter.parity.locate import Break

SCHEMA_VERSION = 1
"""Of ``to_dict``; it grows when a field changes its meaning or goes, not when one is added."""


OUR_READING = "our reading of the file"
"""What a verdict rests on where the original was not asked."""


@dataclass(frozen=True)
class Verification:
    """The verdict.

    Attributes:
        reference: what was taken for the truth.
        oracle: how its logits were computed.
        results: for each engine (what it is, on which file) one comparison per batch.
        limit: the largest relative error allowed on any input.
        reference_error: the largest that PyTorch's float32 shows.
        spread: how much the logits differ between inputs, relative to the largest.
        problems: failures that belong to no single batch.
        seconds: how long it took; None where reports must not depend on it.
        inputs: what they were computed on, with seeds.
        checks: for each candidate what was compared without computing.
        breaks: for each engine that failed, the module that is to blame, where one is.
        budgets: for each engine of reduced precision, its figures.
        notes: what was left out, and why.
        logits: (oracle, engine) logits by engine, flattened, for plots; not part of ``to_dict``.
        seed: of the synthetic inputs.
        rule: when an engine passes, in words.
        rests_on: whose word it is that the reference's logits are right: our reading of the file, or the original.
        fingerprint: of the reference's weights; empty where only its logits are known.
    """

    reference: str
    oracle: str
    results: Mapping[str, Sequence[Comparison]]
    limit: float
    reference_error: float
    spread: float
    problems: tuple[str, ...] = ()
    seconds: float | None = None
    inputs: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    checks: Mapping[str, Sequence[Check]] = field(default_factory=dict)
    breaks: Mapping[str, Break] = field(default_factory=dict)
    budgets: Mapping[str, Judgement] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    logits: Mapping[str, tuple[Array, Array]] = field(default_factory=dict, repr=False, compare=False)
    seed: int | None = None
    rule: str = RULE
    rests_on: str = OUR_READING
    fingerprint: str = ""

    @property
    def passed(self) -> bool:
        """Whether every engine agrees on every input, nothing static differs, and the inputs could have told."""
        return (
            not self.problems
            and all(c.passed for comparisons in self.results.values() for c in comparisons)
            and all(check.ok is not False for checks in self.checks.values() for check in checks)
            and all(judgement.passed for judgement in self.budgets.values())
        )

    def __repr__(self) -> str:
        why = [*self.problems, *(name for name, _, _, verdict in self._rows() if verdict == "FAIL")]
        said = "passed" if self.passed else f"FAILED: {', '.join(why[:3])}"
        return f"Verification({self.reference!r}, {len(self.results)} engines, {said})"

    def _repr_html_(self) -> str:
        title = f"{self.reference}: {'passed' if self.passed else 'FAILED'}"
        columns = ("what", "inputs", "largest error", "verdict")
        return html_table(title, self._rows(), columns, [*self.problems, *self.notes])

    def _rows(self) -> list[tuple[str, str, str, str]]:
        """Every engine with its inputs and largest error, and every check that failed."""
        rows = []
        for name, found in self.results.items():
            verdict = "pass" if all(c.passed for c in found) else "FAIL"
            rows.append((name, str(len(found)), f"{max((c.error for c in found), default=0.0):.2e}", verdict))
        for name, checks in self.checks.items():
            rows += [(f"{name}: {check.name}", "", "", "FAIL") for check in checks if check.ok is False]
        return rows

    def worst(self) -> float:
        """The largest relative error of any engine on any input."""
        return max(c.error for comparisons in self.results.values() for c in comparisons)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; described by ``schema.json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "passed": self.passed,
            "reference": self.reference,
            "oracle": self.oracle,
            "rests_on": self.rests_on,
            "fingerprint": self.fingerprint,
            "rule": self.rule,
            "limit": self.limit,
            "reference_error": _finite(self.reference_error),
            "spread": _finite(self.spread),
            "seed": self.seed,
            "problems": list(self.problems),
            "notes": list(self.notes),
            "results": {name: [c.to_dict() for c in comparisons] for name, comparisons in self.results.items()},
            "checks": {name: [c.to_dict() for c in checks] for name, checks in self.checks.items()},
            "breaks": {name: found.to_dict() for name, found in self.breaks.items()},
            "budgets": {name: judgement.to_dict() for name, judgement in self.budgets.items()},
            "inputs": [dict(spec) for spec in self.inputs],
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "tool": f"densenet-converter {__version__}",
        }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
