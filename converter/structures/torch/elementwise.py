"""Functions of ATen that take each number by itself (pytorch, aten/src/ATen/native/native_functions.yaml)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.structures.activations import FUNCTIONS, elu, erf_of, shortest
from converter.structures.ops import Compute, Weight
from converter.structures.torch.values import Data

Function = Callable[..., Any]
"""Takes arguments by position, None where one in the middle is not given."""


def _activation(kind: str) -> Function:
    return lambda self: FUNCTIONS[kind](self, 0.0)


def _gelu(self: Array, approximate: str = "none") -> Array:
    return FUNCTIONS[{"none": "gelu", "tanh": "gelu_tanh"}[approximate]](self, 0.0)


def _elu(self: Array, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Array:
    return np.where(self > 0, scale * self, scale * elu(input_scale * self, alpha))


def _softplus(self: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    return np.where(beta * self > threshold, self, np.logaddexp(0, beta * self) / beta)


def _rrelu(self: Array, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Array:
    if training:
        raise ValueError
    return np.where(self < 0, (lower + upper) / 2 * self, self)


def _clamp(self: Array, low: float | None = None, high: float | None = None) -> Array:
    return np.minimum(np.maximum(self, -np.inf if low is None else low), np.inf if high is None else high)


def _hardtanh(self: Array, low: float | None = None, high: float | None = None) -> Array:
    return np.clip(self, -1.0 if low is None else low, 1.0 if high is None else high)


def _prelu(self: Array, weight: float) -> Array:
    return np.where(self < 0, weight * self, self)


_TABLE: Sequence[tuple[str, str, Function]] = (
    *((kind, "self", _activation(kind)) for kind in ("silu", "mish", "tanh", "hardswish", "hardsigmoid", "selu")),
    *((kind, "self", _activation(kind)) for kind in ("relu6", "softsign")),
    ("leaky_relu", "self negative_slope", lambda self, negative_slope=0.01: _prelu(self, negative_slope)),
    ("elu", "self alpha scale input_scale", _elu),
    ("celu", "self alpha", lambda self, alpha=1.0: FUNCTIONS["celu"](self, alpha)),
    ("gelu", "self approximate", _gelu),
    ("softplus", "self beta threshold", _softplus),
    ("rrelu", "self lower upper training", _rrelu),
    ("hardtanh", "self min_val max_val", _hardtanh),
    *((name, "self min max", _clamp) for name in ("clamp", "clip")),
    ("clamp_max", "self max", np.minimum),
    ("threshold", "self threshold value", lambda self, threshold, value: np.where(self > threshold, self, value)),
    *((name, "self weight", _prelu) for name in ("prelu", "_prelu_kernel")),
    ("erf", "self", erf_of),
    *((name, "self", getattr(np, name)) for name in ("exp", "expm1", "log", "log1p", "abs", "square", "reciprocal")),
    ("neg", "self", np.negative),
    ("pow", "self exponent", np.power),
    *((name, "self other", getattr(np, name)) for name in ("maximum", "minimum")),
    ("where", "condition self other", np.where),
    ("gt", "self other", np.greater),
    ("ge", "self other", np.greater_equal),
    ("lt", "self other", np.less),
    ("le", "self other", np.less_equal),
    ("sub", "self other", np.subtract),
    ("mul", "self other", np.multiply),
    ("div", "self other", np.divide),
)
FUNCTIONS_OF_ONE: Mapping[str, Function] = {name: function for name, _, function in _TABLE}
PARAMETERS: Mapping[str, str] = {name: parameters for name, parameters, _ in _TABLE}
"""Names of parameters, in order."""
STRANGE = (TypeError, ValueError, KeyError, ArithmeticError)
"""What comes of arguments that a function does not take."""


def elementwise(function: str, arguments: Mapping[str, Any]) -> Compute | None:
    """What a function makes of each number of the tensors that depend on the image; None if that is not known.

    Args:
        function: its name.
        arguments: by the names of its parameters; a constant is one number.
    """
    compute, parameters = FUNCTIONS_OF_ONE.get(function), PARAMETERS.get(function, "").split()
    data = [name for name, value in arguments.items() if isinstance(value, Data)]
    given = {name: _plain(value) for name, value in arguments.items() if name not in data}
    unknown = not set(arguments) <= set(parameters) or any(value is NotImplemented for value in given.values())
    if compute is None or not data or unknown:
        return None
    last = max(parameters.index(name) for name in arguments)

    def of(*values: Array) -> Array:
        named = {**given, **dict(zip(data, values))}
        return np.asarray(compute(*(named.get(name) for name in parameters[: last + 1])))

    try:
        of(*[np.ones(1)] * len(data))
    except STRANGE:
        return None
    return of


def _plain(value: Any) -> Any:
    """A constant as numbers have it; NotImplemented if it is not one."""
    if isinstance(value, Weight):
        one = prod(value.tensor.shape) == 1
        return np.float64(shortest(float(value.tensor.read().reshape(())))) if one else NotImplemented
    return value if isinstance(value, int | float | str | None) else NotImplemented
