"""Paddle's activations, by their operators (PaddlePaddle/Paddle, paddle/phi/ops/yaml: ops.yaml, op_compat.yaml)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from converter.structures.activations import FUNCTIONS, shortest, sigmoid
from converter.structures.ops import Compute

Says = Mapping[str, Any]


def _number_of(says: Says, name: str, default: float) -> float:
    return shortest(float(says.get(name, default)))


def _plain(kind: str) -> Callable[[Says], Compute]:
    return lambda says: lambda x: FUNCTIONS[kind](x, 1.0)


def _with(kind: str, name: str, default: float) -> Callable[[Says], Compute]:
    return lambda says: lambda x: FUNCTIONS[kind](x, _number_of(says, name, default))


def _swish(says: Says) -> Compute:
    beta = _number_of(says, "beta", 1.0)
    return lambda x: x * sigmoid(beta * x)


def _softplus(says: Says) -> Compute:
    beta, threshold = _number_of(says, "beta", 1.0), _number_of(says, "threshold", 20.0)
    return lambda x: np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta)


def _hard_swish(says: Says) -> Compute:
    top, scale, offset = (_number_of(says, *each) for each in (("threshold", 6), ("scale", 6), ("offset", 3)))
    return lambda x: x * np.clip(x + offset, 0, top) / scale


def _hard_sigmoid(says: Says) -> Compute:
    slope, offset = _number_of(says, "slope", 0.2), _number_of(says, "offset", 0.5)
    return lambda x: np.clip(slope * x + offset, 0, 1)


ACTIVATIONS: Mapping[str, Callable[[Says], Compute]] = {
    **{kind: _plain(kind) for kind in ("silu", "mish", "tanh", "selu", "softsign")},
    "relu6": lambda says: lambda x: np.clip(x, 0, _number_of(says, "threshold", 6.0)),
    "gelu": lambda says: _plain("gelu_tanh" if says.get("approximate") else "gelu")(says),
    "leaky_relu": _with("leaky_relu", "alpha", 0.02),
    "elu": _with("elu", "alpha", 1.0),
    "celu": _with("celu", "alpha", 1.0),
    "swish": _swish,
    "softplus": _softplus,
    **dict.fromkeys(("hard_swish", "hardswish"), _hard_swish),
    **dict.fromkeys(("hard_sigmoid", "hardsigmoid"), _hard_sigmoid),
}
"""What an operator computes, from what it says."""
