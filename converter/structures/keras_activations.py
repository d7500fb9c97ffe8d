"""Keras' activations, as functions of one number: by the names of ``keras.activations``, and as layers.

Sources: keras/src/activations, keras/src/layers/activations; tf_keras/src/activations.py.  What has another meaning in
Keras 2 is ``hard_sigmoid`` alone: 0.2 x + 0.5 there, x / 6 + 0.5 in Keras 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.structures.activations import FUNCTIONS, elu
from converter.structures.ops import Compute, Kind, Op

Settings = Mapping[str, Any]

KINDS: Mapping[str, Kind] = {
    "relu": "relu",
    "linear": "skip",
    "None": "skip",
    "softmax": "softmax",
    "sigmoid": "sigmoid",
    "log_softmax": "end",
}
"""Those that are operators of their own."""
SAME = (
    *("relu6", "selu", "softplus", "softsign", "tanh", "mish", "silu", "hard_silu", "gelu", "celu", "elu"),
    *("swish", "hard_swish"),
)
"""Those that PyTorch has too; Keras' own usual values."""
RENAMED = {"hard_silu": "hardswish", "hard_swish": "hardswish", "swish": "silu"}
LEAKY, LEAKY_LAYER = 0.2, 0.3
"""The slope of ``leaky_relu``, and of the layer LeakyReLU where its config has none."""
LAYERS = ("Activation", "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax")
"""Layers that are activations and have no weights."""


def activated(op: Op, told: Any, version: str) -> Op:
    """An operator as an activation, by what a config says of it; of kind ``other`` if that is not known.

    Args:
        op: takes and gives the values.
        told: a name, None, or a layer or function as Keras serialises them.
        version: of the Keras that wrote the config; empty where it is not known.
    """
    if isinstance(told, dict):
        inner, kind = told.get("config"), told.get("class_name")
        if kind == "function" and told.get("registered_name") in (None, "function", inner):
            return activated(op, inner, version)
        return activation_layer(op, str(kind), inner, version) if isinstance(inner, dict) else _other(op, kind)
    name = str(told)
    if name in KINDS:
        return _named(op, KINDS[name])
    if name in SAME:
        kind = RENAMED.get(name, name)
        return _computed(op, lambda x: FUNCTIONS[kind](x, 1.0))
    if name == "leaky_relu":
        return _computed(op, lambda x: FUNCTIONS[name](x, LEAKY))
    if name == "hard_sigmoid" and version:
        slope = 0.2 if version[:2] in ("1.", "2.") else 1 / 6
        return _computed(op, lambda x: np.clip(slope * x + 0.5, 0, 1))
    return _other(op, name)


def activation_layer(op: Op, kind: str, settings: Settings, version: str) -> Op:
    """The same of a layer that is an activation."""
    if kind == "Activation":
        return activated(op, settings.get("activation"), version)
    if kind == "Softmax":
        return _named(op, "softmax" if settings.get("axis", -1) in (-1, 1, [-1], [1]) else "other")
    compute = _layer(kind, settings)
    return _other(op, kind) if compute is None else _computed(op, compute)


def _layer(kind: str, settings: Settings) -> Compute | None:
    """What a layer without weights computes; None if it is another kind, or its numbers are not known."""
    if kind == "ReLU":
        slope, floor = (_number(settings.get(name) or 0.0) for name in ("negative_slope", "threshold"))
        top = settings.get("max_value")
        top = np.inf if top is None else _number(top)
        return None if None in (slope, floor, top) else lambda x: _relu(x, slope, floor, top)
    if kind == "LeakyReLU":
        slope = _number(settings.get("negative_slope", settings.get("alpha", LEAKY_LAYER)))
        return None if slope is None else lambda x: FUNCTIONS["leaky_relu"](x, slope)
    if kind == "ELU":
        alpha = _number(settings.get("alpha", 1.0))
        return None if alpha is None else lambda x: elu(x, alpha)
    if kind == "ThresholdedReLU":
        theta = _number(settings.get("theta", 1.0))
        return None if theta is None else lambda x: np.where(x > theta, x, 0)
    return None


def _relu(x: Array, slope: Any, floor: Any, top: Any) -> Array:
    y: Array = np.where(x >= floor, np.minimum(x, top), slope * (x - floor))
    return y


def _number(value: Any) -> float | None:
    """A number as configs write it: plain, or in an array that Keras 2 wrapped."""
    if isinstance(value, dict):
        inner = value.get("config", value)
        return _number(inner.get("value")) if isinstance(inner, dict) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _named(op: Op, kind: Kind) -> Op:
    return Op(kind, op.x, op.y, op.name, op.weights)


def _computed(op: Op, compute: Compute) -> Op:
    return Op("other", op.x, op.y, op.name, op.weights, compute=compute)


def _other(op: Op, what: Any) -> Op:
    return Op("other", op.x, op.y, f"{op.name}'s {what}")
