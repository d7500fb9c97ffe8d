"""Operators as the steps of a DenseNet: scales merged into norms, folded norms unfolded, borders into windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from converter.core.checkpoint import Array, Tensor, computed_dtype
from converter.core.errors import NotADenseNet
from converter.structures.hidden import is_positive, is_relu
from converter.structures.ops import BORDERS, Op, Weight
from converter.structures.weights import lazily, made, vector
from densenet.module import NORM_TENSORS
from densenet.topology import Step


def steps_of(ops: Iterable[Op], eps: float, size: tuple[int, ...]) -> tuple[list[Op], tuple[int, ...]]:
    """The operators that a DenseNet has in place of those that a file has, and the maps' size behind them.

    Args:
        ops: one after the other.
        eps: of the norms that are unfolded.
        size: of the maps before them, where it is fixed.

    Raises:
        NotADenseNet: padding or weights that no DenseNet has; names the operator.
    """
    given = list(ops)
    try:
        return _merged(given, eps, size)
    except NotADenseNet as error:
        strange = next((op for op in given if op.kind == "other"), None)
        raise error if strange is None else strange.unlike("nothing of the kind") from error


def _merged(ops: Sequence[Op], eps: float, size: tuple[int, ...]) -> tuple[list[Op], tuple[int, ...]]:
    steps: list[Op] = []
    pad: Op | None = None
    for given in ops:
        op = given
        if op.kind in BORDERS and pad is None:
            pad = op
            continue
        if pad is not None:
            op, pad = _padded(pad, op, steps[-1] if steps else None), None
        if op.window is not None and size:
            window = replace(op.window, size=size)
            op, size = replace(op, window=window), window.size_after()
        _append(steps, op, eps)
    if pad is not None:
        raise pad.unlike("no padding")
    return steps, size


def permuted(step: Op, order: Array) -> Op:
    """What follows a concatenation in another order than ours, with its input channels in our order.

    Raises:
        NotADenseNet: it has not as many channels.
    """
    axis = 0 if step.kind == "norm" else 1

    def turned(weight: Weight) -> Weight:
        tensor = weight.tensor
        if tensor.shape[axis] != len(order):
            raise NotADenseNet(f"{step.name}: {weight.key} has {tensor.shape[axis]} channels of {len(order)}")
        taken = Tensor(tensor.shape, tensor.dtype, lambda: np.take(tensor.read(), order, axis))
        return replace(weight, key=f"{weight.key} ({step.y})", tensor=taken)

    leaves = NORM_TENSORS if step.kind == "norm" else ("weight",)
    return replace(step, weights={**step.weights, **{leaf: turned(step.weights[leaf]) for leaf in leaves}})


def turned(layers: Sequence[Op], order: Array | None) -> list[Op]:
    """The layers of a head that takes features in another order than ours."""
    result = list(layers)
    for i, layer in enumerate(layers if order is not None else ()):
        if layer.weights and order is not None:
            result[i] = permuted(layer, order)
        if layer.kind == "linear":
            break
    return result


def shifted(op: Op, shift: Op) -> Op:
    """A convolution or linear layer with what is added behind it as part of its bias."""
    bias, added = op.weights.get("bias"), shift.weights["bias"]
    width = op.weights["weight"].tensor.shape[0]
    values = vector(bias, width) + vector(added, width)
    return replace(op, weights={**op.weights, "bias": made(values, f"{added.key} ({shift.y})", bias, added)})


def _append(steps: list[Op], op: Op, eps: float) -> None:
    """One more operator behind the steps, or merged with the last of them."""
    last = steps[-1] if steps else None
    before = last.kind if last is not None else None
    if last is not None and last.kind == "repeat":
        steps[-1] = _of_one_channel(last, op)
        return
    if op.kind == "conv":
        op = _without_zeros(op)
    elif last is not None and is_relu(op) and (before == "relu" or _kinds(steps[-2:]) == ["relu", "max_pool"]):
        steps[-1] = replace(last, y=op.y)  # twice is once
        return
    elif last is not None and op.kind == "affine" and before == "norm":
        steps[-1] = _scaled(last, op)
        return
    elif last is not None and op.kind == "affine" and before == "conv" and "weight" not in op.weights:
        steps[-1] = replace(shifted(last, op), y=op.y)
        return
    elif op.kind == "affine":
        op = _as_norm(op, eps)
    elif last is not None and before == "conv" and (op.kind == "relu" or (op.kind == "max_pool" and not _thin(steps))):
        steps[-1:] = _unfolded(last, eps)
    elif op.kind == "blur":
        at = -2 if before == "relu" else -1
        if len(steps) >= -at and steps[at].kind == "max_pool":
            steps.pop(at).paddings(3, 1)
            op = replace(op, kind="max_blur")
    steps.append(op)


def _of_one_channel(repeat: Op, conv: Op) -> Op:
    """The first convolution of grey images that were given their channel several times: its kernel is summed over them.

    That there is one is seen: as often as the convolution has channels it is repeated.
    """
    weight = conv.weights.get("weight")
    if conv.kind != "conv" or weight is None or weight.tensor.shape[1] != repeat.times:
        raise repeat.unlike("images as they are")
    dtype = computed_dtype(weight.tensor.dtype)
    summed = lazily(weight.tensor, lambda array: array.sum(1, dtype=np.float64, keepdims=True).astype(dtype))
    return replace(
        conv, weights={**conv.weights, "weight": replace(weight, key=f"{weight.key} (summed)", tensor=summed)}
    )


def _thin(steps: list[Op]) -> bool:
    """Whether a transition's convolution is the last step: of 1x1, behind a norm."""
    window = steps[-1].window
    return len(steps) > 1 and window is not None and {*window.kernel} == {1}


