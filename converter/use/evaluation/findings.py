"""Each label by itself: how well scores rank images, and how often a threshold decides right.

AUROC and average precision are scikit-learn's.  Both look at the order of scores only, so they are taken from logits:
probabilities near 1 are equal in float32 where logits are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import Unavailable
from converter.use.evaluation.calibration import Bin, calibration, calibration_error
from converter.use.evaluation.choice import mean

THRESHOLD = 0.5


def check_metrics() -> None:
    """Refuse before the work is done.

    Raises:
        Unavailable: scikit-learn is not installed.
    """
    if find_spec("sklearn") is None:
        raise Unavailable(
            "AUROC and average precision are scikit-learn's, which is not installed: "
            "pip install 'densenet-converter[metrics]'"
        )


@dataclass(frozen=True)
class OfLabel:
    """One label.

    Attributes:
        name: the output's.
        images: those whose truth is known; ``positive`` those of them that have it.
        auroc: area under the ROC curve; None unless some have it and some have not.
        ap: average precision; None unless some have it.
        threshold: probabilities from it on count as yes; None where it is not one.
        hits, false_alarms: images that are said to have it, rightly and wrongly; None where there are no probabilities.
        calibration_error: of its probability; None where there are none.
        curve: (false positive rate, true positive rate) of the ROC curve.
    """

    name: str
    images: int
    positive: int
    auroc: float | None
    ap: float | None
    threshold: float | None
    hits: int | None = None
    false_alarms: int | None = None
    calibration_error: float | None = None
    curve: tuple[tuple[float, float], ...] = ()

    @property
    def right(self) -> int | None:
        """Images that are said to have it and have it, or neither."""
        if self.hits is None or self.false_alarms is None:
            return None
        return self.hits + self.images - self.positive - self.false_alarms

    @property
    def accuracy(self) -> float | None:
        """The share of those."""
        return _share(self.right, self.images)

    @property
    def sensitivity(self) -> float | None:
        """The share of those that have it that is found: recall."""
        return _share(self.hits, self.positive)

    @property
    def specificity(self) -> float | None:
        """The share of those that have it not that is let be."""
        wrong = _share(self.false_alarms, self.images - self.positive)
        return None if wrong is None else 1 - wrong

    @property
    def precision(self) -> float | None:
        """The share of those that are said to have it that has it."""
        return _share(self.hits, (self.hits or 0) + (self.false_alarms or 0))

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and sensitivity; None where nobody has it or is said to."""
        hits = self.hits or 0
        return None if self.hits is None else _share(2 * hits, self.positive + hits + (self.false_alarms or 0))


def _share(part: int | None, whole: int) -> float | None:
    return part / whole if part is not None and whole else None


@dataclass(frozen=True)
class Findings:
    """Answers to questions that do not exclude each other.

    Attributes:
        images: how many there are.
        labels: each by itself.
        micro: all pairs of an image and a label taken together, as if they were one label.
        calibration: of all probabilities together; empty where there are none.
    """

    images: int
    labels: tuple[OfLabel, ...]
    micro: OfLabel
    calibration: tuple[Bin, ...]

    @property
    def calibration_error(self) -> float | None:
        """Of all probabilities together, from 0 to 1."""
        return calibration_error(self.calibration)

    def macro(self, figure: str) -> float | None:
        """Mean of a figure over the labels for which it is defined."""
        return mean(getattr(label, figure) for label in self.labels)


def findings(
    truth: Array, scores: Array, probabilities: Array | None, names: Sequence[str], thresholds: Sequence[float]
) -> Findings:
    """Figures of answers.

    Args:
        truth: float (N, L), 1, 0, or NaN where unknown.
        scores: what ranks images, float (N, L).
        probabilities: float (N, L); None where scores are none.
        names, thresholds: of the L labels.
    """
    cut = np.broadcast_to(np.asarray(thresholds), truth.shape)
    given = probabilities is not None
    likely = probabilities if probabilities is not None else scores
    labels = tuple(
        _label(name, truth[:, i], scores[:, i], likely[:, i], cut[:, i], given) for i, name in enumerate(names)
    )
    micro = _label("micro", truth.ravel(), scores.ravel(), likely.ravel(), cut.ravel(), given)
    known = ~np.isnan(truth)
    bins = calibration(likely[known], truth[known]) if given else ()
    return Findings(len(truth), labels, micro, bins)


def _label(name: str, truth: Array, scores: Array, likely: Array, cut: Array, given: bool) -> OfLabel:
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve  # noqa: PLC0415 (slow to import)

    known = ~np.isnan(truth)
    truth, scores, likely, cut = truth[known], scores[known], likely[known], cut[known]
    positive = int(truth.sum())
    both = 0 < positive < len(truth)
    yes = likely >= cut
    curve = _thinned(*roc_curve(truth, scores)[:2]) if both else ()
    return OfLabel(
        name,
        len(truth),
        positive,
        float(roc_auc_score(truth, scores)) if both else None,
        float(average_precision_score(truth, scores)) if positive else None,
        float(cut[0]) if given and len(set(cut.tolist())) == 1 else None,
        int((yes & (truth == 1)).sum()) if given else None,
        int((yes & (truth == 0)).sum()) if given else None,
        calibration_error(calibration(likely, truth)) if given else None,
        curve,
    )


POINTS = 200
"""Of a curve, at most."""


def _thinned(x: Array, y: Array) -> tuple[tuple[float, float], ...]:
    places = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).astype(int))
    return tuple((float(x[i]), float(y[i])) for i in places)
