"""ONNX's operators that take each number by itself (onnx/docs/Operators.md; onnxruntime/docs/ContribOperators.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.structures.activations import FUNCTIONS, SELU, elu, erf_of, shortest, sigmoid
from converter.structures.onnx_constants import Constants, Node
from converter.structures.ops import Compute

Attributes = Mapping[str, Any]


def _number(attributes: Attributes, name: str, default: float) -> float:
    """An attribute, as it was meant."""
    return shortest(float(attributes.get(name, default)))


def _plain(compute: Compute) -> Callable[[Attributes], Compute]:
    return lambda _: compute


def _activation(kind: str, alpha: float = 0.0) -> Callable[[Attributes], Compute]:
    """A function of one number and, it may be, ``alpha``."""

    def maker(attributes: Attributes) -> Compute:
        value = _number(attributes, "alpha", alpha)
        return lambda x: FUNCTIONS[kind](x, value)

    return maker


def _gelu(attributes: Attributes) -> Compute | None:
    kind = {"none": "gelu", "tanh": "gelu_tanh"}.get(attributes.get("approximate", "none"))
    return None if kind is None else lambda x: FUNCTIONS[kind](x, 0.0)


def _hard_sigmoid(attributes: Attributes) -> Compute:
    alpha, beta = float(attributes.get("alpha", 0.2)), float(attributes.get("beta", 0.5))
    return lambda x: np.clip(alpha * x + beta, 0, 1)


def _swish(default: float) -> Callable[[Attributes], Compute]:
    def maker(attributes: Attributes) -> Compute:
        alpha = float(attributes.get("alpha", default))
        return lambda x: x * sigmoid(alpha * x)

    return maker


def _selu(attributes: Attributes) -> Compute:
    alpha, gamma = float(attributes.get("alpha", SELU[0])), float(attributes.get("gamma", SELU[1]))
    return lambda x: gamma * elu(x, alpha)


def _thresholded(attributes: Attributes) -> Compute:
    alpha = float(attributes.get("alpha", 1.0))
    return lambda x: np.where(x > alpha, x, 0)


def _clip(attributes: Attributes) -> Compute:
    """Bounds are attributes before opset 11, then inputs."""
    low, high = attributes.get("min", -np.inf), attributes.get("max", np.inf)
    return lambda x, below=None, above=None: np.minimum(
        np.maximum(x, low if below is None else below), high if above is None else above
    )


MAKERS: Mapping[str, Callable[[Attributes], Compute | None]] = {
    "LeakyRelu": _activation("leaky_relu", 0.01),
    "Elu": _activation("elu", 1.0),
    "Celu": _activation("celu", 1.0),
    "Gelu": _gelu,
    "FastGelu": _activation("gelu_tanh"),
    "QuickGelu": _swish(1.702),
    "Swish": _swish(1.0),
    "Mish": _activation("mish"),
    "Tanh": _activation("tanh"),
    "Softplus": _activation("softplus"),
    "Softsign": _activation("softsign"),
    "HardSwish": _activation("hardswish"),
    "HardSigmoid": _hard_sigmoid,
    "Selu": _selu,
    "ThresholdedRelu": _thresholded,
    "PRelu": _plain(lambda x, slope: np.where(x < 0, slope * x, x)),
    "Clip": _clip,
    "Erf": _plain(erf_of),
    "Exp": _plain(np.exp),
    "Log": _plain(np.log),
    "Sqrt": _plain(np.sqrt),
    "Abs": _plain(np.abs),
    "Reciprocal": _plain(np.reciprocal),
    "Pow": _plain(np.power),
    "Sub": _plain(np.subtract),
    "Mul": _plain(np.multiply),
    "Div": _plain(np.divide),
    "Max": _plain(lambda *values: np.maximum.reduce(np.broadcast_arrays(*values))),
    "Min": _plain(lambda *values: np.minimum.reduce(np.broadcast_arrays(*values))),
    "Where": _plain(np.where),
    "Greater": _plain(np.greater),
    "GreaterOrEqual": _plain(np.greater_equal),
    "Less": _plain(np.less),
    "LessOrEqual": _plain(np.less_equal),
}
"""What a node computes, from its attributes; its inputs are the arguments."""


def elementwise(constants: Constants, node: Node) -> Compute | None:
    """What a node makes of each number of the values it takes; None if it does not take them by themselves.

    A constant that it takes is one number.
    """
    maker = MAKERS.get(node["op"])
    compute = maker(node["attributes"]) if maker is not None else None
    data = constants.data(node)
    given: list[Array | None] = []
    for name in node["inputs"]:
        weight = constants.values.get(name)
        if (name and weight is None and name not in data) or (weight is not None and prod(weight.tensor.shape) != 1):
            return None
        number = None if weight is None else weight.tensor.read().reshape(())
        given.append(None if number is None else np.asarray(shortest(float(number))))
    if compute is None or not data:
        return None
    at = [i for i, name in enumerate(node["inputs"]) if name and name in data]

    def of(*values: Array) -> Array:
        arguments: list[Array | None] = [*given]
        for i, value in zip(at, values):
            arguments[i] = value
        return np.asarray(compute(*arguments))

    return of
