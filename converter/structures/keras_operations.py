"""Keras' operations on values that are no layers of their own: arithmetic, preprocessing, reversed channels.

``x / 255.0`` in a functional model is a TFOpLambda layer in Keras 2 (keras/src/layers/core/
tf_op_layer.py), an operation called TrueDivide in Keras 3 (keras/src/ops/numpy.py); the other
operand stands in the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.ops import Kind, Op, Weight

NAMES: Mapping[str, str] = {
    **dict.fromkeys(("math.truediv", "math.divide", "TrueDivide", "Divide", "__operators__.truediv"), "/"),
    **dict.fromkeys(("math.subtract", "Subtract", "__operators__.sub"), "-"),
    **dict.fromkeys(("math.multiply", "Multiply", "__operators__.mul"), "*"),
    **dict.fromkeys(("math.add", "Add", "__operators__.add", "nn.bias_add"), "+"),
    **dict.fromkeys(("__operators__.getitem", "GetItem"), "[]"),
    **dict.fromkeys(("cast", "Cast", "identity", "stop_gradient", "convert_to_tensor"), "skip"),
    **dict.fromkeys(("nn.relu", "Relu"), "relu"),
    "nn.softmax": "softmax",
    **dict.fromkeys(("nn.sigmoid", "math.sigmoid", "Sigmoid"), "sigmoid"),
    **dict.fromkeys(("math.argmax", "argmax", "Argmax"), "end"),
}
"""What operations do, by the names of Keras 2's functions and Keras 3's classes."""
KINDS: Mapping[str, Kind] = {"skip": "skip", "relu": "relu", "softmax": "softmax", "sigmoid": "sigmoid", "end": "end"}


def operation(layer: Mapping[str, Any], name: str, axis: int) -> list[Op]:
    """A layer that is an operation, as operators from ``name`` to ``name``; of kind ``other`` if it is not understood.

    Args:
        layer: with the operands of its first call.
        name: the layer's.
        axis: where channels lie in its values, from behind.
    """
    function = str(layer["settings"].get("function") or layer["class"])
    title = f"{name} ({function})"
    other = [Op("other", (), name, title)]
    operands = _operands(layer)
    does = NAMES.get(function)
    values = [operand for operand in operands if isinstance(operand, str)]
    if does is None or len(values) != 1:
        joins = does == "+" and len(values) == len(operands) == 2
        return [Op("add", (), name, title)] if joins else other
    if does == "[]":
        return _indexed(operands, name, title, axis) or other
    if does in KINDS:
        if KINDS[does] in ("softmax", "end") and _axis(layer) not in (None, -1, 1):
            return other
        return [Op(KINDS[does], (), name, title)]
    if len(operands) != 2:
        return other
    numbers = next((_numbers(operand) for operand in operands if not isinstance(operand, str)), None)
    per_channel = None if numbers is None else channels_of(numbers, axis)
    if per_channel is None:
        return other
    first = isinstance(operands[0], str)
    with np.errstate(all="ignore"):
        return _affine(does, per_channel, name, title, first=first) or other


def affine(name: str, title: str, scale: Array | None, shift: Array | None) -> Op:
    """Times the one, plus the other."""
    given = {"weight": scale, "bias": shift}
    weights = {leaf: Weight(f"{name} ({leaf})", Tensor.of(v)) for leaf, v in given.items() if v is not None}
    return Op("affine", (), name, title, weights)


def channels_of(numbers: Array, axis: int = -1) -> Array | None:
    """One number, or one for each channel; None if they lie along other axes."""
    if numbers.size == 1:
        return numbers.reshape(1)
    if numbers.ndim < -axis or numbers.shape[axis] != numbers.size:
        return None
    return numbers.reshape(-1)


def numbers_of(value: Any) -> Array | None:
    """Numbers as a config writes them: one, a list, or a constant that Keras wrapped; None if they are none."""
    if isinstance(value, dict):
        inner = value.get("config")
        return numbers_of(inner.get("value") if isinstance(inner, dict) else None)
    if isinstance(value, (int, float, list)) and not isinstance(value, bool):
        try:
            array = np.array(value, np.float64)
        except (ValueError, TypeError):
            return None
        return array if array.size <= bounds.KERAS_NUMBERS else None
    return None


def _numbers(value: Any) -> Array | None:
    return numbers_of(value)


def _affine(does: str, numbers: Array, name: str, title: str, *, first: bool) -> list[Op]:
    """Arithmetic with numbers; ``first`` if the value is the left operand."""
    match does, first:
        case "+", _:
            return [affine(name, title, None, numbers)]
        case "-", True:
            return [affine(name, title, None, -numbers)]
        case "-", False:
            return [affine(name, title, np.full(1, -1.0), numbers)]
        case "*", _:
            return [affine(name, title, numbers, None)]
        case "/", True:
            return [affine(name, title, 1 / numbers, None)]
    return []


def _operands(layer: Mapping[str, Any]) -> list[Any]:
    """The operands of a call in order: the name of the layer that gives a value, or what the config has.

    Raises:
        NotADenseNet: they are written in no way known here.
    """
    call = layer["call"]
    if isinstance(call, dict):  # Keras 3
        args, named = call.get("args", []), call.get("kwargs", {})
        given = [*args, *(value for key, value in named.items() if key not in ASIDE)]
        return [_tensor(value) or value for value in given]
    while isinstance(call, list) and len(call) == 1 and isinstance(call[0], list):
        call = call[0]
    if not (isinstance(call, list) and len(call) >= 3):
        raise NotADenseNet(f"{layer['name']}: what it is called with is not understood")
    first = call[2] if call[0] == CONSTANT else str(call[0])
    named = call[3] if len(call) > 3 and isinstance(call[3], dict) else {}
    given = [value for key, value in named.items() if key not in ASIDE]
    return [first, *(_reference(value) or value for value in given)]


def _axis(layer: Mapping[str, Any]) -> Any:
    """The axis a layer says: Keras 3 among its settings, Keras 2 in its call; None if it says none."""
    call = layer["call"]
    while isinstance(call, list) and len(call) == 1:
        call = call[0]
    named = call[3] if isinstance(call, list) and len(call) > 3 and isinstance(call[3], dict) else {}
    return named.get("axis", layer["settings"].get("axis"))


ASIDE = ("name", "data_format", "dtype", "axis")
"""Arguments that are no operands."""
CONSTANT = "_CONSTANT_VALUE"
"""What Keras 2 writes in place of a layer's name where the first operand is a constant."""


