"""The yardstick: how far from the oracle, and how far is far.

Two engines never agree bit for bit.  The float64 oracle gives each engine's own error;
an artifact passes when its error is within ``FACTOR`` times what PyTorch's float32
shows on the same inputs, or below a floor of a few units in the last place.  PyTorch
may by luck be almost exact on one input, or in the few numbers that a classifier of two
classes or a narrow layer before it gives, so the yardstick of an input is at least the
median over all of them, and what the errors of the pooled features come to in logits if
they add up as noise does.  And PyTorch adds
pairwise where others add one number after the other: the floor rises with the number of
positions that are averaged.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from converter.core.checkpoint import Array

FACTOR = 5.0
FLOOR_ULPS = 8.0
POSITIONS_PER_ULP = 8.0
"""Positions averaged by the global pooling for each ulp more: eight sums side by side, as vector units make them."""
DISCRIMINATION = 10.0
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
        top1, top5: fraction of images whose best class (set of five best) is the same; None where that is always so,
            of one class (of five and fewer), and where nothing could be measured.
        problem: why it fails, empty if it passes.
        ulps: ``error`` in units in the last place of the largest logit.
        kl: largest Kullback-Leibler divergence, in nats, of an image's probabilities from the oracle's.
    """

    batch: str
    error: float
    limit: float
    absolute: float = float("inf")
    cosine: float = 0.0
    top1: float | None = None
    top5: float | None = None
    problem: str = ""
    ulps: float = float("inf")
    kl: float = float("inf")

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
    if logits.shape != oracle.shape or not np.isfinite(logits).all() or not np.isfinite(oracle).all():
        return float("inf")
    scale = float(np.abs(oracle).max(initial=0))
    difference = float(np.abs(logits.astype(np.float64) - oracle).max(initial=0))
    return difference / scale if scale else (0.0 if not difference else float("inf"))


def limits_for(own: Sequence[float], positions: Sequence[int] = ()) -> list[float]:
    """The error an artifact may show on each input.

    An input on which PyTorch itself overflows gets the limit of a typical one, so that it fails.

    Args:
        own: what PyTorch's float32 shows, or should show, on each.
        positions: how many the global pooling averages on each; none where that is past.
    """
    finite = [error for error in own if np.isfinite(error)]
    median = float(np.median(finite)) if finite else 0.0
    floors = [FLOOR_ULPS + count / POSITIONS_PER_ULP for count in positions] or [FLOOR_ULPS] * len(own)
    errors = [max(error, median) if np.isfinite(error) else median for error in own]
    return [max(FACTOR * error, floor * ULP) for error, floor in zip(errors, floors)]


def explained_error(carried: Array, oracle: Array) -> float:
    """The error of logits that the errors of features come to, relative to the largest logit.

    Args:
        carried: what they come to in each logit, (N, classes); see :func:`converter.engines.torch.carried`.
        oracle: its logits (N, classes).
    """
    scale = float(np.abs(oracle).max(initial=0))
    if not (np.isfinite(carried).all() and np.isfinite(oracle).all() and scale):
        return float("inf") if scale else 0.0
    return float(carried.max(initial=0)) / scale


def compare(batch: str, logits: Array, oracle: Array, limit: float, dtype: type = np.float32) -> Comparison:
    """Judge one engine's logits (N, classes), float32 or what is said instead, on one batch."""
    if logits.shape != oracle.shape:
        return failed(batch, limit, f"shape {list(logits.shape)}, {list(oracle.shape)} expected")
    if logits.dtype != dtype:
        return failed(batch, limit, f"logits are {logits.dtype}, {np.dtype(dtype)} expected")
    bad = int((~np.isfinite(logits)).sum())
    if bad:
        return failed(batch, limit, f"{bad} of {logits.size} logits are NaN or infinite")
    error = relative_error(logits, oracle)
    where = "" if dtype is np.float32 else f" in {np.dtype(dtype)}"
    problem = "" if error <= limit else f"error {error:.1e}{where} exceeds {limit:.1e}"  # NaN exceeds everything
    return measured(batch, logits, oracle, limit, problem)


def measured(batch: str, logits: Array, oracle: Array, limit: float, problem: str = "") -> Comparison:
    """All figures of one batch, finite and of one shape; whether they suffice has been decided."""
    error = relative_error(logits, oracle)
    got = logits.astype(np.float64)
    absolute = float(np.abs(got - oracle).max(initial=0))
    norms = float(np.linalg.norm(got) * np.linalg.norm(oracle))
    cosine = float((got * oracle).sum() / norms) if norms else float(not absolute)
    top1, top5 = (agreement(got, oracle, k) if oracle.shape[1] > k else None for k in (1, 5))
    divergence = float(divergences(got, oracle).max(initial=0))
    return Comparison(batch, error, limit, absolute, cosine, top1, top5, problem, error / ULP, divergence)


def failed(batch: str, limit: float, problem: str) -> Comparison:
    """An engine that gave nothing that could be measured."""
    return Comparison(batch, float("inf"), limit, problem=problem)


def agreement(logits: Array, oracle: Array, k: int) -> float:
    """Fraction of images whose k best classes are the same set."""
    k = min(k, oracle.shape[1])
    best = [np.sort(np.argsort(-values, axis=1, kind="stable")[:, :k], axis=1) for values in (logits, oracle)]
    return float((best[0] == best[1]).all(1).mean()) if len(oracle) else 1.0


def divergences(logits: Array, oracle: Array) -> Array:
    """Kullback-Leibler divergence (N,), in nats, of the probabilities from the oracle's."""
    logs = [values - values.max(axis=1, keepdims=True) for values in (logits, oracle)]
    logs = [values - np.log(np.exp(values).sum(axis=1, keepdims=True)) for values in logs]
    result: Array = np.maximum((np.exp(logs[1]) * (logs[1] - logs[0])).sum(axis=1), 0)
    return result


def spread(oracles: Sequence[Array]) -> float:
    """How much logits differ between inputs, in units of each batch's largest: the largest deviation of a class.

    Near zero means that any model would have agreed.
    """
    scaled = [values / scale for values in oracles if (scale := float(np.abs(values).max(initial=0)))]
    return float(np.concatenate(scaled).std(axis=0).max(initial=0)) if scaled else 0.0


RULE = (
    f"An engine passes when its error is at most {FACTOR:g} times that of PyTorch's float32 on the same input "
    f"(or on the median one), or {FLOOR_ULPS:g} ulps and one more for every {POSITIONS_PER_ULP:g} positions averaged; "
    "errors are relative to the largest logit."
)
