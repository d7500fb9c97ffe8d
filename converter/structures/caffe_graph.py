"""Caffe networks as they are described (prototxt, or the layers of a ``.caffemodel``), for ``wiring.py`` to judge.

Layers and what they do by default: BVLC/caffe, src/caffe/proto/caffe.proto and src/caffe/layers.  A layer may write
its result over what it takes: values are numbered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.activations import FUNCTIONS, elu, sigmoid
from converter.structures.ops import Compute, Kind, Op, Weight, Window
from converter.structures.parts import Structure
from converter.structures.weights import made, one_number
from converter.structures.whole_pools import whole_pools
from converter.structures.wiring import read_wiring

Message = Mapping[str, Sequence[Any]]
DATA = ("Input", "Data", "ImageData", "MemoryData", "HDF5Data", "DummyData", "Python")
SIDE = ("Accuracy", "Silence")
"""Layers that make nothing others take."""
PLAIN: Mapping[str, Kind] = {
    **dict.fromkeys(("Dropout", "Split"), "skip"),
    **dict.fromkeys(("Flatten", "Reshape"), "flatten"),
    **dict.fromkeys(("Sigmoid", "SigmoidCrossEntropyLoss"), "sigmoid"),
    "SoftmaxWithLoss": "softmax",
    "ArgMax": "end",
}
EPS = 1e-5
"""Of a BatchNorm that does not say (BatchNormParameter.eps)."""


@dataclass(frozen=True)
class Layer:
    """A layer of the test phase, the values it takes, its blobs by number."""

    message: Message
    x: tuple[str, ...]
    blobs: Mapping[int, Weight] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What people call it."""
        return one(self.message, "name")

    @property
    def type(self) -> str:
        """What it does."""
        return one(self.message, "type")

    def op(self, kind: Kind, **more: Any) -> Op:
        """The operator it is."""
        return Op(kind, more.pop("x", self.x), "", f"{self.type} {self.name}", **more)

    def settings(self, name: str) -> Message:
        """Its parameters; they may be absent."""
        found = self.message.get(name, [{}])[0]
        return found if isinstance(found, Mapping) else {}


def one(message: Message, name: str, default: str = "") -> str:
    """A field's first value, as text."""
    value = message.get(name, [default])[0]
    return value if isinstance(value, str) else default


def read_described(checkpoint: Checkpoint, network: Message) -> Structure:
    """The network that layers compute.

    Raises:
        NotADenseNet: another one; names the layer.
    """
    layers = [layer for layer in network.get("layer", []) if isinstance(layer, Mapping) and _tested(layer)]
    current: dict[str, str] = {name: name for name in network.get("input", [])}
    starts, notes, size = list(current), list[str](), _size(network.get("input_dim", []))
    size = size or _dims(network.get("input_shape", []))
    ops, taken = list[Op](), set[str]()
    for i, message in enumerate(layers):
        kind, tops = one(message, "type"), [str(top) for top in message.get("top", [])]
        if kind in SIDE:
            continue
        if kind in DATA:
            current |= {top: top for top in tops}
            starts += tops[:1]
            size = size or _dims([s for p in message.get("input_param", []) for s in p.get("shape", [])])
            size = size or _transformed(Layer(message, ()), notes)
            continue
        bottoms = [str(bottom) for bottom in message.get("bottom", [])]
        if not set(bottoms) <= current.keys():
            raise NotADenseNet(f"{kind} {one(message, 'name')} takes {bottoms}, which no layer before it makes")
        x = tuple(current[bottom] for bottom in bottoms)
        taken.update(x)
        op = _operator(Layer(message, x, _blobs(checkpoint.tree, one(message, "name"))))
        for top in tops:
            current[top] = f"{top} of {one(message, 'name')} ({i})"
            ops.append(replace(op, y=current[top]))
    outputs = [op.y for op in ops if op.y not in taken]
    if len(starts) != 1:
        raise NotADenseNet(f"a network with {len(starts)} inputs; a DenseNet has one, the image")
    if not size:
        ops, said = whole_pools(ops)
        notes += said
    structure = read_wiring(
        "caffe", ops, starts[0], outputs, size=size, constants=checkpoint.tree, head=checkpoint.head
    )
    return replace(structure, notes=(*notes, *structure.notes))


def _tested(layer: Message) -> bool:
    """Whether a layer is there at test time."""

    def phases(rule: str) -> list[str]:
        return [one(each, "phase") for each in layer.get(rule, []) if isinstance(each, Mapping) and "phase" in each]

    include = phases("include")
    return (not include or any(p in ("TEST", "1") for p in include)) and not {"TEST", "1"} & {*phases("exclude")}


def _blobs(tree: Mapping[str, Tensor], name: str) -> dict[int, Weight]:
    keys = {i: f"{name}/{i}" for i in range(8)}
    return {i: Weight(key, tree[key], (key,)) for i, key in keys.items() if key in tree}


