"""Keras' layers as operators, one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.activations import FUNCTIONS
from converter.structures.keras_activations import LAYERS, activation_layer
from converter.structures.keras_numbered import LEAF_OF, turned
from converter.structures.keras_operations import affine, channels_of, numbers_of
from converter.structures.ops import Kind, Op, Weight, Window
from converter.structures.weights import made
from densenet.module import NORM_TENSORS


class Table:
    """A file's weights by ``<layer>/<leaf>``; layers of nested models are found by their own names too."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.unread = False
        self.owners: dict[str, list[str]] = {}
        for owner in dict.fromkeys(key.rpartition("/")[0] for key in tensors):
            for i, letter in enumerate(owner):
                if letter == "/":
                    self.owners.setdefault(owner[i + 1 :], []).append(owner)

    def find(self, place: str, name: str, leaf: str) -> tuple[str, Tensor] | None:
        """A layer's weight: its key and values; None where there is none, or it cannot be told from another's."""
        owners = [f"{place}{name}", *self.owners.get(name, [])[:2]] if place else [name]
        keys = [key for owner in dict.fromkeys(owners) if (key := f"{owner}/{leaf}") in self.tensors]
        if keys[:1] == [f"{place}{name}/{leaf}"] or len(keys) == 1:
            return keys[0], self.tensors[keys[0]]
        return None


@dataclass(frozen=True)
class Place:
    """Where a layer stands.

    Attributes:
        table: the file's weights.
        model: what stands before its name in a nested model.
        own: its name.
        width: channels of what it takes.
        size: height and width of those, where they are known.
        axis: where channels lie, from behind.
        version: of the Keras that wrote the config; empty where it is not known.
    """

    table: Table
    model: str
    own: str
    width: int
    size: tuple[int, ...]
    axis: int
    version: str = ""

    @property
    def name(self) -> str:
        """With the models it is in."""
        return self.model + self.own

    def weight(self, leaf: str, *shape: int) -> Weight:
        """One of its weights, in the library's orientation; of those that are not found only the shape is known.

        Sizes of 0 are those that the config does not say.

        Raises:
            NotADenseNet: it has another shape than the config says, or one that no layer has.
        """
        if not all(0 <= n <= bounds.KERAS_WIDTH for n in shape):
            raise NotADenseNet(f"{self.name} has sizes that no layer has")
        found = self.table.find(self.model, self.own, leaf)
        if found is None:
            self.table.unread = True
            return Weight(self.name, Tensor(shape, np.dtype(np.float32), self._unread))
        key, tensor = found[0], turned(found[1])
        if len(tensor.shape) != len(shape) or any(n not in (0, have) for n, have in zip(shape, tensor.shape)):
            raise NotADenseNet(f"{key} has shape {list(tensor.shape)}, the model's config needs {list(shape)}")
        return Weight(key, tensor, (key,))

    def _unread(self) -> Array:
        raise NotADenseNet(f"{self.name}: what it computes depends on its weights, which a DenseNet's does not")


Reader = Callable[[Mapping[str, Any], Place], Op]


def _plain(kind: Kind) -> Reader:
    return lambda settings, place: Op(kind, (), place.name, place.name)


def _window(settings: Mapping[str, Any], size: str) -> Window:
    kernel = tuple(settings[size])
    strides, none = tuple(settings.get("strides") or kernel), (0,) * len(kernel)
    dilations, groups = tuple(settings.get("dilation_rate", ())), settings.get("groups", 1)
    return Window(kernel, strides, none, none, dilations, groups, same=settings.get("padding") == "same")


def _conv(settings: Mapping[str, Any], place: Place) -> Op:
    window = _window(settings, "kernel_size")
    weights = {"weight": place.weight("kernel", settings["filters"], place.width, *window.kernel)}
    if settings.get("use_bias") and place.table.find(place.model, place.own, "bias"):
        weights["bias"] = place.weight("bias", settings["filters"])
    return Op("conv", (), place.name, place.name, weights, window)


def _norm(settings: Mapping[str, Any], place: Place) -> Op:
    named = {LEAF_OF["norm"][leaf]: leaf for leaf in LEAF_OF["norm"]}
    absent = {"weight": (settings.get("scale", True), 1.0), "bias": (settings.get("center", True), 0.0)}
    weights: dict[str, Weight] = {}
    for leaf in NORM_TENSORS:
        there, value = absent.get(leaf, (True, 0.0))
        if there:
            weights[leaf] = place.weight(named[leaf], place.width)
        elif place.width and place.table.find(place.model, place.own, named[leaf]) is None:
            weights[leaf] = made(np.full(place.width, value), f"{place.name} (no {named[leaf]})")
        else:
            raise NotADenseNet(f"{place.name} lacks its scale or its offset, and the file has {named[leaf]}")
    return Op("norm", (), place.name, place.name, weights, eps=float(settings["epsilon"]))


