"""Weights as 8-bit integers that change what a convolution gives as little as they can.

Rounded each to its nearest, the errors of weights add up, since neighbouring inputs are alike: in a trained densenet121
they were nearly all of what 8 bits changed.  Here weights are rounded in turn, and those still to come make up for what
is lost so far, as far as the inputs' covariance lets them (E. Frantar et al., GPTQ, arXiv 2210.17323, in the form that
J. Chee et al., QuIP, arXiv 2307.13304, call LDLQ).  What remains of the mean belongs into the bias (M. Nagel et al.,
arXiv 1906.04721).
"""

from __future__ import annotations

from contextlib import suppress
from math import prod

import numpy as np

from converter.core.checkpoint import Array
from converter.exporters.moments import Moments

LEVELS = 255
"""Steps of an 8-bit number."""
LARGEST = 127
"""Largest 8-bit weight."""
PAIR = 128
"""Largest sum of two neighbours: 128 x 255 still fits in 16 bits."""
SMALLEST = 1e-30
"""A scale below is none: it would not be a normal float32."""
BLOCK = 32
"""Weights rounded before what they lost is carried to all others at once."""
DAMPING = 0.01
"""Part of the mean variance that is added to each, so that few samples are not believed too much."""


def rounded(weight: Array, scale: Array, moments: Moments, width: Array) -> Array:
    """Weights, float64 (M, C, ...), in units of ``scale`` (M,): int8, no two neighbours beyond what 16 bits hold.

    Args:
        weight: of inputs that are divided by ``width``, (C * kernel,).
        scale: as :func:`quantised` chooses it.
        moments: of the inputs as they are.
        width: see there.
    """
    real = (weight / scale.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))).reshape(len(weight), -1).T
    whole = np.zeros_like(real)
    taps = prod(weight.shape[2:])
    for group, covariance in zip(moments.groups, moments.covariances()):
        feedback = _feedback(covariance / np.outer(width[group], width[group]))
        wanted, lost = real[group].copy(), np.zeros_like(real[group])
        for first in range(0, len(wanted), BLOCK):
            block = slice(first, min(first + BLOCK, len(wanted)))
            for at in range(block.start, block.stop):
                i = group.start + at
                wanted[at] += feedback[at, first:at] @ lost[first:at]
                row = np.rint(wanted[at], out=whole[i])
                np.minimum(np.maximum(row, -LARGEST, out=row), LARGEST, out=row)
                for other in (whole[k] for k in _neighbours(i, len(real), taps)):
                    np.minimum(np.maximum(row, -PAIR - other, out=row), PAIR - other, out=row)
                np.subtract(real[i], row, out=lost[at])
            wanted[block.stop :] += feedback[block.stop :, block] @ lost[block]
    return whole.T.reshape(weight.shape).astype(np.int8)


def _feedback(covariance: Array) -> Array:
    """For each input how much of what earlier ones lost it has to make up for, below the diagonal."""
    noise = 1 / (12 * LEVELS**2)  # that of inputs rounded to bytes
    variances = covariance.diagonal()
    regular = covariance + np.diag(np.full(len(covariance), DAMPING * variances.mean() + noise))
    factor = np.eye(len(covariance))
    if np.isfinite(regular).all():
        with suppress(np.linalg.LinAlgError):  # float32 did not hold it: each weight to its nearest
            factor = np.linalg.cholesky(regular[::-1, ::-1])[::-1, ::-1]
    return np.ascontiguousarray((factor / factor.diagonal()).T)


def _neighbours(i: int, inputs: int, taps: int) -> set[int]:
    """Earlier inputs that are multiplied beside one, whether channels run fastest or space."""
    beside = {i - 1, i - taps}
    if inputs - taps <= i < inputs - 1:  # the last channel, beside the first at the next place
        beside.add(i + 1 - (inputs - taps))
    return {k for k in beside if 0 <= k < i}


def quantised(weight: Array, *, products: bool = True, least: Array | float = 0.0) -> tuple[Array, Array]:
    """8-bit weights, each the nearest, int8 (M, ...), and their scale, float32 (M,).

    Args:
        weight: float64 (M, ...).
        products: they are multiplied in 8 bits: two neighbours times two values of at most 255 must add up within
            16 bits, whichever axis a runtime lets run fastest, channels or space.
        least: the finest scale that will do, for each of the first axis.
    """
    flat = weight.reshape(len(weight), -1)
    finest = np.maximum(np.abs(flat).max(axis=1) / LARGEST, least)
    for order in (flat, np.moveaxis(weight, 1, -1).reshape(flat.shape)) if products else ():
        pair = np.abs(order[:, :-1] + order[:, 1:]).max(axis=1, initial=0)
        finest = np.maximum(finest, pair / (PAIR - 2))  # each may be rounded by a half; two that are equal are exact
    scale = np.where(finest > SMALLEST, finest, 1.0).astype(np.float32)
    units = scale.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    return np.rint(weight / units).clip(-LARGEST, LARGEST).astype(np.int8), scale