def _tensor(value: Any) -> str | None:
    """The layer that gives a ``__keras_tensor__``."""
    if not isinstance(value, dict) or value.get("class_name") != "__keras_tensor__":
        return None
    return str(value["config"]["keras_history"][0])


def _reference(value: Any) -> str | None:
    """The layer that ``[name, node, output]`` stands for."""
    is_one = isinstance(value, list) and len(value) == 3 and [type(each) for each in value] == [str, int, int]
    return str(value[0]) if is_one else None


def _indexed(operands: list[Any], name: str, title: str, axis: int) -> list[Op]:
    """``x[..., ::-1]``: all of a value, its channels reversed; nothing else is understood."""
    spec = next((operand for operand in operands if not isinstance(operand, str)), None)
    parts = [_slice(each) for each in spec] if isinstance(spec, list) else []
    if not parts or None in parts:
        return []
    reversed_ = [i for i, part in enumerate(parts) if part == "reversed"]
    ends = parts[0] == "..." or len(parts) == 4
    if not reversed_:
        return [Op("skip", (), name, title)]
    at = reversed_[0] - len(parts)
    return [Op("flip", (), name, title, axis=1 if at == axis else 2)] if len(reversed_) == 1 and ends else []


def _slice(part: Any) -> str | None:
    if part in ("...", "Ellipsis") or (isinstance(part, dict) and part.get("class_name") == "__ellipsis__"):
        return "..."
    inner = part.get("config", part) if isinstance(part, dict) else None
    if not isinstance(inner, dict) or inner.get("start") is not None or inner.get("stop") is not None:
        return None
    return {None: "all", 1: "all", -1: "reversed"}.get(inner.get("step"))
