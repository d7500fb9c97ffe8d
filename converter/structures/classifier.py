"""What stands behind global pooling: the layers of a head, its classifier, and what can be folded into them exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from converter.core.checkpoint import Array, Tensor, computed_dtype
from converter.structures.ops import END, Op, Weight
from converter.structures.weights import lazily, made, vector
from densenet.head import HeadLayer
from densenet.module import NORM_TENSORS

BEHIND_LOGITS = (*END, "flatten", "turn", "affine", "row", "other")
"""What may follow the first of these behind logits: it is left out with it."""
SHAPES = ("flatten", "turn", "global_avg", "global_max")
"""What changes nothing but the shape of features that are pooled already."""
LEARNED = ("linear", "conv", "norm")


class Found(NamedTuple):
    """What a head is made of.

    Attributes:
        layers: operators between the pooled features and the classifier, in order.
        words: what those are, as a config has them.
        classifier: the last linear layer; None where there is none.
        behind: operators behind its logits, which are left out.
    """

    layers: tuple[Op, ...] = ()
    words: tuple[HeadLayer, ...] = ()
    classifier: Op | None = None
    behind: tuple[Op, ...] = ()


def classifier_of(ops: Sequence[Op], *, positive: bool, eps: float) -> Found:
    """The head that operators are.

    Scales and shifts before and behind a linear layer are parts of it, norms behind the last one too.

    Args:
        ops: one after the other, from what is pooled on.
        positive: whether that is not negative, so that another ReLU changes nothing.
        eps: of the network's norms; the head's may state their own.

    Raises:
        NotADenseNet: something else is computed; names the operator.
    """
    layers: list[Op] = []
    scales: list[Op] = []
    behind: tuple[Op, ...] = ()
    for i, op in enumerate(ops):
        later = any(each.kind in LEARNED for each in ops[i + 1 :])
        last = layers[-1] if layers else None
        if op.kind in SHAPES or (op.kind == "relu" and last is None and positive and not scales):
            continue
        if op.kind in END and not (op.kind == "sigmoid" and later):
            strange = next((each for each in ops[i:] if each.kind not in BEHIND_LOGITS), None)
            if strange is not None:
                raise strange.unlike("nothing of the kind behind the logits")
            behind = tuple(ops[i:])
            break
        if op.kind in ("affine", "row"):
            if last is not None and last.kind == "linear":
                layers[-1] = _behind(last, op)
            else:
                scales.append(op)
        elif op.kind in ("linear", "conv"):
            found = _as_linear(op)
            for scale in reversed(scales):
                found = _before(found, scale)
            layers, scales = [*layers, found], []
        elif op.kind == "norm" and not scales:
            layers.append(op if op.eps is not None else replace(op, eps=eps))
        elif op.kind in ("relu", "function", "sigmoid") and later and not scales:
            layers.append(op)
        else:
            raise op.unlike("the logits" if any(each.kind == "linear" for each in layers) else "the classifier")
    if scales:
        raise scales[0].unlike("the classifier")
    while len(layers) > 1 and (layers[-2].kind, layers[-1].kind) == ("linear", "norm"):
        layers[-2:] = [_behind(layers[-2], layers[-1])]
    if not layers:
        return Found(behind=behind)
    if layers[-1].kind != "linear":
        raise layers[-1].unlike("the classifier")
    *before, last = layers
    return Found(tuple(before), tuple(map(_word, before)), _with_bias(last), behind)


def is_pointwise(op: Op) -> bool:
    """Whether it is linear at each position by itself."""
    window = op.window
    if op.kind != "conv" or window is None:
        return op.kind in ("norm", "affine")
    return {*window.kernel, *window.strides} == {1} and not any((*window.begin, *window.end))


def _word(op: Op) -> HeadLayer:
    """An operator as a layer of a config's."""
    if op.kind == "linear":
        return HeadLayer("linear", op.weights["weight"].tensor.shape[0], bias="bias" in op.weights)
    return op.layer or HeadLayer(op.kind)


def _with_bias(linear: Op) -> Op:
    """A layer with a bias for every class."""
    weights = dict(linear.weights)
    classes, bias = weights["weight"].tensor.shape[0], weights.get("bias")
    if bias is None or bias.tensor.shape != (classes,):
        weights["bias"] = made(vector(bias, classes), f"{(bias or weights['weight']).key} (bias)", bias)
    return replace(linear, weights=weights)


def _as_linear(op: Op) -> Op:
    """A linear layer, also one that is written as a 1x1 convolution."""
    weight, bias = op.weights.get("weight"), op.weights.get("bias")
    if weight is not None and bias is not None and bias.tensor.shape != weight.tensor.shape[:1]:
        op = _with_bias(op)
    if op.kind == "linear":
        return op
    other = op.window is not None and (any((*op.window.begin, *op.window.end)) or op.window.groups != 1)
    if op.kind == "conv" and weight is not None and prod(weight.tensor.shape[2:]) == 1 and not other:
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

    return _folded(linear, op, values)


def _behind(linear: Op, op: Op) -> Op:
    """With a scale and shift of what it gives: its matrix as it is stored where the scale is 1, spelled out or not."""

    def values() -> tuple[Array, Array]:
        (matrix, bias), (scale, shift) = _of(linear), _scale(op, linear.weights["weight"].tensor.shape[0])
        return matrix * scale[:, None], bias * scale + shift

    found, scale = _folded(linear, op, values), op.weights.get("weight")
    one = scale is None or (prod(scale.tensor.shape) == 1 and scale.tensor.read().item() == 1)
    if op.kind == "norm" or not one:
        return found
    weight = replace(found.weights["weight"], tensor=linear.weights["weight"].tensor)
    return replace(found, weights={**found.weights, "weight": weight})


def _folded(linear: Op, op: Op, values: Callable[[], tuple[Array, Array]]) -> Op:
    """A linear layer with another operator in it, computed in float64 when it is read."""
    dtype, shape = computed_dtype(linear.weights["weight"].tensor.dtype), linear.weights["weight"].tensor.shape
    of = (*linear.weights.values(), *op.weights.values())
    sources = tuple(source for weight in of for source in weight.sources)

    def part(i: int, of_shape: tuple[int, ...]) -> Weight:
        leaf = ("weight", "bias")[i]
        key = f"{linear.weights[leaf].key if leaf in linear.weights else linear.name} ({op.y}, {leaf})"
        return Weight(key, Tensor(of_shape, dtype, lambda: values()[i].astype(dtype)), sources)

    return replace(linear, y=op.y, weights={"weight": part(0, shape), "bias": part(1, shape[:1])})
