"""Operators and the values between them: what readers of graphs, module trees and configs hand over to be judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import NotADenseNet
from densenet.fields import Axes
from densenet.head import HeadLayer

Learned = Literal["conv", "norm", "affine", "row", "linear"]
Pool = Literal["max_pool", "avg_pool", "global_avg", "global_max", "blur", "max_blur"]
Kind = Literal[
    Learned,
    Pool,
    "relu",
    "pad",
    "reflect",
    "lowest",
    "concat",
    "repeat",
    "add",
    "flatten",
    "turn",
    "flip",
    "skip",
    "softmax",
    "sigmoid",
    "function",
    "end",
    "other",
]
"""What an operator does.

affine: times ``weight``, plus ``bias``, each per channel or absent.
row: the same along the last axis, which is the channels behind a linear layer only.
pad, reflect, lowest: borders of zeros, reflected, or of numbers below all others (``LOWEST``); of images (N, height,
width, C) if ``axis`` is -1.
repeat: channels concatenated with themselves, ``times`` in all.
add: two values.
flatten: changes the shape alone.
turn: NHWC made of NCHW, or the other way round; ``axis`` is where the channels come to lie, 1 or -1.
flip: reverses the order along ``axis``.
skip: changes nothing.
function: an activation that a head may have, ``layer``.
softmax, sigmoid: what makes probabilities of logits.
end: what else may follow logits (log-softmax, argmax).
other: none of these; refused where the network depends on it.
blur, max_blur: no reader's; blur pooling, and max pooling with it, as ``steps.py`` finds them.
"""


LOWEST = -65504.0
"""The lowest number of half precision: borders of it, or of less, are nothing to max pooling."""

BORDERS: tuple[Kind, ...] = ("pad", "reflect", "lowest")
"""What stands before the windows that see it."""

Compute = Callable[..., Array]
"""A function of numbers, one by one: arrays of one shape to another of that."""

END: tuple[Kind, ...] = ("softmax", "sigmoid", "end")
"""What may follow logits."""


def border_of(mode: str, value: float) -> Kind | None:
    """The kind of a border, ``constant`` or ``reflect``; None for one that no DenseNet has."""
    if mode == "reflect":
        return "reflect"
    return None if mode != "constant" else "pad" if value == 0 else "lowest" if value <= LOWEST else None


@dataclass(frozen=True)
class Weight:
    """A constant, in the library's orientation.

    Attributes:
        key: what reports call it.
        tensor: its values; only their shape is known of a description without weights.
        sources: names of the file's constants it is made of.
    """

    key: str
    tensor: Tensor
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Window:
    """What a convolution or pooling sees, per spatial dimension.

    ``same`` is TensorFlow's padding rule; ``size`` the input's, where it is fixed; ``zeros`` is said of pooling whose
    padding is zeros that count, in an average, or in a maximum of values that may be below them.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    dilations: tuple[int, ...] = ()
    groups: int = 1
    ceil: bool = False
    same: bool = False
    size: tuple[int, ...] = ()
    zeros: bool = False

    @property
    def stride(self) -> Axes:
        """One number where all axes have the same."""
        return self.strides[0] if len(set(self.strides)) == 1 else self.strides

    def __str__(self) -> str:
        """``3x3 window, stride 1, padding 1``."""
        sizes = {"stride": self.strides, "padding": ("SAME",) if self.same else (*self.begin, *self.end)}
        told = [f"{name} {'x'.join(map(str, dict.fromkeys(values)))}" for name, values in sizes.items()]
        told += [f"groups {self.groups}"] * (self.groups != 1) + ["dilated"] * bool({*self.dilations} - {1})
        return f"{'x'.join(map(str, self.kernel))} window, {', '.join(told)}"

    def is_same(self) -> bool:
        """Whether explicit padding is what TensorFlow's SAME comes to at this input size."""
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(self.size, self.kernel, self.strides)]
        begin = tuple(t // 2 for t in total)
        return bool(total) and (self.begin, self.end) == (begin, tuple(t - b for t, b in zip(total, begin)))

    def size_after(self) -> tuple[int, ...]:
        """Output size."""
        if self.same:
            return tuple(-(-n // s) for n, s in zip(self.size, self.strides))
        spans = zip(self.size, self.begin, self.end, self.kernel, self.strides)
        return tuple((n + b + e - k + (s - 1) * self.ceil) // s + 1 for n, b, e, k, s in spans)


@dataclass(frozen=True)
class Op:
    """One operator: the values it takes and makes, its constants by the library's leaf names.

    ``made_for`` is the eps of a norm that is made here of what only scales and shifts, whose variance is 1 less that.
    ``name`` is how errors call it; ``axis`` matters to some kinds alone.  ``compute`` is there where each number is
    taken by itself: what is made of one of each value (``composed.py`` asks for it).
    """

    kind: Kind
    x: tuple[str, ...]
    y: str
    name: str
    weights: Mapping[str, Weight] = field(default_factory=dict)
    window: Window | None = None
    eps: float | None = None
    made_for: float | None = None
    axis: int = 1
    times: int = 1
    layer: HeadLayer | None = None
    compute: Compute | None = None

    def unlike(self, expected: str) -> NotADenseNet:
        """The error for it, where a DenseNet has something else."""
        has = f" ({self.window})" if self.window is not None and self.window.kernel else ""
        return NotADenseNet(f"{self.name}{has}: a DenseNet has {expected} there")

    def paddings(self, size: Axes, stride: Axes) -> set[str]:
        """The rules by which it is padded, ``symmetric`` or ``same``; with fixed sizes it can be both.

        Raises:
            NotADenseNet: it has another window, or is padded otherwise.
        """
        window = self.window
        axes = len(window.kernel) if window is not None else 0
        kernel, strides = ((n,) * axes if isinstance(n, int) else n for n in (size, stride))
        half = tuple(n // 2 for n in kernel)
        said = ["x".join(map(str, dict.fromkeys(n) if len(set(n)) == 1 else n)) for n in (strides, half)]
        what = f"a {'x'.join(map(str, kernel))} window with stride {said[0]}, padded by {said[1]}"
        if window is None or (window.kernel, window.strides, window.groups, set(window.dilations) | {1}) != (
            kernel, strides, 1, {1}
        ) or window.zeros:  # fmt: skip
            raise self.unlike(what)
        centred = not window.same and (window.begin, window.end) == (half, half)
        same = window.same or window.is_same()
        if set(strides) == {1}:
            centred = same = centred or window.same
        if not (centred or same):
            raise self.unlike(f"{what} or as TensorFlow's SAME")
        return {name for name, has in (("symmetric", centred), ("same", same)) if has}
