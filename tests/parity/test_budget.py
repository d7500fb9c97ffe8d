"""The budget of reduced precisions."""

from __future__ import annotations

import numpy as np
import pytest

from converter.core.errors import ConverterError
from converter.parity.budget import judge


def test_the_budget_passes_rounding_and_fails_more() -> None:
    random = np.random.default_rng(0)
    expected = [random.standard_normal((40, 10))]
    rounded = [batch.astype(np.float16).astype(np.float32) for batch in expected]
    assert judge(rounded, expected, "fp16").passed
    noisy = [batch + random.normal(0, 0.05, batch.shape) for batch in expected]
    judgement = judge(noisy, expected, "fp16")
    assert "logit error" in judgement.problems[0]
    assert judge(noisy, expected, "int8").passed
    assert not judge([np.roll(batch, 1, 0) for batch in expected], expected, "int8").passed
    assert not judge([batch * np.nan for batch in expected], expected, "int8").passed
    assert not judge([batch[:, 1:] for batch in expected], expected, "int8").passed
    with pytest.raises(ConverterError, match="no budget for"):
        judge(noisy, expected, "fp8")


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_the_budget_of_a_single_class_knows_no_scale(scale: float) -> None:
    expected = [scale * np.random.default_rng(0).standard_normal((40, 1))]
    assert judge([batch * 1.001 for batch in expected], expected, "fp16").passed
    assert not judge([batch * 1.05 for batch in expected], expected, "fp16").passed
    assert judge(expected, expected, "fp16").decided > 20