def _size(dims: Sequence[Any]) -> tuple[int, ...]:
    found = tuple(int(n) for n in dims[2:])
    return found if all(n > 0 for n in found) else ()


def _dims(shapes: Sequence[Any]) -> tuple[int, ...]:
    return _size(shapes[0].get("dim", [])) if shapes and isinstance(shapes[0], Mapping) else ()


def _transformed(layer: Layer, notes: list[str]) -> tuple[int, ...]:
    """Size of what a data layer gives; a note of how it prepares images: the network takes them prepared."""
    said = layer.settings("transform_param")
    means, scale, file = said.get("mean_value", []), one(said, "scale"), one(said, "mean_file")
    what = [f"minus the mean ({', '.join(map(str, means))})"] * bool(means)
    what += [f"minus the mean image {file}"] * bool(file) + [f"times {scale}"] * (scale not in ("", "1", "1.0"))
    if what:
        notes.append(
            f"{layer.type} {layer.name} gives the network images of 0 to 255 {', '.join(what)}; prepare them so"
        )
    crop = one(said, "crop_size")
    return (int(crop), int(crop)) if crop.isdecimal() and crop != "0" else ()


# -- layers to operators -------------------------------------------------------------------

Reader = Callable[[Layer], Op | None]


def _operator(layer: Layer) -> Op:
    read = READERS.get(layer.type)
    try:
        return (read(layer) if read is not None else None) or layer.op("other")
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise NotADenseNet(f"{layer.type} {layer.name} has parameters that cannot be ({error})") from error


def _axes(said: Message, name: str, default: int) -> tuple[int, ...]:
    """A number for height and width: ``kernel_size``, or ``kernel_h`` and ``kernel_w``."""
    given = [int(n) for n in said.get(name, [])]
    short = name.removesuffix("_size")
    if f"{short}_h" in said or f"{short}_w" in said:
        return tuple(int(one(said, f"{short}_{axis}", str(default))) for axis in "hw")
    return tuple(given if len(given) > 1 else (given or [default]) * 2)


def _window(said: Message, *, ceil: bool = False) -> Window:
    pad, dilations = _axes(said, "pad", 0), _axes(said, "dilation", 1)
    sizes = _axes(said, "kernel_size", 0), _axes(said, "stride", 1)
    return Window(*sizes, pad, pad, dilations, int(one(said, "group", "1")), ceil)


def _weighted(layer: Layer) -> dict[str, Weight]:
    if 0 not in layer.blobs:
        raise NotADenseNet(f"{layer.type} {layer.name} has no weights in the file")
    return {leaf: layer.blobs[i] for i, leaf in enumerate(("weight", "bias")) if i in layer.blobs}


def _conv(layer: Layer) -> Op | None:
    weights, window = _weighted(layer), _window(layer.settings("convolution_param"))
    shape = weights["weight"].tensor.shape
    if len(shape) != 4 or one(layer.settings("convolution_param"), "axis", "1") != "1":
        return None
    if shape[2:] != window.kernel:
        raise NotADenseNet(f"{layer.type} {layer.name}: its weight has shape {list(shape)}")
    return layer.op("conv", weights=weights, window=window)


def _norm(layer: Layer) -> Op:
    """Mean and variance, stored times a factor; scale and shift are the Scale layer's behind it."""
    _weighted(layer)
    missing = [str(i) for i in range(3) if i not in layer.blobs]
    said = layer.settings("batch_norm_param")
    if missing or one(said, "use_global_stats") in ("false", "0", "f"):
        raise NotADenseNet(f"{layer.type} {layer.name} has no mean, variance and factor, or does not use them")
    mean, variance, factor = (layer.blobs[i] for i in range(3))
    width = int(np.prod(mean.tensor.shape))
    weights = {
        "weight": made(np.ones(width), f"{mean.key} (ones)"),
        "bias": made(np.zeros(width), f"{mean.key} (zeros)"),
        "running_mean": replace(mean, tensor=divided(mean.tensor, factor.tensor)),
        "running_var": replace(variance, tensor=divided(variance.tensor, factor.tensor)),
    }
    return layer.op("norm", weights=weights, eps=float(one(said, "eps", str(EPS))))


def divided(sums: Tensor, factor: Tensor) -> Tensor:
    """An average from what Caffe stores (src/caffe/layers/batch_norm_layer.cpp: a factor of 0 gives 0)."""

    def read() -> np.ndarray[Any, Any]:
        by = factor.read().reshape(-1)[:1].astype(np.float64)
        return (sums.read() * np.divide(1, by, out=np.zeros_like(by), where=by != 0)).astype(sums.dtype)

    return Tensor(sums.shape, sums.dtype, read)


