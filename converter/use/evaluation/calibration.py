"""Whether probabilities are what they say: the expected calibration error."""

from dataclasses import dataclass

import numpy as np

from converter.core.checkpoint import Array

BINS = 15
DEFINITION = (
    f"Expected calibration error: {BINS} bins of equal width (a value on an edge belongs to the lower one); in each "
    "the difference between the mean probability and the share that was right, weighted by how many fell into it "
    "(Guo et al. 2017)."
)


@dataclass(frozen=True)
class Bin:
    """Answers whose probability lies above ``low`` and not above ``high``.

    Attributes:
        count: how many.
        confidence: their mean probability; ``right`` the share that was right; both 0 where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float
    right: float


def calibration(probability: Array, right: Array) -> tuple[Bin, ...]:
    """Answers (N,) from 0 to 1 by their probability, with whether each was right."""
    edges = np.linspace(0, 1, BINS + 1)
    place = np.searchsorted(edges[1:-1], probability, side="left")
    result = []
    for i in range(BINS):
        inside = place == i
        count = int(inside.sum())
        mean = float(probability[inside].mean()) if count else 0.0
        share = float(right[inside].mean()) if count else 0.0
        result.append(Bin(float(edges[i]), float(edges[i + 1]), count, mean, share))
    return tuple(result)


def calibration_error(bins: tuple[Bin, ...]) -> float | None:
    """The expected calibration error, from 0 to 1; None where nothing was answered.

    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    total = sum(part.count for part in bins)
    return sum(part.count * abs(part.right - part.confidence) for part in bins) / total if total else None
