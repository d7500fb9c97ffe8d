"""Heads under names and in forms of their own: a linear layer, a 1x1 convolution, with or without a bias."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.layouts.layout import Layout
from converter.reading.wrappers import Group
from densenet.config import DenseNetConfig

NOT_LINEAR = (
    r"(^|[._])(arc\w*|cos\w*|am_?\w*|margin\w*|loss\w*|crit\w*|centers?|proto\w*|metric\w*|memory|queue|bank|embed\w*|"
    r"codebook|anchors?|vq\w*|quanti\w*|tables?|centroids?|clusters?|prox(y|ies)|templates?)([._]|$)"
)
"""Weights of these names without a bias are multiplied in other ways (angles, distances)."""

LINEAR = r"(^|\.)(Linear|NonDynamicallyQuantizableLinear|LazyLinear|Conv[123]d)$"
"""Classes of pickled modules that compute a linear layer."""


class Head(NamedTuple):
    """A linear layer that takes the pooled features.

    Attributes:
        name: what stands before its tensors' names.
        weight, bias: their names; the latter None without one.
        classes, features: its size.
    """

    name: str
    weight: str
    bias: str | None
    classes: int
    features: int


def find_heads(layout: Layout, config: DenseNetConfig, rest: Mapping[str, Tensor], group: Group) -> list[Head]:
    """Every leftover linear layer that takes the pooled features of a network, each once.

    Args:
        layout: how linear layers are stored.
        config: the network without a head.
        rest: the tensors that are left over.
        group: whose they are.
    """
    leaves = {k.partition(".")[2]: leaf for k, leaf in layout.leaves.items() if k.startswith("linear.")}
    if "weight" not in leaves or "bias" not in leaves or len(leaves["weight"].names) > 1:
        return []
    weight, bias = leaves["weight"].names[0], leaves["bias"].names[0]
    found: list[Head] = []
    seen: list[Tensor] = []
    for key, tensor in rest.items():
        name = key.removesuffix(weight)
        if name == key:
            continue
        shape = leaves["weight"].shape(matrix_shape(tensor.shape))
        if len(shape) != 2 or shape[1] not in (config.num_features, 2 * config.num_features):
            continue
        cls = group.classes.get(name)
        other = name + bias
        has_bias = other in rest and rest[other].shape == shape[:1]
        if (cls is not None and not re.search(LINEAR, cls)) or (other in rest and not has_bias):
            continue
        if (not has_bias and re.search(NOT_LINEAR, name.lower())) or any(tensor is one for one in seen):
            continue
        seen.append(tensor)
        found.append(Head(name, key, other if has_bias else None, *shape))
    return found


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a 1x1 convolution's weight as a linear layer's; any other as it is."""
    return shape[:2] if len(shape) > 2 and prod(shape[2:]) == 1 else shape


def as_matrix(tensor: Tensor) -> Tensor:
    """The weight of a 1x1 convolution as a linear layer's, which gives the same on pooled features."""
    shape = matrix_shape(tensor.shape)
    return tensor if shape == tensor.shape else Tensor(shape, tensor.dtype, lambda: tensor.read().reshape(shape))


def filled(width: int, value: float, like: Tensor) -> Tensor:
    """A vector of one number, where a file has none."""
    dtype = like.dtype if like.dtype.kind in "fV" else np.dtype(np.float32)

    def read() -> Array:
        return np.full(width, value, dtype)

    return Tensor((width,), dtype, read)
