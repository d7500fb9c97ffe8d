"""Batch norms with another eps, exactly; and what they count."""

from collections.abc import Mapping

import numpy as np

from converter.core.checkpoint import Tensor
from converter.core.errors import CannotExpress
from densenet.config import DenseNetConfig
from densenet.module import COUNTER


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


def missing_counters(config: DenseNetConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros for the numbers of batches that norms have seen, of those that have none; they matter in training only."""
    names = (f"{module.name}.{COUNTER}" for module in config.modules() if module.kind == "norm")
    return {name: Tensor.of(np.zeros((), np.int64)) for name in names if name not in tensors}
