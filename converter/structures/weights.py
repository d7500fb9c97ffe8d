"""Constants made of other constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.activations import shortest
from converter.structures.ops import Kind, Weight


def lazily(tensor: Tensor, change: Callable[[Array], Array]) -> Tensor:
    """A tensor in another shape or type; the shape is found on a stand-in that takes no memory."""
    like = change(np.broadcast_to(np.zeros((), tensor.dtype), tensor.shape))
    return Tensor(like.shape, like.dtype, lambda: change(tensor.read()))


def transposed(tensor: Tensor) -> Tensor:
    """A matrix that is stored the other way round."""
    return lazily(tensor, np.transpose)


def made(values: Array, key: str, *of: Weight | None) -> Weight:
    """A constant computed from others."""
    sources = tuple(source for weight in of if weight is not None for source in weight.sources)
    return Weight(key, Tensor.of(np.asarray(values, np.float32)), sources)


def vector(weight: Weight | None, width: int, default: float = 0.0) -> Array:
    """Per-channel values in float64; a scalar is one for every channel.

    Raises:
        NotADenseNet: there are neither one nor ``width``.
    """
    if weight is None:
        return np.full(width, default)
    if prod(weight.tensor.shape) not in (1, width):
        raise NotADenseNet(f"{weight.key} has shape {list(weight.tensor.shape)}, {width} channels need one value each")
    return np.broadcast_to(weight.tensor.read().astype(np.float64).reshape(-1), (width,))


def one_number(weight: Weight) -> float | None:
    """The number that a constant is, as it was meant, also if it is there many times; None if there are several."""
    if not 0 < prod(weight.tensor.shape) <= bounds.COMPARED:
        return None
    values = weight.tensor.read().astype(np.float64).reshape(-1)
    return shortest(float(values[0])) if np.all(values == values[0]) else None


def flat(weight: Weight, dims: int = 2) -> tuple[Kind, Weight] | None:
    """What is added or multiplied, as a vector: ``affine`` if it is per channel, ``row`` if along the last axis.

    Maps have so many axes behind their channels.
    """
    tensor, shape = weight.tensor, weight.tensor.shape
    size = prod(shape)
    if size not in (1, *shape):
        return None
    per_channel = size == 1 or (len(shape) > dims and {*shape[-dims:]} == {1})  # (C, 1, 1), (1, C, 1, 1), a number
    if not per_channel and shape[-1] != size:
        return None
    values = Tensor((size,), tensor.dtype, lambda: tensor.read().reshape(-1))
    return "affine" if per_channel else "row", replace(weight, tensor=values)