def _scale(layer: Layer) -> Op | None:
    said = layer.settings("scale_param" if layer.type == "Scale" else "bias_param")
    if len(layer.x) != 1 or one(said, "axis", "1") != "1" or one(said, "num_axes", "1") != "1":
        return None
    weights = _weighted(layer)
    return layer.op("affine", weights=weights if layer.type == "Scale" else {"bias": weights["weight"]})


def _relu(layer: Layer) -> Op:
    slope = float(one(layer.settings("relu_param"), "negative_slope", "0"))
    return _computed(layer, lambda x: FUNCTIONS["leaky_relu"](x, slope)) if slope else layer.op("relu")


def _prelu(layer: Layer) -> Op | None:
    """Of one slope for all its features it is a leaky ReLU."""
    slope = one_number(layer.blobs[0]) if 0 in layer.blobs else None
    if slope is None:
        return None
    return layer.op("other", compute=lambda x: FUNCTIONS["leaky_relu"](x, slope), weights={"alpha": layer.blobs[0]})


def _elu(layer: Layer) -> Op:
    alpha = float(one(layer.settings("elu_param"), "alpha", "1"))
    return _computed(layer, lambda x: elu(x, alpha))


def _swish(layer: Layer) -> Op:
    beta = float(one(layer.settings("swish_param"), "beta", "1"))
    return _computed(layer, lambda x: x * sigmoid(beta * x))


def _clip(layer: Layer) -> Op:
    low, high = (float(one(layer.settings("clip_param"), name)) for name in ("min", "max"))
    return _computed(layer, lambda x: np.minimum(np.maximum(x, low), high))


def _function(compute: Compute) -> Reader:
    return lambda layer: _computed(layer, compute)


def _computed(layer: Layer, compute: Compute) -> Op:
    return layer.op("other", compute=compute)


def _pool(layer: Layer) -> Op | None:
    said = layer.settings("pooling_param")
    average = one(said, "pool", "MAX") in ("AVE", "1")
    if not average and one(said, "pool", "MAX") not in ("MAX", "0"):
        return None
    if one(said, "global_pooling") in ("true", "t", "1"):
        return layer.op("global_avg" if average else "global_max")
    down = one(said, "ceil_mode") in ("false", "f", "0") or one(said, "round_mode") in ("FLOOR", "1")
    return layer.op("avg_pool" if average else "max_pool", window=_window(said, ceil=not down))


def _concat(layer: Layer) -> Op | None:
    said = layer.settings("concat_param")
    return layer.op("concat") if one(said, "axis", one(said, "concat_dim", "1")) in ("1", "-3") else None


def _linear(layer: Layer) -> Op | None:
    weights, said = _weighted(layer), layer.settings("inner_product_param")
    if len(weights["weight"].tensor.shape) != 2 or one(said, "axis", "1") != "1":
        return None
    if one(said, "transpose") in ("true", "t", "1"):
        return None
    return layer.op("linear", weights=weights)


def _softmax(layer: Layer) -> Op | None:
    return layer.op("softmax") if one(layer.settings("softmax_param"), "axis", "1") in ("1", "-1") else None


def _power(layer: Layer) -> Op | None:
    """(shift + scale * x) ** power."""
    said = layer.settings("power_param")
    power, scale, shift = (float(one(said, name, default)) for name, default in POWER)
    if power != 1:
        return None
    numbers = {"weight": scale, "bias": shift}
    weights = {leaf: made(np.array([value]), f"{layer.name} ({leaf})") for leaf, value in numbers.items()}
    return layer.op("affine", weights=weights)


def _sum(layer: Layer) -> Op | None:
    said = layer.settings("eltwise_param")
    operation = one(said, "operation", "SUM")
    if operation in ("PROD", "0", "MAX", "2"):
        return (
            _computed(layer, np.multiply if operation in ("PROD", "0") else np.maximum) if len(layer.x) == 2 else None
        )
    return layer.op("add") if "coeff" not in said and len(layer.x) == 2 else None


POWER = (("power", "1"), ("scale", "1"), ("shift", "0"))
READERS: Mapping[str, Reader] = {
    **{name: lambda layer: layer.op(PLAIN[layer.type], x=layer.x[:1]) for name in PLAIN},
    "Convolution": _conv,
    "BatchNorm": _norm,
    **dict.fromkeys(("Scale", "Bias"), _scale),
    "ReLU": _relu,
    "PReLU": _prelu,
    "ELU": _elu,
    "Swish": _swish,
    "Clip": _clip,
    "TanH": _function(np.tanh),
    "AbsVal": _function(np.abs),
    "BNLL": _function(lambda x: np.logaddexp(0, x)),
    "Pooling": _pool,
    "Concat": _concat,
    "InnerProduct": _linear,
    "Softmax": _softmax,
    "Power": _power,
    "Eltwise": _sum,
}
"""Layers by type; a reader returns None where one does something a DenseNet does not."""
