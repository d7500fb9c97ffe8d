"""What a graph does to images before the network: made part of the first convolution, or of the preprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from converter.core.checkpoint import Array, Tensor, computed_dtype
from converter.core.errors import NotADenseNet
from converter.structures.front import Front
from densenet.config import DenseNetConfig
from densenet.preprocess import IMAGENET_MEAN, Preprocess

CLOSE = 0.01
"""What means as people round them differ by; red and blue differ by eight times as much."""
RAW_SCALE, RAW_SHIFT = 0.1, 10.0
"""Who multiplies by less, or subtracts more, is given images of 0 to 255, not of 0 to 1."""


@dataclass(frozen=True)
class Prepared:
    """The network without what stood before it.

    Attributes:
        tensors: by library name.
        preprocess: what images go through, if the graph says.
        notes: what people should know.
    """

    tensors: Mapping[str, Tensor]
    preprocess: Preprocess | None = None
    notes: tuple[str, ...] = ()


def prepared(front: Front, config: DenseNetConfig, tensors: Mapping[str, Tensor]) -> Prepared:
    """What a graph does before its first convolution, done elsewhere.

    A scale alone, and the order of channels, are exact in the first convolution, whose border of zeros stays one.  A
    shift is not: it is recorded as preprocessing, and images must be prepared before.

    Raises:
        NotADenseNet: it has another number of channels, or cannot be undone.
    """
    if not front:
        return Prepared(tensors)
    width = config.in_channels
    if not {len(front.scale), len(front.shift)} <= {1, width}:
        raise NotADenseNet(f"{front.names[0]}: {len(front.scale)} channels, the network takes {width}")
    scale, shift = (np.broadcast_to(np.array(values), (width,)) for values in (front.scale, front.shift))
    raw = bool(front.order or np.abs(scale).max() < RAW_SCALE or np.abs(shift).max() > RAW_SHIFT)
    what, notes = " and ".join(front.names), list[str]()
    if front.last:
        notes.append("the file takes images with their channels last (NHWC); the network here takes NCHW")
    changes: list[Any] = []
    if front.flipped:
        notes.append("the channels are reversed before the network; its first convolution is turned instead")
        changes.append(lambda kernel: kernel[:, ::-1])
    mean, std, steps = np.zeros(width), np.full(width, 1 / 255), None
    if shift.any():
        if not (np.isfinite(scale).all() and np.isfinite(shift).all() and (scale > 0).all()):
            raise NotADenseNet(f"{what}, which stands before the network and cannot be carried")
        std = 1 / (scale * (255 if raw else 1))
        mean = -shift * std
        notes.append(
            f"{what} before the network is left out and recorded as its preprocessing: images must be normalised "
            f"before, with mean {_list(mean)} and std {_list(std)} of values of 0 to 1"
            + (" (the file takes 0 to 255)" if raw else "")
        )
    elif (scale != 1).any():
        notes.append(
            f"{what} before the network is a rescaling by {_list(scale)}; it is made part of the first convolution"
        )
        inner = scale.reshape(-1, *[1] * config.spatial_dims)
        changes.append(lambda kernel: kernel * inner)
    with suppress(ValueError):  # a network of volumes, say
        if shift.any() or raw:
            steps = replace(Preprocess.usual(config), mean=_tuple(mean), std=_tuple(std))
            if front.order == "bgr":
                steps = replace(steps, order="bgr")
            elif not front.order and _blue_first(mean):
                steps = replace(steps, order="bgr")
                notes.append("the means are ImageNet's with blue first: so the images are taken to be (--preprocess)")
    return Prepared({**tensors, **_changed(tensors, config, changes)}, steps, tuple(notes))


def _changed(tensors: Mapping[str, Tensor], config: DenseNetConfig, changes: Sequence[Any]) -> dict[str, Tensor]:
    """The first convolution with its kernel changed."""
    name = f"{next(iter(config.modules())).name}.weight"
    kernel = tensors[name]
    dtype = computed_dtype(kernel.dtype)  # a small scale would leave nothing of half precision

    def read() -> Array:
        values = kernel.read().astype(np.float64)
        for change in changes:
            values = change(values)
        return values.astype(dtype)

    return {name: Tensor(kernel.shape, dtype, read)} if changes else {}


def _blue_first(mean: Array) -> bool:
    """Whether means of 0 to 1 are those of ImageNet's images turned round, as OpenCV and Caffe have them."""
    return mean.size == len(IMAGENET_MEAN) and bool(np.abs(mean - IMAGENET_MEAN[::-1]).max() < CLOSE)


def _tuple(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.7g}") for value in values)


def _list(values: Array) -> str:
    same = [f"{value:.6g}" for value in (values if np.ptp(values) else values[:1])]
    return same[0] if len(same) == 1 else f"({', '.join(same)})"
