"""What calibration has to see of a graph's values, and what it saw."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
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

    def places(self, image: Sequence[int]) -> tuple[int, ...]:
        """At how many places of an image of this shape, (C, ...), along each axis."""
        rank = len(self.kernel)
        return tuple(
            (size + before + after - kernel) // stride + 1
            for size, before, after, kernel, stride in zip(
                image[1:], self.pads[:rank], self.pads[rank:], self.kernel, self.strides
            )
        )

    def some(self, image: Sequence[int], random: np.random.Generator) -> Array:
        """Some of these places, in order."""
        count = prod(self.places(image))
        return np.sort(random.choice(count, min(POSITIONS, count), replace=False))

    def rows(self, image: Array, chosen: Array) -> Array:
        """What it takes at places of an image (C, ...): float32 (places, C * kernel)."""
        rank = len(self.kernel)
        padded = np.pad(image, [(0, 0), *zip(self.pads[:rank], self.pads[rank:])])
        view = np.lib.stride_tricks.sliding_window_view(padded, self.kernel, axis=tuple(range(1, rank + 1)))
        view = view[(slice(None), *(slice(None, None, stride) for stride in self.strides))]
        at: tuple[Any, ...] = np.unravel_index(chosen, self.places(image.shape))
        taken = view[(slice(None), *at)]
        rows: Array = np.moveaxis(taken, 1, 0).reshape(len(chosen), -1)
        return rows


class Moments:
    """Mean and covariance of what a convolution takes; covariances within groups of channels."""

    def __init__(self, taps: int, inputs: int) -> None:
        self.groups = _groups(taps, inputs)
        self.count, self.total, self.origin = 0, np.zeros(inputs), np.zeros(inputs, np.float32)
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


def _groups(taps: int, inputs: int) -> list[slice]:
    size = max(1, GROUP // taps) * taps
    return [slice(start, min(start + size, inputs)) for start in range(0, inputs, size)]


def room(taps: int, inputs: int) -> int:
    """Bytes of the covariances of so many inputs."""
    return sum(4 * (group.stop - group.start) ** 2 for group in _groups(taps, inputs))


Add = Callable[[str, Window, Array, Array], None]
"""Takes a convolution, its window, an image and places in it."""


class InParts(Mapping[str, Moments]):
    """Moments of a network's convolutions, in the order in which they are first added, some held at a time.

    Attributes:
        again: gives to a function like :meth:`add` all that was added of some convolutions, when one is not held.
    """

    def __init__(self, most: int) -> None:
        """Hold ``most`` bytes, if one alone has no more."""
        self.most, self.sizes, self.held = most, dict[str, int](), dict[str, Moments]()
        self.wanted: Collection[str] | None = None
        self.again: Callable[[Collection[str], Add], None] = lambda *_: None

    def add(self, conv: str, window: Window, image: Array, chosen: Array) -> None:
        """Count what a convolution takes at places of an image, if it is held: at first all while there is room."""
        inputs = len(image) * window.taps
        if conv not in self.sizes:
            self.sizes[conv] = room(window.taps, inputs)
        held = conv in self.held or sum(self.sizes.values()) <= self.most or len(self.sizes) == 1
        if held if self.wanted is None else conv in self.wanted:
            if conv not in self.held:
                self.held[conv] = Moments(window.taps, inputs)
            self.held[conv].add(window.rows(image, chosen))

    def __getitem__(self, conv: str) -> Moments:
        if conv not in self.held:
            self.held.clear()
            rest = list(self.sizes)[list(self.sizes).index(conv) :]
            sums = accumulate(self.sizes[name] for name in rest)
            self.wanted = {name for name, total in zip(rest, sums) if name == conv or total <= self.most}
            self.again(self.wanted, self.add)
        return self.held[conv]

    def __contains__(self, conv: object) -> bool:
        return conv in self.sizes

    def __iter__(self) -> Iterator[str]:
        return iter(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)


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
    moments: Mapping[str, Moments]
