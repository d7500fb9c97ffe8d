"""Networks with another activation wherever the paper has a ReLU: their operators as if it were one.

The first activation behind the first convolution tells which.  An operator that is judged as a ReLU and is none keeps
its ``layer``: what holds for ReLU alone (twice is once, nothing is below zero) asks for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import dropwhile

from converter.structures.ops import Op
from densenet.head import RELU, HeadLayer


def hidden_of(ops: Sequence[Op]) -> HeadLayer:
    """The activation of a network.

    Args:
        ops: each behind those it takes from.
    """
    behind = dropwhile(lambda op: op.kind != "conv", ops)
    first = next((op for op in behind if op.kind in ("relu", "function")), None)
    return RELU if first is None or first.kind == "relu" or first.layer is None else first.layer


def as_relu(op: Op, hidden: HeadLayer) -> Op:
    """An operator of a network with such an activation: that is a ``relu`` then, and ReLU a ``function``."""
    if hidden == RELU:
        return op
    if op.kind == "function" and op.layer == hidden:
        return replace(op, kind="relu")
    return replace(op, kind="function", layer=RELU) if op.kind == "relu" else op


def is_relu(op: Op) -> bool:
    """Whether an operator that is judged as a ReLU is one."""
    return op.kind == "relu" and op.layer in (None, RELU)


def is_positive(op: Op) -> bool:
    """Whether nothing that it gives is below zero."""
    return op.kind == "relu" and (op.layer or RELU).is_positive
