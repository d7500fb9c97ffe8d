"""One class each: how often the best answers are right, class by class, and what is taken for what."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from converter.core.checkpoint import Array
from converter.use.evaluation.calibration import Bin, calibration, calibration_error

TOP = 5
Z = 1.959963984540054
"""The normal distribution's quantile at 97.5 %."""


@dataclass(frozen=True)
class OfClass:
    """One class: images that are of it, images that are taken for it, and those that are both."""

    name: str
    images: int
    answered: int
    correct: int

    @property
    def recall(self) -> float | None:
        """The share of its images that are found; None without images."""
        return self.correct / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """The share of such answers that are right; None without such answers."""
        return self.correct / self.answered if self.answered else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both; None without images and answers."""
        both = self.images + self.answered
        return 2 * self.correct / both if both else None


@dataclass(frozen=True)
class Choice:
    """Answers of which one is right.

    Attributes:
        images: how many there are.
        top1, top5: images whose class is the best, or among the five best.
        classes: each by itself, in order.
        confusion: pairs of true and answered class, and how many images are that.
        calibration: probabilities of the best class; empty where scores are no probabilities.
    """

    images: int
    top1: int
    top5: int
    classes: tuple[OfClass, ...]
    confusion: dict[tuple[int, int], int]
    calibration: tuple[Bin, ...]

    @property
    def calibration_error(self) -> float | None:
        """Of the best class' probability, from 0 to 1."""
        return calibration_error(self.calibration)

    @property
    def balanced(self) -> float:
        """Mean recall over the classes that have images."""
        return mean(found.recall for found in self.classes) or 0.0

    @property
    def f1(self) -> float | None:
        """Mean F1 over the classes that have images or answers."""
        return mean(found.f1 for found in self.classes)


def choice(truth: Array, best: Array, confidence: Array | None, names: Sequence[str]) -> Choice:
    """Figures of answers.

    Args:
        truth: the class of each image, int (N,).
        best: the classes of the largest scores, best first, int (N, at most 5).
        confidence: probability of the best class, float (N,); None where there is none.
        names: of all classes.
    """
    count = len(names)
    right = best == truth[:, None]
    pairs, sizes = np.unique(truth.astype(np.int64) * count + best[:, 0], return_counts=True)
    confusion = {divmod(int(pair), count): int(size) for pair, size in zip(pairs, sizes)}
    images, answered = np.bincount(truth, minlength=count), np.bincount(best[:, 0], minlength=count)
    correct = np.bincount(truth[right[:, 0]], minlength=count)
    return Choice(
        len(truth),
        int(right[:, 0].sum()),
        int(right.any(axis=1).sum()),
        tuple(OfClass(names[i], int(images[i]), int(answered[i]), int(correct[i])) for i in range(count)),
        confusion,
        calibration(confidence, right[:, 0]) if confidence is not None else (),
    )


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson's score (1927); it stays between 0 and 1, also at all or nothing."""
    share, z2 = hits / total, Z * Z
    centre, spread = share + z2 / (2 * total), Z * sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return max((centre - spread) / (1 + z2 / total), 0.0), min((centre + spread) / (1 + z2 / total), 1.0)


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of those that are defined; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
