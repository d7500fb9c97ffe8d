"""Inputs on which a reduced precision is compared with float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.model import Model
from converter.engines.run import Run
from converter.parity.budget import Judgement, judge
from converter.use.calibrate import input_shape
from converter.use.inputs import Batch, synthetic

JUDGES_SEED = 20_000
SYNTHETIC_JUDGES = 24


def judged(precision: str, run: Run, batches: Sequence[Batch], truths: Sequence[Array]) -> Judgement:
    """Hold an engine of that precision against float32's logits (N, classes) for the same batches."""
    return judge([run(batch.array) for batch in batches], truths, precision, kinds=[batch.kind for batch in batches])


def judges(model: Model, images: Sequence[Array] = ()) -> list[Batch]:
    """Inputs on which a reduced precision is compared with float32; arguments as for :func:`calibration_inputs`."""
    kinds = ["natural"] * (SYNTHETIC_JUDGES // 4 - 1) + ["noise"]
    made = [synthetic(kind, input_shape(model, 4), JUDGES_SEED + i) for i, kind in enumerate(kinds)]
    return made + [Batch(f"image {i}", image, "images") for i, image in enumerate(images)]


def rounded(value: Any) -> Any:
    """Floats with 3 significant digits: the rest depends on the processor."""
    if isinstance(value, float):
        return float(f"{value:.3g}") if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    return value
