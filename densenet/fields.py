"""Values that fields of a ``DenseNetConfig`` can have."""

from collections.abc import Mapping
from typing import Literal

Axes = int | tuple[int, ...]
"""One number, or one for each spatial axis."""
Stem = Literal["imagenet", "cifar", "deep"]
StemPool = Literal["max", "zero_max", "avg", "blur", "none"]
TransitionPool = Literal["avg", "max", "blur"]
GlobalPool = Literal["avg", "max", "avgmax", "catavgmax", "catmaxavg"]
Padding = Literal["symmetric", "same"]

AXES: Mapping[str, int | None] = {
    "stem_kernel": None,
    "stem_stride": None,
    "stem_pool_stride": 2,
    "transition_stride": 2,
}
"""Sizes and strides, and what they usually are."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "stem": ("imagenet", "cifar", "deep"),
    "stem_pool": ("max", "zero_max", "avg", "blur", "none"),
    "transition_pool": ("avg", "max", "blur"),
    "global_pool": ("avg", "max", "avgmax", "catavgmax", "catmaxavg"),
    "padding": ("symmetric", "same"),
}
