"""Activations that are written in several operators, as one: ``x * Sigmoid(x)`` is SiLU.

Whatever takes each number by itself between one value and another is a function of one number; which, its values tell
(``activations.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array
from converter.structures.activations import FUNCTIONS, activation_of
from converter.structures.ops import Kind, Op
from densenet.head import HeadLayer

KINDS: dict[str, Kind] = {"relu": "relu", "sigmoid": "sigmoid"}
"""Activations that operators of their own stand for."""


def composed(ops: Sequence[Op]) -> dict[str, Op]:
    """Operators by what they make, activations among them as one operator each.

    What these were made of stays; nothing needs it.

    Args:
        ops: each behind those it takes from.
    """
    made: dict[str, Op] = {}
    places = {op.y: i for i, op in enumerate(ops)}
    for op in ops:
        made[op.y] = op
        if _is_elementwise(op):
            made[op.y] = _activation(op, made, places) or op
    return made


def _activation(root: Op, made: dict[str, Op], places: dict[str, int]) -> Op | None:
    """The activation whose last operator this is: the shortest way back to one value of which it is one.

    Where that value is nothing known by itself, a longer way is preferred.
    """
    region: list[Op] = []
    shortest: Op | None = None
    open_ = {root.y}
    while len(region) < bounds.REGION:
        last = max(open_, key=lambda name: places.get(name, -1))
        op = made.get(last)
        if op is None or not _is_elementwise(op):
            break
        open_ = (open_ - {last}) | set(op.x)
        region.append(op)
        telling = any(each.compute is not None or each.kind in ("add", "function") for each in region)
        if len(open_) == 1 and telling and (found := _recognised(region, *open_)) is not None:
            kind: Kind = KINDS.get(found.kind, "function")
            whole = Op(kind, tuple(open_), root.y, root.name, layer=found)
            before = [made[name] for name in open_ if name in made]
            if not before or before[0].compute is None:
                return whole
            shortest = shortest or whole
    return shortest


def _is_elementwise(op: Op) -> bool:
    """Whether it takes each number by itself."""
    if op.kind == "affine":
        return all(prod(weight.tensor.shape) == 1 for weight in op.weights.values())
    return op.compute is not None or op.kind in ("relu", "sigmoid", "function", "skip", "add")


def _recognised(region: Sequence[Op], start: str) -> HeadLayer | None:
    """The activation that operators are, the last of them first."""

    def compute(x: Array) -> Array:
        values = {start: x}
        for op in reversed(region):
            values[op.y] = _result(op, [values[name] for name in op.x])
        return values[region[0].y]

    weights = [weight for op in region for weight in op.weights.values()]
    return activation_of(compute, half=any(weight.tensor.dtype.itemsize == 2 for weight in weights))


def _result(op: Op, given: Sequence[Array]) -> Array:
    """What an operator makes of numbers."""
    x = given[0]
    if op.compute is not None:
        return op.compute(*given)
    if op.kind == "add":
        return np.asarray(np.sum(given, axis=0))
    if op.kind == "affine":
        scale, shift = (op.weights.get(leaf) for leaf in ("weight", "bias"))
        y = x if scale is None else x * scale.tensor.read().astype(np.float64).reshape(())
        return y if shift is None else y + shift.tensor.read().astype(np.float64).reshape(())
    layer = op.layer or HeadLayer(op.kind)
    return x if op.kind == "skip" else FUNCTIONS[layer.kind](x, layer.value or 0.0)
