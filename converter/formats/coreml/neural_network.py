"""Core ML's neural networks, whose layers become operations by MIL's names (mlmodel/format/NeuralNetwork.proto)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from math import prod

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Tensor
from converter.core.errors import UnreadableFile
from converter.formats.coreml.program import Constant, Operation, Program
from converter.formats.protobuf import fields, message, messages, number, numbers, real, signed, string, text

Inputs = dict[str, list[str | Constant]]
Made = tuple[str, Inputs] | None
"""An operation and what it takes besides its value; None where the layer is not understood."""

CONSTANTS = {290: "loadConstant", 1070: "loadConstantND"}
POOLS = ("max_pool", "avg_pool")
GRAY = (10, 40)
BGR = 30
"""Colour spaces of ImageFeatureType."""


def network_of(data: memoryview, description: memoryview) -> Program:
    """A NeuralNetwork {1: layers, 2: preprocessing} as operations.

    Args:
        data: the network, a classifier's too.
        description: of the model: ModelDescription {1: input, 10: output}.

    Raises:
        UnreadableFile: damaged, or its weights are quantised.
    """
    described = list(islice(messages(description, 1), bounds.OUTPUTS))
    inputs = dict(map(_feature, described))
    blue_first = {text(each, 1) for each in described if number(message(message(each, 3), 4), 3) == BGR}
    layers = list(islice(messages(data, 1), bounds.OPERATORS + 1))
    if len(layers) > bounds.OPERATORS:
        raise UnreadableFile(f"more than {bounds.OPERATORS} layers; no DenseNet has so many")
    operations, prepared = list[Operation](), dict[str, str]()
    for each in messages(data, 2):
        name = text(each, 1) or next(iter(inputs), "")
        prepared[name] = f"{name} (prepared)"
        biases = (20, 21, 22) if name in blue_first else (30,) if inputs.get(name, ())[1:2] == (1,) else (22, 21, 20)
        operations += _preprocessing(each, name, prepared[name], biases)
    constants: dict[str, Constant] = {}
    for layer in layers:
        name, taken, given = text(layer, 1), _names(layer, 2), _names(layer, 3)
        at, inner = next(
            ((n, v) for n, _, v in fields(layer) if n >= 100 and not isinstance(v, int)), (0, memoryview(b""))
        )
        if at in CONSTANTS and given:
            constants[given[0]] = _weights(message(inner, 2), _ints(inner, 1), name)
            continue
        made = READERS[at](inner, name) if at in READERS else None
        kind, inputs_of = made or (f"layer {at}", {})
        values: list[str | Constant] = [constants.get(each, prepared.get(each, each)) for each in taken]
        if kind == "linear_activation" and given and isinstance(values[0], Tensor):  # of a constant: another one
            constants[given[0]] = _changed(values[0], *(real(message(inner, 5), n) or 0.0 for n in (1, 2)))
            continue
        operations.append(Operation(kind, name, {**_values(kind, values), **inputs_of}, tuple(given)))
    used = {each for op in operations for values in op.inputs.values() for each in values if isinstance(each, str)}
    outputs = [name for op in operations for name in op.outputs if name not in used]
    return Program(inputs, operations, outputs)


def labels_of(data: memoryview) -> list[str]:
    """The classes of a NeuralNetworkClassifier {100: stringClassLabels {1: vector}}."""
    return [string(each, "replace") for each in islice(messages(message(data, 100), 1), bounds.CLASSES)]


def _values(kind: str, values: list[str | Constant]) -> Inputs:
    """A layer's values under the parameters' names."""
    if kind == "concat":
        return {"values": values}
    two: Inputs = {"x": values[:1], "y": values[1:2]}
    return two if len(values) == 2 else {"x": values}


def _names(layer: memoryview, n: int) -> list[str]:
    return [string(value) for value in islice(messages(layer, n), bounds.JOINED + 1)]


def _feature(data: memoryview) -> tuple[str, tuple[int, ...]]:
    """FeatureDescription {1: name, 3: FeatureType {4: imageType, 5: multiArrayType {1: shape}}}, as name and shape."""
    kind = message(data, 3)
    image = next(messages(kind, 4), None)
    if image is None:
        shape = tuple(_ints(message(kind, 5), 1))
        return text(data, 1), shape if len(shape) != 3 else (1, *shape)
    return text(data, 1), (1, 1 if number(image, 3) in GRAY else 3, number(image, 2), number(image, 1))


def _preprocessing(data: memoryview, name: str, prepared: str, biases: tuple[int, ...]) -> Iterator[Operation]:
    """NeuralNetworkPreprocessing {10: scaler {10: channelScale, 20: blueBias, 21: green, 22: red, 30: gray}}.

    ``biases`` are the fields of the input's channels, in the network's order.
    """
    scaler = next(messages(data, 10), None)
    if scaler is None:
        yield Operation("meanImage", name, {"x": [name]}, (prepared,))
        return
    scale = real(scaler, 10)
    bias = np.array([real(scaler, n) or 0.0 for n in biases], np.float64).reshape(1, -1, 1, 1)
    between = f"{name} (scaled)"
    factor = Tensor.of(np.full(1, 1.0 if scale is None else scale))
    yield Operation("mul", f"{name} channelScale", {"x": [name], "y": [factor]}, (between,))
    yield Operation("add", f"{name} bias", {"x": [between], "y": [Tensor.of(bias)]}, (prepared,))


# -- numbers -------------------------------------------------------------------------------------


def _ints(data: memoryview, n: int) -> list[int]:
    return [signed(value) for at, _, packed in fields(data) if at == n for value in numbers(packed)]


def _tensor(values: list[int] | list[float]) -> list[str | Constant]:
    return [Tensor.of(np.array(values))]


def _changed(tensor: Tensor, alpha: float, beta: float) -> Tensor:
    """Numbers times one, plus another, in the precision that a network computes in."""
    return Tensor(tensor.shape, np.dtype("<f4"), lambda: tensor.read() * np.float32(alpha) + np.float32(beta))


def _flag(data: memoryview, n: int) -> bool:
    return bool(number(data, n))


def _weights(data: memoryview, shape: list[int], name: str) -> Tensor:
    """WeightParams {1: floatValue, 2: float16Value, 30: rawValue, 31: int8RawValue, 40: quantization}.

    Raises:
        UnreadableFile: they are quantised, or there are not as many as the shape needs.
    """
    held = {n: value for n, _, value in fields(data) if not isinstance(value, int)}
    if held.keys() & {30, 31, 40}:
        raise UnreadableFile(f"its weights are quantised ({name}), which is not read; give the model before that")
    raw, stored = (held[1], np.dtype("<f4")) if 1 in held else (held.get(2, memoryview(b"")), np.dtype("<f2"))
    if min(shape, default=1) < 0 or prod(shape) * stored.itemsize != len(raw):
        raise UnreadableFile(f"damaged, {name} has {len(raw) // stored.itemsize} weights, shape {shape} needs others")
    return Tensor.over(raw, stored, shape)


# -- layers ----------------------------------------------------------------------------------------


def _borders(data: memoryview, n: int, dims: int) -> list[int]:
    """{n: BorderAmounts {10: {1: start, 2: end}}}, start and end of each axis."""
    edges = [(number(edge, 1), number(edge, 2)) for edge in messages(message(data, n), 10)]
    return [side for edge in edges or [(0, 0)] * dims for side in edge]


def _padding(data: memoryview, valid: int, same: int) -> Inputs:
    """How windows are padded: by amounts, or as SAME."""
    held = next(messages(data, same), None)
    if held is not None:
        return {"pad_type": [("same_lower" if number(held, 1) else "same",)]}
    return {"pad_type": [("custom",)], "pad": _tensor(_borders(message(data, valid), 1, 2))}


def _conv(data: memoryview, name: str) -> Made:
    if _flag(data, 60):
        return None
    kernel, groups = _ints(data, 20) or [3, 3], number(data, 10) or 1
    shape = [number(data, 1), number(data, 2), *kernel]
    inputs: Inputs = {
        "weight": [_weights(message(data, 90), shape, name)],
        "strides": _tensor(_ints(data, 30) or [1, 1]),
        "dilations": _tensor(_ints(data, 40) or [1, 1]),
        "groups": _tensor([groups]),
        **_padding(data, 50, 51),
    }
    if _flag(data, 70):
        inputs["bias"] = [_weights(message(data, 91), shape[:1], name)]
    return "conv", inputs


def _pool(data: memoryview, _: str) -> Made:
    kind = number(data, 1)
    if kind >= len(POOLS):
        return None
    if _flag(data, 60):
        return ("reduce_max", "reduce_mean")[kind], {"axes": _tensor([2, 3])}
    inputs: Inputs = {"kernel_sizes": _tensor(_ints(data, 10) or [3, 3]), "strides": _tensor(_ints(data, 20) or [1, 1])}
    last = next(messages(data, 32), None)
    if last is None:
        inputs |= _padding(data, 30, 31)
    else:
        amounts = _ints(last, 10) or [0, 0]
        inputs |= {"pad_type": [("custom",)], "pad": _tensor([a for n in amounts for a in (n, n)]), "ceil_mode": [True]}
    return POOLS[kind], {**inputs, "exclude_padding_from_average": [_flag(data, 50)]}


def _activation(data: memoryview, name: str) -> Made:
    at, inner = next(((n, v) for n, _, v in fields(data) if not isinstance(v, int)), (0, memoryview(b"")))
    plain = {10: "relu", 30: "tanh", 40: "sigmoid", 60: "softsign", 70: "softplus"}
    if at in plain:
        return plain[at], {}
    alpha, beta = real(inner, 1) or 0.0, real(inner, 2) or 0.0
    known = {5: "linear_activation", 15: "leaky_relu", 41: "sigmoid_hard", 50: "elu"}
    return (known[at], {"alpha": _tensor([alpha]), "beta": _tensor([beta])}) if at in known else None


def _inner_product(data: memoryview, name: str) -> Made:
    shape = [number(data, 2), number(data, 1)]
    if _flag(data, 22):
        raise UnreadableFile(f"its weights are quantised ({name}), which is not read; give the model before that")
    inputs: Inputs = {"weight": [_weights(message(data, 20), shape, name)]}
    if _flag(data, 10):
        inputs["bias"] = [_weights(message(data, 21), shape[:1], name)]
    return "linear", inputs


def _norm(data: memoryview, name: str) -> Made:
    if _flag(data, 5) or _flag(data, 6):
        return None
    found = {"gamma": 15, "beta": 16, "mean": 17, "variance": 18}
    inputs: Inputs = {key: [_weights(message(data, n), [number(data, 1)], name)] for key, n in found.items()}
    eps = real(data, 10)
    return "batch_norm", {**inputs, "epsilon": _tensor([eps if eps else 1e-5])}


def _pad(data: memoryview, _: str) -> Made:
    modes = {1: "constant", 2: "reflect", 3: "replicate"}
    at, inner = next(
        ((n, v) for n, _, v in fields(data) if n in modes and not isinstance(v, int)), (0, memoryview(b""))
    )
    if at not in modes:
        return None
    value = real(inner, 1) or 0.0 if at == 1 else 0.0
    return "pad", {"pad": _tensor(_borders(data, 10, 2)), "mode": [(modes[at],)], "constant_val": _tensor([value])}


def _scale(data: memoryview, name: str) -> Made:
    inputs: Inputs = {"scale": [_weights(message(data, 2), _ints(data, 1), name)]}
    if _flag(data, 3):
        inputs["bias"] = [_weights(message(data, 5), _ints(data, 4), name)]
    return "scale", inputs


def _number(kind: str) -> Callable[[memoryview, str], Made]:
    """Adds or multiplies by a number, where there is one input alone."""

    def made(data: memoryview, _: str) -> Made:
        alpha = real(data, 1)
        return kind, {} if alpha is None else {"y": _tensor([alpha])}

    return made


def _reduce(data: memoryview, _: str) -> Made:
    kind = {1: "reduce_mean", 7: "reduce_max"}.get(number(data, 1))
    return None if kind is None or number(data, 3) != 1 else (kind, {"axes": _tensor([2, 3])})


def _with(kind: str, **ints: int) -> Callable[[memoryview, str], Made]:
    """A layer that takes lists of integers, by the fields they are in."""
    return lambda data, _: (kind, {key: _tensor(_ints(data, n)) for key, n in ints.items()})


READERS: Mapping[int, Callable[[memoryview, str], Made]] = {
    100: _conv,
    120: _pool,
    130: _activation,
    140: _inner_product,
    160: _norm,
    175: lambda data, _: ("softmax", {"axis": _tensor([1])}),
    200: _pad,
    230: _number("add"),
    231: _number("mul"),
    245: _scale,
    250: lambda data, name: ("scale", {"bias": [_weights(message(data, 2), _ints(data, 1), name)]}),
    280: _reduce,
    301: lambda data, _: ("flatten2d", {}) if not number(data, 1) else None,
    320: lambda data, _: ("concat", {"axis": _tensor([1])}),
    600: _with("identity"),
    880: _with("add"),
    900: _with("mul"),
    905: _with("sub"),
    890: _with("real_div"),
    950: lambda data, _: ("softmax", {"axis": _tensor([number(data, 1)])}),
    980: lambda data, _: ("concat", {"axis": _tensor([number(data, 1)])}),
    985: _with("transpose", perm=1),
    1120: _with("squeeze", axes=1),
    1125: _with("expand_dims", axes=1),
    1130: _with("flatten2d"),
    1140: _with("reshape", shape=1),
    1280: _with("reduce_mean", axes=1),
}
"""NeuralNetworkLayer's fields."""
