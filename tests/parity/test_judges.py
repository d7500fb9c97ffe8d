"""Reduced precisions and their judge."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from converter.core.model import Model
from converter.engines.onnxruntime import onnx_engine
from converter.exporters.onnx import lazy_onnx
from converter.parity.budget import BUDGETS, judged
from converter.use.calibrate import calibrate, calibration_inputs
from converter.use.inputs import Batch
from densenet import DenseNetConfig


def test_eight_bits_hold_on_held_out_images(trained: Model, trained_images: list[np.ndarray]) -> None:
    whole = lazy_onnx(trained)
    quantised = calibrate(whole, calibration_inputs(trained, trained_images[::2]))
    onnx.checker.check_model(quantised.whole(), full_check=True)
    batches = [Batch("held out", np.concatenate(trained_images[1::2]), "images")]
    truths = [onnx_engine(whole)(batches[0].array)]
    verdict = judged("int8", onnx_engine(quantised), batches, truths, trained.config)
    assert verdict.passed
    assert verdict.top1 == 1.0
    assert verdict.error < 0.03


LOGITS = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda x: x, ""),
        (lambda x: x + np.float32(1e-4), ""),
        (lambda x: x * np.nan, "NaN or infinite"),
        (lambda x: x * 1.5, "logit error"),
        (lambda x: x[:, ::-1], "decided images keep their class"),
    ],
)
def test_the_judge(change: object, problem: str) -> None:
    batches = [Batch("all", np.zeros((40, 3, 8, 8), np.float32), "noise")]
    verdict = judged("fp16", lambda _: change(LOGITS), batches, [LOGITS], DenseNetConfig())  # type: ignore[operator]
    assert problem in "; ".join(verdict.problems)
    assert verdict.passed == (not problem)
    assert set(verdict.to_dict()) >= {"passed", "error", "top1", "top1_decided", "images", "budget"}


def test_near_ties_do_not_count_as_disagreement_but_are_reported() -> None:
    truth = np.array([[1.0, 0.0, -5.0], [1.0, 0.99, -5.0]], np.float32)
    found = truth + np.array([[0, 0, 0], [-0.02, 0.02, 0]], np.float32)
    batches = [Batch("two", np.zeros((2, 3, 8, 8), np.float32), "noise")]
    verdict = judged("int8", lambda _: found, batches, [truth], DenseNetConfig())
    assert (verdict.top1, verdict.top1_decided, verdict.decided) == (0.5, 1.0, 1)
    assert verdict.passed
    assert BUDGETS["int8"].error == 0.10
