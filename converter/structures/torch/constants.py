"""Constants of PyTorch's graphs, and what is computed of them before they meet the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.ops import Kind, Weight
from converter.structures.torch.values import UNKNOWN, Unknown, flattened
from converter.structures.weights import flat, transposed

FLOATS = (5, 6, 7, 15)
"""Numbers of element types of real numbers (c10/core/ScalarType.h): half, float, double, bfloat16."""


@dataclass(frozen=True)
class Turned(Weight):
    """A matrix that is stored the other way round, and the one that is stored."""

    of: Weight = None  # type: ignore[assignment]


def number(value: float) -> Weight:
    """One number for all channels."""
    return Weight(repr(value), Tensor.of(np.array(value, np.float64)))


def along(weight: Weight, rank: int | None) -> tuple[Kind, Weight] | None:
    """What is added or multiplied, as a vector: ``affine`` if it is per channel, ``row`` if along the last axis.

    Args:
        weight: the constant.
        rank: dimensions of what it is broadcast along.
    """
    shape = weight.tensor.shape
    if prod(shape) == 1:
        return flat(weight)
    if rank is None or len(shape) > rank or prod(shape) != max(shape):
        return None
    axis = rank - len(shape) + shape.index(max(shape))
    if axis not in (1, rank - 1):
        return None
    values = Tensor((prod(shape),), weight.tensor.dtype, lambda: weight.tensor.read().reshape(-1))
    return "row" if axis == rank - 1 else "affine", replace(weight, tensor=values)


def computed(function: str, given: Mapping[str, Any], extra: Sequence[Any], name: str) -> Any:
    """What a function makes of constants; None-like ``UNKNOWN`` where that is not followed.

    Raises:
        NotADenseNet: they cannot be combined.
    """
    weight = given.get("self", given.get("input"))
    if isinstance(weight, Weight):
        if function in SAME and _keeps(weight, given.get("dtype")):
            return weight
        if len(weight.tensor.shape) == 2 and _turns(function, given):
            if isinstance(weight, Turned):
                return weight.of
            return Turned(f"{weight.key} (transposed)", transposed(weight.tensor), weight.sources, weight)
    values = list(flattened(list(given.values())))
    unknown = next((value for value in values if isinstance(value, Unknown) and value.why), None)
    compute = COMPUTED.get(function)
    if compute is None or extra or unknown is not None:
        return unknown or UNKNOWN
    weights = [value for value in values if isinstance(value, Weight)]
    if sum(prod(each.tensor.shape) for each in weights) > bounds.COMPUTED:
        return Unknown(f"{name} computes weights, which is not followed")
    try:
        result = compute({key: _array(value) for key, value in given.items()})
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, MemoryError):
        return Unknown(f"{name}, whose constants are not understood")
    if result.size > bounds.COMPUTED or result.ndim > bounds.DIMENSIONS:
        raise NotADenseNet(f"{name} makes a constant of {result.size} values")
    if result.dtype.kind == "f" and result.shape:
        result = result.astype(np.float32)
    sources = tuple(source for each in weights for source in each.sources)
    return Weight(weights[0].key if weights else name, Tensor.of(result), sources)


def _keeps(weight: Weight, dtype: Any) -> bool:
    """Whether a cast leaves values as they are, but for their precision."""
    if not isinstance(dtype, int):
        return not isinstance(dtype, Unknown) or not dtype.why
    return dtype in (FLOATS if weight.tensor.dtype.kind in "fV" else (*FLOATS, 3, 4))


def _turns(function: str, given: Mapping[str, Any]) -> bool:
    pair = (given.get("dim0"), given.get("dim1"))
    return (
        function == "t"
        or (function == "permute" and list(given.get("dims") or ()) in ([1, 0], [-1, 0], [1, -2], [-1, -2]))
        or (function == "transpose" and {n + 2 if isinstance(n, int) and n < 0 else n for n in pair} == {0, 1})
    )


def _array(value: Any) -> Any:
    """A constant as numbers; lists of constants too."""
    if isinstance(value, Weight):
        array = value.tensor.read()
        return array.astype(np.float64) if array.dtype.kind in "fV" else array
    return [_array(item) for item in value] if isinstance(value, (list, tuple)) else value


Compute = Callable[[dict[str, Any]], Array]


def _sizes(a: dict[str, Any]) -> list[int]:
    sizes = a.get("size", a.get("shape"))
    sizes = [sizes] if isinstance(sizes, int) else list(sizes or ())
    if prod(max(n, 1) for n in sizes) > bounds.COMPUTED:
        raise ValueError
    return sizes


def _tensor(a: dict[str, Any]) -> Array:
    array = np.asarray(a["data"])
    if array.dtype.kind not in "fiu":
        raise ValueError
    return array


def _binary(operator: Callable[[Any, Any], Any]) -> Compute:
    def compute(a: dict[str, Any]) -> Array:
        if a.get("alpha", 1) != 1 or a.get("rounding_mode") is not None:
            raise ValueError
        with np.errstate(all="ignore"):
            return np.asarray(operator(np.asarray(a["self"]), np.asarray(a["other"])))

    return compute


def _unary(operator: Callable[[Any], Any]) -> Compute:
    def compute(a: dict[str, Any]) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(operator(np.asarray(a["self"], np.float64)))

    return compute


def _expanded(a: dict[str, Any]) -> Array:
    array = np.asarray(a["self"])
    sizes = _sizes(a)
    kept = [array.shape[i - len(sizes)] if n == -1 else n for i, n in enumerate(sizes)]
    return np.broadcast_to(array, kept)


def _sliced(a: dict[str, Any]) -> Array:
    array = np.asarray(a["self"])
    axis = a.get("dim", 0)
    taken = range(array.shape[axis])[slice(a.get("start"), a.get("end"), a.get("step", 1))]
    return np.take(array, taken, axis)


SAME = frozenset(
    """clone detach alias contiguous lift_fresh_copy lift_fresh to _to_copy type_as float double cpu cuda requires_grad
    convert_element_type""".split()
)
"""Functions that leave a constant as it is (its type is another question)."""

COMPUTED: Mapping[str, Compute] = {
    "tensor": _tensor,
    "as_tensor": _tensor,
    "view": lambda a: np.asarray(a["self"]).reshape(_sizes(a)),
    "reshape": lambda a: np.asarray(a["self"]).reshape(_sizes(a)),
    "unsqueeze": lambda a: np.expand_dims(np.asarray(a["self"]), a["dim"]),
    "squeeze": lambda a: np.squeeze(np.asarray(a["self"]), a.get("dim")),
    "flatten": lambda a: np.asarray(a["self"]).reshape(-1),
    "expand": _expanded,
    "slice": _sliced,
    "permute": lambda a: np.transpose(np.asarray(a["self"]), a["dims"]),
    "add": _binary(np.add),
    "sub": _binary(np.subtract),
    "rsub": _binary(lambda x, y: y - x),
    "mul": _binary(np.multiply),
    "div": _binary(np.true_divide),
    "pow": lambda a: np.power(np.asarray(a["self"], np.float64), np.asarray(a["exponent"])),
    "neg": _unary(np.negative),
    "sqrt": _unary(np.sqrt),
    "rsqrt": _unary(lambda x: 1 / np.sqrt(x)),
    "reciprocal": _unary(np.reciprocal),
    "full": lambda a: np.full(_sizes(a), a["fill_value"]),
    "ones": lambda a: np.ones(_sizes(a)),
    "zeros": lambda a: np.zeros(_sizes(a)),
    "cat": lambda a: np.concatenate(a["tensors"], a.get("dim", 0)),
    "stack": lambda a: np.stack(a["tensors"], a.get("dim", 0)),
}