def _dense(settings: Mapping[str, Any], place: Place) -> Op:
    weights = {"weight": place.weight("kernel", settings["units"], place.width)}
    if settings.get("use_bias", True):
        weights["bias"] = place.weight("bias", settings["units"])
    return Op("linear", (), place.name, place.name, weights)


def _pool(kind: Kind) -> Reader:
    return lambda settings, place: Op(kind, (), place.name, place.name, window=_window(settings, "pool_size"))


def _pad(settings: Mapping[str, Any], place: Place) -> Op:
    (top, bottom), (left, right) = settings["padding"]
    return Op("pad", (), place.name, place.name, window=Window((), (), (top, left), (bottom, right)))


def _activation(kind: str) -> Reader:
    return lambda settings, place: activation_layer(
        Op("other", (), place.name, place.name), kind, settings, place.version
    )


def _prelu(settings: Mapping[str, Any], place: Place) -> Op:
    """Of one slope for all its features it is a leaky ReLU."""
    found = place.table.find(place.model, place.own, "alpha")
    op = Op("other", (), place.name, place.name)
    if found is None or not 0 < prod(found[1].shape) <= bounds.KERAS_WIDTH:
        return op
    slopes = found[1].read().astype(np.float64)
    if np.any(slopes != slopes.flat[0]):
        return op
    slope = float(slopes.flat[0])
    weights = {"alpha": Weight(found[0], found[1], (found[0],))}
    return replace(op, weights=weights, compute=lambda x: FUNCTIONS["leaky_relu"](x, slope))


def _rescaling(settings: Mapping[str, Any], place: Place) -> Op:
    given = [numbers_of(settings.get(key, default)) for key, default in (("scale", 1.0), ("offset", 0.0))]
    scale, shift = (None if numbers is None else channels_of(numbers, place.axis) for numbers in given)
    if scale is None or shift is None:
        return Op("other", (), place.name, place.name)
    return affine(place.name, place.name, scale, shift if shift.any() else None)


def _normalization(settings: Mapping[str, Any], place: Place) -> Op:
    """(x - mean) / max(sqrt(variance), epsilon) (keras/src/layers/preprocessing/normalization.py)."""
    other, numbers = Op("other", (), place.name, place.name), list[Array]()
    for leaf in ("mean", "variance"):
        given, stored = numbers_of(settings.get(leaf)), place.table.find(place.model, place.own, leaf)
        if given is None and (stored is None or prod(stored[1].shape) > bounds.KERAS_WIDTH):
            return other
        values = stored[1].read().astype(np.float64) if given is None and stored is not None else given
        per_channel = None if values is None else channels_of(values, -1 if values.ndim < 3 else place.axis)
        if per_channel is None:
            return other
        numbers.append(per_channel)
    if settings.get("invert") or settings.get("axis") not in (
        None,
        place.axis,
        [place.axis],
        4 + place.axis,
        [4 + place.axis],
    ):
        return other
    scale = 1 / np.maximum(np.sqrt(numbers[1]), 1e-7)
    return affine(place.name, place.name, scale, -numbers[0] * scale)


def _flatten(settings: Mapping[str, Any], place: Place) -> Op:
    """Of maps of one position the mean is the same."""
    return Op("global_avg" if set(place.size) == {1} else "flatten", (), place.name, place.name)


def size_after(op: Op, size: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width behind an operator, where they are known."""
    if op.kind in ("global_avg", "global_max", "flatten", "linear") or not size:
        return ()
    if op.window is None:
        return size
    if op.kind == "pad":
        return tuple(n + b + e for n, b, e in zip(size, op.window.begin, op.window.end))
    return replace(op.window, size=size).size_after()


READERS: Mapping[str, Reader] = {
    "Conv2D": _conv,
    "BatchNormalization": _norm,
    **{kind: _activation(kind) for kind in LAYERS},
    "PReLU": _prelu,
    "ZeroPadding2D": _pad,
    "MaxPooling2D": _pool("max_pool"),
    "AveragePooling2D": _pool("avg_pool"),
    "GlobalAveragePooling2D": _plain("global_avg"),
    "GlobalMaxPooling2D": _plain("global_max"),
    "Concatenate": _plain("concat"),
    "Flatten": _flatten,
    "Dense": _dense,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
}
"""Layers by class, without the activation that is part of some."""
