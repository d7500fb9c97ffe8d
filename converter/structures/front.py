"""What a graph does to images before the first convolution: scales, shifts, channels turned round, NHWC made NCHW."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from converter.core.checkpoint import Array
from densenet.module import NORM_TENSORS

if TYPE_CHECKING:
    from converter.structures.ops import Op

KINDS = ("affine", "row", "norm", "flip", "turn")


class Front(NamedTuple):
    """Images as they are given become ``scale * x + shift``, and then their channels may be reversed.

    Attributes:
        names: of the operators that do it.
        scale, shift: one number, or one for each channel of the images as they are given.
        flipped: whether the channels are reversed.
        last: whether images are given with their channels last (NHWC).
        order: ``rgb`` or ``bgr`` where the file says that it is given pixels of 0 to 255, in that order; else empty.
    """

    names: tuple[str, ...] = ()
    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)
    flipped: bool = False
    last: bool = False
    order: str = ""

    def __bool__(self) -> bool:
        """Whether anything is done, or said of what is given."""
        return bool(self.names or self.order)


def front_of(ops: Sequence[Op]) -> tuple[Front, list[Op]]:
    """What stands before the first convolution (or its border), and the operators from there on.

    Raises:
        NotADenseNet: numbers per row or column, not per channel; names the operator.
    """
    ops = _turned_first(ops)
    count = next((i for i, op in enumerate(ops) if op.kind not in KINDS), len(ops))
    before, rest = ops[:count], list(ops[count:])
    turns = [op.axis for op in before if op.kind == "turn"]
    last = given_last = turns[:1] == [1]
    scale, shift, flipped = np.ones(1), np.zeros(1), False
    for op in before:
        if op.kind == "turn":
            if (op.axis == 1) != last:
                raise op.unlike("images as they are")
            last = not last
        elif op.kind == "flip":
            if op.axis not in ((-1, 3) if last else (1, -3)):
                raise op.unlike("images as they are")
            scale, shift, flipped = scale[::-1], shift[::-1], not flipped
        else:
            times, plus = _numbers(op, "row" if last else "affine")
            scale, shift = scale * times, shift * times + plus
    if last:
        raise before[-1].unlike("images with their channels first")
    if flipped:
        scale, shift = scale[::-1], shift[::-1]
    names = tuple(op.name for op in before)
    return Front(names, tuple(map(float, scale)), tuple(map(float, shift)), flipped, given_last), rest


def _turned_first(ops: Sequence[Op]) -> list[Op]:
    """Operators with a border of images (N, height, width, C) behind the turn that follows it, where it is the same."""
    result = list(ops)
    for i, (border, turn) in enumerate(pairwise(ops)):
        if border.window is not None and border.axis == -1 and turn.kind == "turn" and turn.axis == 1:
            result[i : i + 2] = [turn, replace(border, axis=1)]
    return result


def _numbers(op: Op, per_channel: str) -> tuple[Array, Array]:
    """What an operator multiplies by and adds, each one number or one per channel.

    Raises:
        NotADenseNet: they are not of the channels.
    """
    found = {leaf: weight.tensor.read().astype(np.float64).reshape(-1) for leaf, weight in op.weights.items()}
    if op.kind == "norm":
        weight, bias, mean, variance = (found[leaf] for leaf in NORM_TENSORS)
        scale = weight / np.sqrt(variance + (op.eps or 0.0))
        return scale, bias - mean * scale
    if op.kind != per_channel and any(values.size > 1 for values in found.values()):
        raise op.unlike("the same for all positions of an image")
    return found.get("weight", np.ones(1)), found.get("bias", np.zeros(1))
