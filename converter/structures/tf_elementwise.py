"""TensorFlow's nodes that take each number by itself (tensorflow/core/ops/math_ops.cc, nn_ops.cc)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from converter.core.checkpoint import Array
from converter.structures.activations import FUNCTIONS, erf_of, shortest
from converter.structures.ops import Compute
from converter.structures.tf_calls import Step
from converter.structures.tf_constants import Constants
from converter.structures.tf_description import Node
from converter.structures.weights import one_number

Maker = Callable[[Node], Compute]


def _plain(compute: Compute) -> Maker:
    return lambda node: compute


def _activation(kind: str) -> Maker:
    return lambda node: lambda x: FUNCTIONS[kind](x, 1.0)


def _leaky(node: Node) -> Compute:
    slope = shortest(node.real("alpha", node.real("leakyrelu_alpha", 0.2)))
    return lambda x: FUNCTIONS["leaky_relu"](x, slope)


def _gelu(node: Node) -> Compute:
    kind = "gelu_tanh" if node.number("approximate") else "gelu"
    return lambda x: FUNCTIONS[kind](x, 1.0)


MAKERS: Mapping[str, Maker] = {
    "Gelu": _gelu,  # this and the next are TensorFlow Lite's
    "HardSwish": _activation("hardswish"),
    "LeakyRelu": _leaky,
    **{
        op: _activation(op.lower())
        for op in ("Elu", "Selu", "Softplus", "Softsign", "Relu6", "Tanh", "Relu", "Sigmoid")
    },
    "Erf": _plain(erf_of),
    "Erfc": _plain(lambda x: 1 - erf_of(x)),
    "Exp": _plain(np.exp),
    "Expm1": _plain(np.expm1),
    "Log": _plain(np.log),
    "Log1p": _plain(np.log1p),
    "Abs": _plain(np.abs),
    "Neg": _plain(np.negative),
    "Square": _plain(np.square),
    "Sqrt": _plain(np.sqrt),
    "Rsqrt": _plain(lambda x: 1 / np.sqrt(x)),
    **dict.fromkeys(("Inv", "Reciprocal"), _plain(np.reciprocal)),
    "Pow": _plain(np.power),
    **dict.fromkeys(("Add", "AddV2"), _plain(np.add)),
    "Sub": _plain(np.subtract),
    "Mul": _plain(np.multiply),
    "MulNoNan": _plain(lambda x, y: np.where(y == 0, 0, x * y)),
    **dict.fromkeys(("RealDiv", "Div"), _plain(np.divide)),
    "Maximum": _plain(np.maximum),
    "Minimum": _plain(np.minimum),
    "ClipByValue": _plain(lambda x, low, high: np.minimum(np.maximum(x, low), high)),
    **dict.fromkeys(("Select", "SelectV2"), _plain(np.where)),
    "Greater": _plain(np.greater),
    "GreaterEqual": _plain(np.greater_equal),
    "Less": _plain(np.less),
    "LessEqual": _plain(np.less_equal),
    "ZerosLike": _plain(np.zeros_like),
    "OnesLike": _plain(np.ones_like),
}
"""What a node computes; its inputs are the arguments."""


def elementwise(step: Step, constants: Constants) -> Compute | None:
    """What a node makes of each number of the values it takes; None if it does not take them by themselves.

    A constant that it takes is one number, or many that are equal.
    """
    maker = MAKERS.get(step.node.op)
    if maker is None:
        return None
    given: list[float | None] = []
    for name in step.x:
        weight = constants.values.get(name)
        number = None if weight is None else one_number(weight)
        if weight is not None and number is None:
            return None
        given.append(number)
    compute = maker(step.node)

    def of(*values: Array) -> Array:
        data = iter(values)
        return np.asarray(compute(*(next(data) if number is None else np.float64(number) for number in given)))

    return of
