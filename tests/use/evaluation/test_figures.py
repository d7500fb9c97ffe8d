"""Figures of answers: scikit-learn's, and examples that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.use.evaluation.calibration import calibration, calibration_error
from converter.use.evaluation.choice import choice, wilson
from converter.use.evaluation.findings import findings

metrics = pytest.importorskip("sklearn.metrics")
NAMES = ("a", "b", "c")


def test_one_class_each_by_hand() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    best = np.array([[0, 1], [0, 2], [1, 0], [1, 0], [2, 1], [2, 0]])
    found = choice(truth, best, np.array([0.9, 0.8, 0.6, 0.7, 0.5, 0.9]), NAMES)
    assert (found.images, found.top1, found.top5) == (6, 4, 6)
    assert [(c.images, c.answered, c.correct) for c in found.classes] == [(3, 2, 2), (2, 2, 1), (1, 2, 1)]
    assert [c.recall for c in found.classes] == [2 / 3, 1 / 2, 1]
    assert [c.precision for c in found.classes] == [1, 1 / 2, 1 / 2]
    assert found.confusion == {(0, 0): 2, (0, 1): 1, (1, 1): 1, (1, 2): 1, (2, 2): 1}
    assert found.balanced == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    # Of each of the bins of 1/15: .9 and .9 right; .8 right; .7 right; .6 wrong; .5 wrong.
    assert found.calibration_error == pytest.approx((2 * 0.1 + 0.2 + 0.3 + 0.6 + 0.5) / 6)


def test_labels_by_hand() -> None:
    # Of two that have it and two that have not, three of the four pairs are in the right order.
    truth = np.array([[1.0], [0], [1], [0], [np.nan]])
    scores = np.array([[2.0], [1], [0.5], [-3], [9]])
    found = findings(truth, scores, 1 / (1 + np.exp(-scores)), ["x"], [0.5])
    (label,) = found.labels
    assert (label.images, label.positive, label.auroc) == (4, 2, 0.75)
    assert label.ap == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)  # the recall gained at each place, times the precision
    assert (label.hits, label.false_alarms, label.right) == (2, 1, 3)
    assert (label.precision, label.sensitivity, label.specificity) == (2 / 3, 1, 1 / 2)
    assert label.f1 == pytest.approx(0.8)


def test_calibration_error_by_hand() -> None:
    bins = calibration(np.array([0.05, 0.06, 0.97, 0.99, 1.0]), np.array([0, 1, 1, 1, 0]))
    assert [(b.count, round(b.confidence, 4), round(b.right, 4)) for b in bins if b.count] == [
        (2, 0.055, 0.5),
        (3, 0.9867, 0.6667),
    ]
    assert calibration_error(bins) == pytest.approx((2 * 0.445 + 3 * 0.32) / 5)
    on_edges = calibration(np.array([0.0, 1 / 15, 1.0]), np.ones(3))
    assert [b.count for b in on_edges] == [2, *[0] * 13, 1]
    assert calibration_error(()) is None


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 8))
def test_one_class_each_as_scikit_learn_has_it(seed: int, images: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, images)
    scores = random.random((images, classes))
    scores /= scores.sum(axis=1, keepdims=True)
    best = np.argsort(-scores, axis=1)[:, :5]
    found = choice(truth, best, scores.max(axis=1), [str(i) for i in range(classes)])
    answer, labels = best[:, 0], list(range(classes))
    matrix = metrics.confusion_matrix(truth, answer, labels=labels)
    assert found.confusion == {(i, j): matrix[i, j] for i in labels for j in labels if matrix[i, j]}
    assert found.top1 / images == pytest.approx(metrics.accuracy_score(truth, answer))
    if classes > 5:
        assert found.top5 / images == pytest.approx(metrics.top_k_accuracy_score(truth, scores, k=5, labels=labels))
    f1 = metrics.f1_score(truth, answer, labels=labels, average=None, zero_division=np.nan)
    np.testing.assert_allclose([np.nan if c.f1 is None else c.f1 for c in found.classes], f1)
    present = sorted(set(truth.tolist()))
    assert found.balanced == pytest.approx(metrics.recall_score(truth, answer, labels=present, average="macro"))


@pytest.mark.parametrize("unknown", [0.0, 0.3])
@pytest.mark.parametrize(("images", "labels"), [(5, 2), (60, 3)])
def test_labels_as_scikit_learn_has_them(images: int, labels: int, unknown: float) -> None:
    random = np.random.default_rng(images)
    truth = random.integers(0, 2, (images, labels)).astype(float)
    truth[0], truth[1] = 0, 1  # so that every figure is defined
    hidden = random.random((images, labels)) < unknown
    hidden[:2] = False
    scores = np.round(random.normal(0, 2, (images, labels)), 1)  # some are equal
    thresholds = random.uniform(0.2, 0.8, labels)
    probabilities = 1 / (1 + np.exp(-scores))
    found = findings(
        np.where(hidden, np.nan, truth), scores, probabilities, [str(i) for i in range(labels)], thresholds
    )
    yes = probabilities >= thresholds
    for i, label in enumerate(found.labels):
        known = ~hidden[:, i]
        have, say, sure = truth[known, i], yes[known, i], probabilities[known, i]
        assert label.auroc == pytest.approx(metrics.roc_auc_score(have, sure))
        assert label.ap == pytest.approx(metrics.average_precision_score(have, sure))
        assert label.f1 == pytest.approx(metrics.f1_score(have, say, zero_division=0))
        assert label.accuracy == pytest.approx(metrics.accuracy_score(have, say))
        assert label.sensitivity == pytest.approx(metrics.recall_score(have, say))
        assert label.specificity == pytest.approx(metrics.recall_score(1 - have, ~say))
    if unknown == 0:
        for figure, of in (("auroc", metrics.roc_auc_score), ("ap", metrics.average_precision_score)):
            assert found.macro(figure) == pytest.approx(of(truth, probabilities, average="macro"))
            assert getattr(found.micro, figure) == pytest.approx(of(truth, probabilities, average="micro"))
        assert found.macro("f1") == pytest.approx(metrics.f1_score(truth, yes, average="macro", zero_division=0))
        assert found.micro.f1 == pytest.approx(metrics.f1_score(truth, yes, average="micro", zero_division=0))


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(1, 200))
def test_calibration_as_scikit_learn_bins_it(seed: int, count: int) -> None:
    from sklearn.calibration import calibration_curve

    random = np.random.default_rng(seed)
    likely, right = random.random(count), random.integers(0, 2, count)
    bins = [b for b in calibration(likely, right) if b.count]
    shares, means = calibration_curve(right, likely, n_bins=15)
    np.testing.assert_allclose([b.right for b in bins], shares)
    np.testing.assert_allclose([b.confidence for b in bins], means)
    assert sum(b.count for b in bins) == count


def test_what_is_not_defined_is_none_and_in_no_mean() -> None:
    truth = np.array([[0.0, 1, np.nan], [0, 0, np.nan]])
    scores = np.array([[-1.0, 2, 0], [-2, -1, 0]])
    found = findings(truth, scores, 1 / (1 + np.exp(-scores)), ["never", "some", "unknown"], [0.5] * 3)
    never, some, unknown = found.labels
    assert (never.auroc, never.ap, never.f1, never.specificity) == (None, None, None, 1)
    assert (unknown.images, unknown.auroc, unknown.accuracy, unknown.calibration_error) == (0, None, None, None)
    assert (found.macro("auroc"), found.macro("ap"), found.macro("f1")) == (1, 1, 1) == (some.auroc, some.ap, some.f1)


def test_numbers_that_are_no_probabilities_are_ranked_and_not_judged_otherwise() -> None:
    found = findings(np.array([[1.0], [0]]), np.array([[30.0], [20]]), None, ["x"], [0.5])
    (label,) = found.labels
    assert (label.auroc, label.ap) == (1, 1)
    assert (label.f1, label.accuracy, label.threshold, found.calibration_error) == (None, None, None, None)


@pytest.mark.parametrize(("hits", "total"), [(0, 10), (10, 10), (3, 7), (49_000, 50_000), (1, 1)])
def test_intervals_are_wilsons(hits: int, total: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(hits, total).proportion_ci(method="wilson")
    assert wilson(hits, total) == pytest.approx((expected.low, expected.high))
