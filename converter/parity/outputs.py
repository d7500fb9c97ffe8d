"""What an ONNX file gives beside its logits: the features they are made of, the probabilities they make."""

from __future__ import annotations

import numpy as np

from converter.core.checkpoint import Array
from converter.parity.activation import softmax
from converter.parity.compare import FLOOR_ULPS, ULP, Comparison, compare

HALF_ULP = float(np.finfo(np.float16).eps)


def compare_probabilities(batch: str, found: Array, logits: Array, *, half: bool) -> Comparison:
    """Whether an output is the softmax of the file's own logits, which are judged by themselves.

    Args:
        batch: name of the input.
        found: (N, classes).
        logits: of the same file, (N, classes).
        half: they are computed in float16: an exponent is off by the rounding of its logit.
    """
    exact = softmax(logits)
    rounding = (HALF_ULP if half else ULP) * max(1.0, float(np.abs(logits).max(initial=0)))
    return compare(batch, found, exact, FLOOR_ULPS * rounding)
