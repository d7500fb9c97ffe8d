"""The yardstick: limits, figures, and what no tolerance excuses."""

from __future__ import annotations

import numpy as np
import pytest

from converter.parity import compare as yardstick


def test_the_limit_follows_pytorch_and_has_a_floor() -> None:
    assert yardstick.limits_for([0.0, 0.0]) == [8 * yardstick.ULP] * 2
    assert yardstick.limits_for([1e-6, 1e-6, 4e-6]) == pytest.approx([5e-6, 5e-6, 2e-5])
    assert yardstick.limits_for([1e-6, 1e-6, float("inf")])[2] == pytest.approx(5e-6)
    assert yardstick.limits_for([0.0, 0.0], [49, 4096]) == [(8 + 49 / 8) * yardstick.ULP, (8 + 512) * yardstick.ULP]


def test_errors_of_features_explain_an_error_of_logits_that_luck_hid() -> None:
    carried, logits = np.array([[6e-6, 1e-6]]), np.array([[10.0, -2.0]])
    assert yardstick.explained_error(carried, logits) == pytest.approx(6e-7)
    assert yardstick.explained_error(carried * np.nan, logits) == np.inf
    assert yardstick.explained_error(carried, np.zeros((1, 2))) == 0


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        (np.array([[1.0, np.nan]], np.float32), "1 of 2 logits are NaN"),
        (np.array([[1.0, np.inf]], np.float32), "NaN or infinite"),
        (np.array([[1.0, 2.0, 3.0]], np.float32), "shape [1, 3], [1, 2] expected"),
        (np.array([[1.0, 2.0]], np.float64), "float64, float32 expected"),
        (np.array([[1.0, 2.1]], np.float32), "exceeds"),
    ],
)
def test_what_no_tolerance_excuses(logits: np.ndarray, words: str) -> None:
    found = yardstick.compare("x", logits, np.array([[1.0, 2.0]]), 1e-6)
    assert words in found.problem
    assert not found.passed


def test_figures_of_a_comparison() -> None:
    oracle = np.array([[0.0, 2.0, 4.0], [4.0, 2.0, 0.0]])
    logits = np.array([[0.0, 2.0, 4.0], [4.0, 6.0, 0.0]], np.float32)
    found = yardstick.compare("x", logits, oracle, 2.0)
    assert (found.error, found.absolute, found.top1, found.top5) == (1.0, 4.0, 0.5, None)
    assert found.ulps == 1 / yardstick.ULP
    assert found.kl > 1
    assert found.passed
    assert yardstick.compare("x", oracle.astype(np.float32), oracle, 0.0).kl == 0


def test_inputs_that_prove_nothing() -> None:
    same = np.ones((3, 4))
    assert yardstick.spread([same, 1000 * same]) == 0
    assert yardstick.spread([np.array([[1.0, 0.0], [0.0, 1.0]])]) == 0.5
