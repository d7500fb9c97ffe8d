"""What calibrates 8 bits, and what would overflow half precision."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.networks import SMALL, random_model

from converter.core.errors import CannotExpress, ConverterError
from converter.core.model import Model
from converter.exporters.onnx import lazy_onnx
from converter.parity.budget import judges
from converter.use.calibrate import calibrate, calibration_inputs, check_range


def test_values_that_would_overflow_half_between_operators_are_refused() -> None:
    loud = np.full(SMALL.tensors()["stem.norm.bias"], 6e4, np.float32)
    made = lazy_onnx(random_model(changes={"stem.norm.bias": loud, "transitions.0.norm.bias": loud[:1].repeat(14)}))
    with pytest.raises(CannotExpress, match=r"reaches .*, beyond 65504"):
        check_range(made, judges(random_model())[:1])


def test_old_opsets_and_missing_calibration_are_refused(trained: Model) -> None:
    with pytest.raises(CannotExpress, match="13 or newer"):
        calibrate(lazy_onnx(trained, opset=12), calibration_inputs(trained)[:1])
    with pytest.raises(ConverterError, match="at least one input"):
        calibrate(lazy_onnx(trained), [])


def test_calibration_never_judges(trained: Model, trained_images: list[np.ndarray]) -> None:
    calibrating = {array.tobytes() for array in calibration_inputs(trained, trained_images[::2])}
    judging = {
        batch.array[i : i + 1].tobytes()
        for batch in judges(trained, trained_images[1::2])
        for i in range(len(batch.array))
    }
    assert not calibrating & judging
    assert len(calibration_inputs(trained, trained_images * 3)) <= 64 + 16