def _kinds(steps: list[Op]) -> list[str]:
    return [step.kind for step in steps]


# -- borders -----------------------------------------------------------------------------


def _padded(pad: Op, op: Op, last: Op | None) -> Op:
    """An operator with the padding that stands before it."""
    amount, window = pad.window, op.window
    if amount is None or pad.axis == -1:
        raise pad.unlike("no padding")
    if not any((*amount.begin, *amount.end)):
        return op
    if pad.kind == "reflect":
        if {*amount.begin, *amount.end} == {1} and _is_blur(op):
            return replace(op, kind="blur", weights={})
        raise pad.unlike("reflected borders before blur pooling only")
    if pad.kind == "lowest" and (op.kind != "max_pool" or window is None or window.ceil or window.zeros):
        raise pad.unlike("no padding")
    # Zeros are below nothing that ReLU gives: to max pooling they are what its own padding is.
    positive = last is not None and is_positive(last)
    harmless = pad.kind == "lowest" or op.kind == "conv" or (op.kind == "max_pool" and positive)
    counted = op.kind in ("max_pool", "avg_pool") and last is not None and last.kind == "relu"
    if window is None or window.same or not (harmless or (counted and not any((*window.begin, *window.end)))):
        raise pad.unlike("no padding")
    begin = tuple(a + b for a, b in zip(amount.begin, window.begin))
    end = tuple(a + b for a, b in zip(amount.end, window.end))
    return replace(op, window=replace(window, begin=begin, end=end, zeros=not harmless))


def _is_blur(op: Op) -> bool:
    """timm's BlurPool2d (timm/layers/blur_pool.py): a binomial 3x3 filter per channel, stride 2."""
    weight, window = op.weights.get("weight"), op.window
    if op.kind != "conv" or weight is None or window is None or "bias" in op.weights:
        return False
    shape = weight.tensor.shape
    if window.groups != shape[0] or shape[1:] != (1, 3, 3) or set(window.strides) != {2} or any(window.begin):
        return False
    row = np.array([0.25, 0.5, 0.25])
    return bool(np.allclose(weight.tensor.read().astype(np.float64), np.outer(row, row), atol=1e-3))


# -- norms -------------------------------------------------------------------------------


def _without_zeros(conv: Op) -> Op:
    """A convolution without a bias that adds nothing (torch's exporter writes one when it does not optimise)."""
    bias = conv.weights.get("bias")
    if bias is None or bias.tensor.read().any():
        return conv
    return replace(conv, weights={"weight": conv.weights["weight"]})


def _scaled(norm: Op, op: Op) -> Op:
    """A norm with the scale and shift that follow it."""
    gamma, beta = norm.weights["weight"], norm.weights["bias"]
    scale, shift = op.weights.get("weight"), op.weights.get("bias")
    width = prod(gamma.tensor.shape)
    factor = vector(scale, width, 1.0)
    moved = vector(beta, width) * factor + vector(shift, width)
    values = {
        "weight": made(vector(gamma, width) * factor, f"{gamma.key} ({op.y})", gamma, scale),
        "bias": made(moved, f"{beta.key} ({op.y})", beta, scale, shift),
    }
    return replace(norm, y=op.y, weights={**norm.weights, **values})


def _as_norm(op: Op, eps: float) -> Op:
    """A scale and shift of its own: a norm with mean 0 and variance 1 - eps."""
    have = [weight for weight in op.weights.values() if weight.tensor.shape]
    if not have or not all(prod(w.tensor.shape) == max(w.tensor.shape) for w in have):
        raise op.unlike("one scale and shift per channel")
    width = max(prod(weight.tensor.shape) for weight in have)
    return _identity(op, width, eps, op.weights.get("weight"), op.weights.get("bias"))


def _unfolded(conv: Op, eps: float) -> tuple[Op, Op]:
    """A convolution into which a norm was folded, and that norm again: it only adds the bias."""
    width = conv.weights["weight"].tensor.shape[0]
    plain = replace(conv, weights={"weight": conv.weights["weight"]})
    return plain, _identity(conv, width, eps, None, conv.weights.get("bias"))


def _identity(op: Op, width: int, eps: float, scale: Weight | None, shift: Weight | None) -> Op:
    """A norm that only scales and shifts."""
    weights: dict[str, Weight] = {}
    for leaf, weight, value in zip(NORM_TENSORS, (scale, shift, None, None), (1.0, 0.0, 0.0, 1.0 - eps)):
        if weight is not None and weight.tensor.shape == (width,):
            weights[leaf] = weight
        else:
            key = f"{op.y} ({leaf} of the norm folded into it)" if weight is None else f"{weight.key} ({op.y})"
            weights[leaf] = made(vector(weight, width, value), key, weight)
    return replace(op, kind="norm", weights=weights, window=None, made_for=eps)


# -- steps here and in a DenseNet --------------------------------------------------------


def starts(steps: Sequence[Op], kinds: Sequence[str]) -> bool:
    """Whether steps begin with these kinds."""
    return [step.kind for step in steps[: len(kinds)]] == list(kinds)


def compared(found: Iterable[Op], wanted: Iterable[Step]) -> set[str]:
    """Convolutions held against a DenseNet's; the rules by which all of those with a stride are padded."""
    rules = {"symmetric", "same"}
    modules = (step.module for step in wanted if step.op == "conv" and step.module is not None)
    for conv, module in zip((step for step in found if step.kind == "conv"), modules):
        stride = max(module.stride)
        padding = conv.paddings(module.shape[-1], stride)
        rules &= padding if stride > 1 else rules
    return rules


def width_of(steps: Sequence[Op]) -> int:
    """Channels after the last convolution."""
    return next(step.weights["weight"].tensor.shape[0] for step in reversed(steps) if step.kind == "conv")
