"""What stands behind global pooling: one linear layer, and what can be folded into it exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from converter.core.checkpoint import Array, Tensor, computed_dtype
from converter.core.errors import NotADenseNet
from converter.structures.ops import END, Op, Weight
from converter.structures.weights import lazily, made, vector
from densenet.module import NORM_TENSORS

BEHIND_LOGITS = (*END, "flatten", "turn", "affine", "row", "other")
"""What may follow the first of these behind logits: it is left out with it."""


def classifier_of(ops: Sequence[Op], *, positive: bool) -> tuple[Op | None, list[Op]]:
    """The linear layer that operators come to, if they come to one; and those behind its logits.

    Scales and shifts before and behind it, norms and a second linear layer without an activation between them are
    parts of it.

    Args:
        ops: one after the other, from what is pooled on.
        positive: whether that is not negative, so that another ReLU changes nothing.

    Raises:
        NotADenseNet: something else is computed; names the operator.
    """
    linear: Op | None = None
    scales: list[Op] = []
    for i, op in enumerate(ops):
        if op.kind in ("flatten", "turn") or (op.kind == "relu" and linear is None and positive and not scales):
            continue
        if op.kind in END:
            behind = next((each for each in ops[i:] if each.kind not in BEHIND_LOGITS), None)
            if behind is not None:
                raise behind.unlike("nothing of the kind behind the logits")
            return _finished(linear, scales), list(ops[i:])
        if op.kind in ("affine", "row", "norm") and linear is None:
            scales.append(op)
        elif op.kind in ("affine", "row", "norm") and linear is not None:
            linear = _behind(linear, op)
        elif op.kind in ("linear", "conv"):
            found = _as_linear(op)
            for scale in reversed(scales):
                found = _before(found, scale)
            linear, scales = (found if linear is None else _product(linear, found)), []
        else:
            raise op.unlike("the logits" if linear is not None else "the classifier")
    return _finished(linear, scales), []


def _finished(linear: Op | None, scales: Sequence[Op]) -> Op | None:
    """A layer with a bias for every class."""
    if scales:
        raise scales[0].unlike("the classifier")
    if linear is None:
        return None
    weights = dict(linear.weights)
    classes, bias = weights["weight"].tensor.shape[0], weights.get("bias")
    if bias is None or bias.tensor.shape != (classes,):
        weights["bias"] = made(vector(bias, classes), f"{(bias or weights['weight']).key} (bias)", bias)
    return replace(linear, weights=weights)


def _as_linear(op: Op) -> Op:
    """A linear layer, also one that is written as a 1x1 convolution."""
    weight = op.weights.get("weight")
    if op.kind == "linear":
        return op
    padded = op.window is not None and any((*op.window.begin, *op.window.end))
    if op.kind == "conv" and weight is not None and prod(weight.tensor.shape[2:]) == 1 and not padded:
        flat = replace(weight, tensor=lazily(weight.tensor, lambda array: array.reshape(array.shape[:2])))
        return replace(op, kind="linear", weights={**op.weights, "weight": flat})
    raise op.unlike("the classifier")


# -- folding -----------------------------------------------------------------------------


def _scale(op: Op, width: int) -> tuple[Array, Array]:
    """What an operator multiplies by and adds, per channel."""
    if op.kind != "norm":
        return vector(op.weights.get("weight"), width, 1.0), vector(op.weights.get("bias"), width)
    weight, bias, mean, variance = (vector(op.weights[leaf], width) for leaf in NORM_TENSORS)
    scale = weight / np.sqrt(variance + (op.eps or 0.0))
    return scale, bias - mean * scale


def _of(linear: Op) -> tuple[Array, Array]:
    """Its matrix and its bias."""
    matrix = linear.weights["weight"].tensor.read().astype(np.float64)
    return matrix, vector(linear.weights.get("bias"), matrix.shape[0])


def _before(linear: Op, op: Op) -> Op:
    """With a scale and shift of what it takes."""

    def values() -> tuple[Array, Array]:
        (matrix, bias), (scale, shift) = _of(linear), _scale(op, linear.weights["weight"].tensor.shape[1])
        return matrix * scale, bias + matrix @ shift

    return _folded(linear, op, linear.weights["weight"].tensor.shape, values)


def _behind(linear: Op, op: Op) -> Op:
    """With a scale and shift of what it gives."""

    def values() -> tuple[Array, Array]:
        (matrix, bias), (scale, shift) = _of(linear), _scale(op, linear.weights["weight"].tensor.shape[0])
        return matrix * scale[:, None], bias * scale + shift

    return _folded(linear, op, linear.weights["weight"].tensor.shape, values)


def _product(linear: Op, other: Op) -> Op:
    """Two linear layers, one behind the other."""
    shape, inner = other.weights["weight"].tensor.shape, linear.weights["weight"].tensor.shape
    if shape[1] != inner[0]:
        raise NotADenseNet(f"{other.name} takes {shape[1]} features of {inner[0]}")

    def values() -> tuple[Array, Array]:
        (first, inner_bias), (second, bias) = _of(linear), _of(other)
        return second @ first, second @ inner_bias + bias

    return _folded(linear, other, (shape[0], inner[1]), values)


def _folded(linear: Op, op: Op, shape: tuple[int, ...], values: Callable[[], tuple[Array, Array]]) -> Op:
    """A linear layer with another operator in it, computed in float64 when it is read."""
    dtype = computed_dtype(linear.weights["weight"].tensor.dtype)
    of = (*linear.weights.values(), *op.weights.values())
    sources = tuple(source for weight in of for source in weight.sources)

    def part(i: int, of_shape: tuple[int, ...]) -> Weight:
        leaf = ("weight", "bias")[i]
        key = f"{linear.weights[leaf].key if leaf in linear.weights else linear.name} ({op.y}, {leaf})"
        return Weight(key, Tensor(of_shape, dtype, lambda: values()[i].astype(dtype)), sources)

    return replace(linear, y=op.y, weights={"weight": part(0, shape), "bias": part(1, shape[:1])})
