"""What calibration has to see of a graph's values, and what it saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from converter.core.checkpoint import Array

GROUP = 576
"""Inputs whose covariances are kept together, whole channels: they cost memory and time by the square."""
POSITIONS = 64
"""Of each image and convolution, how many places are looked at."""


@dataclass(frozen=True)
class Window:
    """What a convolution takes at each place.

    Attributes:
        kernel, strides, pads: as ONNX has them.
    """

    kernel: Sequence[int]
    strides: Sequence[int]
    pads: Sequence[int]

    @property
    def taps(self) -> int:
        """Of each channel, how many numbers it takes at a place."""
        return prod(self.kernel)

    def rows(self, image: Array, random: np.random.Generator) -> Array:
        """What it takes at some places of an image (C, ...): float32 (places, C * kernel)."""
        rank = len(self.kernel)
        padded = np.pad(image, [(0, 0), *zip(self.pads[:rank], self.pads[rank:])])
        view = np.lib.stride_tricks.sliding_window_view(padded, self.kernel, axis=tuple(range(1, rank + 1)))
        view = view[(slice(None), *(slice(None, None, stride) for stride in self.strides))]
        places = view.shape[1 : rank + 1]
        chosen = random.choice(prod(places), min(POSITIONS, prod(places)), replace=False)
        at: tuple[Any, ...] = np.unravel_index(np.sort(chosen), places)
        taken = view[(slice(None), *at)]
        rows: Array = np.moveaxis(taken, 1, 0).reshape(len(chosen), -1)
        return rows


class Moments:
    """Mean and covariance of what a convolution takes; covariances within groups of channels."""

    def __init__(self, taps: int, inputs: int) -> None:
        size = max(1, GROUP // taps) * taps
        self.count, self.total, self.origin = 0, np.zeros(inputs), np.zeros(inputs, np.float32)
        self.groups = [slice(start, min(start + size, inputs)) for start in range(0, inputs, size)]
        self.products = [np.zeros((group.stop - group.start,) * 2, np.float32) for group in self.groups]

    def add(self, rows: Array) -> None:
        """Count further samples, float32 (N, inputs): from the mean of the first, so that float32 keeps what varies."""
        if not self.count:
            self.origin = rows.mean(axis=0)
        rows = rows - self.origin
        self.count += len(rows)
        self.total += rows.sum(axis=0, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is not used
            for i, group in enumerate(self.groups):
                part = rows[:, group]
                self.products[i] += part.T @ part

    @property
    def mean(self) -> Array:
        """Float64 (inputs,)."""
        return self.origin + self.total / self.count

    def covariances(self) -> Iterator[Array]:
        """Of each group, float64."""
        for group, product in zip(self.groups, self.products):
            mean = self.total[group] / self.count
            yield product / self.count - np.outer(mean, mean)


@dataclass(frozen=True)
class Needed:
    """What :func:`to_int8` needs to know of a graph's values.

    Attributes:
        ranges: values whose ranges it needs, beside the input's.
        takers: by the name of a value, the convolutions that take it: of their inputs it needs the moments.
    """

    ranges: Sequence[str]
    takers: Mapping[str, Mapping[str, Window]]


@dataclass(frozen=True)
class Seen:
    """What calibration saw of them.

    Attributes:
        ranges: of the input and each value every channel's smallest and largest number, float64 (C,).
        moments: of each convolution's inputs.
    """

    ranges: dict[str, tuple[Array, Array]]
    moments: dict[str, Moments]
