"""Batch norms with another eps, exactly."""

import numpy as np

from converter.core.checkpoint import Tensor
from converter.core.errors import CannotExpress


def with_eps(norm: str, weight: Tensor, variance: Tensor, have: float, want: float) -> tuple[Tensor, Tensor]:
    """Weight and variance of a norm that does with eps ``want`` what it did with ``have`` (in float64).

    The variance takes the difference; where it is too small for that, the weight takes the ratio of the two roots.

    Raises:
        CannotExpress: it divides by zero.
    """
    values = variance.read().astype(np.float64)
    if (values + have - want).min(initial=0) >= 0:
        return weight, Tensor.of((values + have - want).astype(variance.dtype))
    if (values + have).min() <= 0:
        raise CannotExpress(f"{norm} divides by zero: it has a variance of 0 and eps {have:g}")
    scaled = weight.read().astype(np.float64) * np.sqrt((values + want) / (values + have))
    return Tensor.of(scaled.astype(weight.dtype)), variance
