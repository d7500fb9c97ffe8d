"""The yardstick: how far from the oracle, and how far is far.

Two engines never agree bit for bit.  The float64 oracle gives each engine's own error;
an artifact passes when its error is within ``FACTOR`` times what PyTorch's float32
shows on the same inputs, or below a floor of a few units in the last place, for
networks so small that PyTorch happens to be almost exact.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FACTOR = 8.0
FLOOR_ULPS = 32.0
DISCRIMINATION = 1e3
"""Logits must differ between inputs by this many times the permitted error, else agreement proves nothing."""

ULP = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Comparison:
    """One engine against the oracle on one batch.  Errors are relative to the oracle's largest logit.

    Attributes:
        batch: name of the input.
        error: largest absolute difference, divided by the largest absolute logit.
        limit: what ``error`` may be.
        absolute: the same difference, undivided.
        cosine: cosine similarity of all logits.
        top1, top5: fraction of images whose best class (set of five best) is the same.
        problem: why it fails, empty if it passes.
    """

    batch: str
    error: float
    limit: float
    absolute: float
    cosine: float
    top1: float
    top5: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the engine agrees."""
        return not self.problem

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values; what is not a number becomes null."""
        values = asdict(self) | {"passed": self.passed}
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}


def relative_error(logits: Array, oracle: Array) -> float:
    """Largest difference in units of the largest logit; infinite where it cannot be said."""
    if logits.shape != oracle.shape or not np.isfinite(logits).all():
        return float("inf")
    scale = float(np.abs(oracle).max(initial=0))
    difference = float(np.abs(logits.astype(np.float64) - oracle).max(initial=0))
    return difference / scale if scale else (0.0 if not difference else float("inf"))


def limit_for(reference_error: float) -> float:
    """The error an artifact may show where PyTorch's float32 shows ``reference_error``."""
    return max(FACTOR * reference_error, FLOOR_ULPS * ULP)


def compare(batch: str, logits: Array, oracle: Array, limit: float) -> Comparison:
    """Judge one engine's logits (N, classes) on one batch."""
    if logits.shape != oracle.shape:
        problem = f"shape {list(logits.shape)}, {list(oracle.shape)} expected"
        return Comparison(batch, float("inf"), limit, float("inf"), 0.0, 0.0, 0.0, problem)
    bad = int((~np.isfinite(logits)).sum())
    if bad:
        problem = f"{bad} of {logits.size} logits are NaN or infinite"
        return Comparison(batch, float("inf"), limit, float("inf"), 0.0, 0.0, 0.0, problem)
    error = relative_error(logits, oracle)
    got = logits.astype(np.float64)
    absolute = float(np.abs(got - oracle).max(initial=0))
    norms = float(np.linalg.norm(got) * np.linalg.norm(oracle))
    cosine = float((got * oracle).sum() / norms) if norms else 1.0
    top1, top5 = agreement(got, oracle, 1), agreement(got, oracle, 5)
    problem = f"error {error:.1e} exceeds {limit:.1e}" if error > limit else ""
    return Comparison(batch, error, limit, absolute, cosine, top1, top5, problem)


def agreement(logits: Array, oracle: Array, k: int) -> float:
    """Fraction of images whose k best classes are the same set."""
    k = min(k, oracle.shape[1])
    best = [np.sort(np.argsort(-values, axis=1, kind="stable")[:, :k], axis=1) for values in (logits, oracle)]
    return float((best[0] == best[1]).all(1).mean()) if len(oracle) else 1.0


def spread(oracles: list[Array]) -> float:
    """How much logits differ between inputs, in units of the largest logit: the largest standard deviation of a class.

    Near zero means that any model would have agreed.
    """
    everything = np.concatenate(oracles)
    scale = float(np.abs(everything).max(initial=0))
    return float(everything.std(axis=0).max(initial=0)) / scale if scale else 0.0
