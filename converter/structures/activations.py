"""Activations as functions of one number, and which of them a function is: found by its values, however it is written.

``x * 0.5 * (1 + erf(x / sqrt 2))`` and its factors in any other order are GELU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf, pi, sqrt

import numpy as np

from converter.core.checkpoint import Array
from converter.structures.ops import Compute
from densenet.head import ACTIVATIONS, HeadLayer

SELU = (1.6732632423543772, 1.0507009873554805)
"""Alpha and scale (torch.nn.SELU; Klambauer et al., arXiv 1706.02515)."""


def erf_of(x: Array) -> Array:
    """The error function."""
    return np.array([erf(value) for value in x.ravel()], np.float64).reshape(x.shape)


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def elu(x: Array, alpha: float) -> Array:
    """``x``, and ``alpha * (exp(x) - 1)`` below zero."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


FUNCTIONS: Mapping[str, Callable[[Array, float], Array]] = {
    "relu": lambda x, _: np.maximum(x, 0),
    "relu6": lambda x, _: np.clip(x, 0, 6),
    "gelu": lambda x, _: 0.5 * x * (1 + erf_of(x / sqrt(2))),
    "gelu_tanh": lambda x, _: 0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))),
    "silu": lambda x, _: x * sigmoid(x),
    "mish": lambda x, _: x * np.tanh(np.logaddexp(0, x)),
    "tanh": lambda x, _: np.tanh(x),
    "sigmoid": lambda x, _: sigmoid(x),
    "softplus": lambda x, _: np.logaddexp(0, x),
    "hardswish": lambda x, _: x * np.clip(x + 3, 0, 6) / 6,
    "hardsigmoid": lambda x, _: np.clip(x + 3, 0, 6) / 6,
    "selu": lambda x, _: SELU[1] * elu(x, SELU[0]),
    "softsign": lambda x, _: x / (1 + np.abs(x)),
    "leaky_relu": lambda x, slope: np.where(x < 0, slope * x, x),
    "elu": elu,
    "celu": lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)),
}
"""By the names of a head's layers (torch.nn.functional)."""

FAR = 300.0
"""Up to there no function that is written out overflows in float64."""
_HALF = np.concatenate([np.geomspace(1e-6, 0.01, 9), np.linspace(0.013, 16.1, 487), [20, 33, 60, 120, FAR]])
POINTS = np.concatenate([_HALF, [1e4, 1e8, 1e30], -_HALF, [-1e4, -1e8, -1e30]])
TOLERANCE, OF_HALF = 2e-6, 2e-4
"""Constants such as 1/6 are rounded to float32, or to float16."""
SLOPE_AT, ALPHA_AT = -1.0, -1e8


def activation_of(compute: Compute, *, half: bool = False) -> HeadLayer | None:
    """The activation that a function is; None if it is none that is known.

    Args:
        compute: the function, of float64.
        half: whether it has constants of half precision.
    """
    with np.errstate(all="ignore"):
        have = np.broadcast_to(np.asarray(compute(POINTS), np.float64), POINTS.shape)
        slope, alpha = -np.broadcast_to(np.asarray(compute(np.array([SLOPE_AT, ALPHA_AT])), np.float64), 2)
        values = {"leaky_relu": slope, "elu": alpha, "celu": alpha}
        gaps = {kind: _gap(have, function(POINTS, values.get(kind, 0.0))) for kind, function in FUNCTIONS.items()}
    kind = min(gaps, key=gaps.__getitem__)  # of equal ones the first, which has no number
    if not gaps[kind] <= (OF_HALF if half else TOLERANCE):
        return None
    return HeadLayer(kind, value=None if ACTIVATIONS[kind] is None else shortest(float(values[kind])))


def _gap(have: Array, want: Array) -> float:
    """The largest difference, absolute or relative; where a function overflows far out it is not compared."""
    compared = np.isfinite(have) | (np.abs(POINTS) <= FAR)
    gap = np.abs(have - want)[compared] / (1 + np.abs(want[compared]))
    return float(np.max(gap)) if np.isfinite(gap).all() else np.inf


def shortest(value: float) -> float:
    """A number as it was meant, if it was stored as a float32: 0.2 for 0.20000000298."""
    single = np.float32(value)
    return float(str(single)) if float(single) == value else value
