"""A Keras model's own description of itself: what it computes, beside the weights.

``model_config`` of a whole model's HDF5, ``config.json`` of a ``.keras``: layers in
order, each with its class, its settings and the layers it takes.  No weight shows a
batch norm's epsilon, the padding or a missing activation; here they are.  Each layer
becomes an operator for ``wiring.py``, with weights of which only the shape is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from converter.core.checkpoint import Array, Checkpoint, Tensor
from converter.core.errors import NotADenseNet, UnreadableFile
from converter.structures.front import Front
from converter.structures.needed import needed, producers
from converter.structures.ops import Kind, Op, Weight, Window
from converter.structures.parts import Stated, Structure
from converter.structures.wiring import read_wiring
from densenet.config import NORM_TENSORS

Layer = Mapping[str, Any]
"""As ``converter/formats/keras/config.py`` describes one."""
Value = tuple[str, ...]
"""A layer's outputs: one, or several of a model's."""

IMAGE = "the image"
MAX_OUTPUTS = 64
MAX_WIDTH = 1 << 20
MODELS = ("Functional", "Model", "Sequential")
SILENT = (
    *("InputLayer", "Dropout", "SpatialDropout2D", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    *("ActivityRegularization", "Scale"),
)
"""Layers that change nothing at inference, as do all called ``Random...``; and flyyufelix' Scale, part of its norm."""
ACTIVATIONS: Mapping[str, Kind] = {"relu": "relu", "linear": "skip", "None": "skip", "softmax": "end", "sigmoid": "end"}


def stated_by_keras(checkpoint: Checkpoint) -> Stated:
    """What a Keras model's own description says; nothing where there is none.

    Raises:
        NotADenseNet: its layers or their wiring are not a DenseNet's.
        UnreadableFile: it is no description of a model.
    """
    where = checkpoint.path
    try:
        return _stated(checkpoint.graph) if checkpoint.graph is not None else Stated()
    except NotADenseNet as error:
        raise NotADenseNet(f"{where}: {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError, RecursionError) as error:
        raise UnreadableFile(f"{where}: its model config cannot be understood ({type(error).__name__})") from error


def _stated(model: Layer) -> Stated:
    network = _Network()
    outputs = network.run(model, (IMAGE,), "")
    if len(network.places) != 1:
        raise NotADenseNet(f"its model has batch norms in {len(network.places)} places; a DenseNet in one")
    heads = [output for output in outputs[:MAX_OUTPUTS] if _norms(network.needed(output)) == _norms(network.ops)]
    settings: dict[str, Any] = {}
    notes, front = list[str](), Front()
    for output in heads or [network.ops[-1].y]:
        structure = _judged(network, output)
        for name, value in structure.settings.items():
            if settings.setdefault(name, value) != value:
                raise NotADenseNet(f"{output}: {name} is {value} there, {settings[name]} for another result")
        notes += [note for note in structure.notes if note not in notes]
        front = structure.front
    return Stated(settings, tuple(notes), front)


def _judged(network: _Network, output: str) -> Structure:
    """What the wiring says of one result; other results (of other heads, of parts of the network) are left out."""
    structure = read_wiring("keras", network.ops, IMAGE, [output], size=network.size())
    known = {weight.key for op in network.ops for weight in op.weights.values()}
    for key in (part.keys["weight"] for part in structure.parts):
        if key not in known:  # weights are taken by their names, and as they are
            layer = key.partition(" (")[0]
            raise NotADenseNet(f"{layer}: takes feature maps in another order than a DenseNet's, or lacks a batch norm")
    eps = next(part.eps for part in structure.parts if part.kind == "norm")
    return replace(structure, settings={**structure.settings, "eps": eps})


def _norms(ops: list[Op]) -> int:
    return sum(op.kind == "norm" for op in ops)


class _Network:
    """The operators of a model and of those nested in it, in order."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.places: set[str] = set()
        self.widths: dict[str, int] = {}
        self.shape: Sequence[int | None] = ()
        self.channels_first = False

    def size(self) -> tuple[int, ...]:
        """Height and width of the image, where they are fixed."""
        size = self.shape[2:4] if self.channels_first else self.shape[1:3]
        return tuple(n for n in size if n is not None) if None not in size else ()

    def needed(self, output: str) -> list[Op]:
        """The operators that a result depends on."""
        return needed(producers(self.ops, IMAGE), output)

    def run(self, model: Layer, given: Value, place: str) -> Value:
        """What a model makes of values; a Sequential does not say which layers take which."""
        layers = model["layers"]
        if len(given) != 1 or sum(layer["class"] == "InputLayer" for layer in layers) > 1:
            raise NotADenseNet(f"{place or 'its model'} has several inputs; a DenseNet has one, the image")
        chained = not any(call for layer in layers for call in layer["calls"])
        made: dict[str, Value] = {}
        last: Value = given
        for layer in layers:
            name, calls = place + layer["name"], layer["calls"]
            if layer["class"] == "InputLayer":
                last = given
            elif not chained and len(calls) != 1:
                raise NotADenseNet(f"{name} is used {len(calls)} times; a DenseNet has each of its layers once")
            elif not chained:
                last = tuple(made[source][i] for source, i in calls[0])
            if layer["class"] == "BatchNormalization":
                self.places.add(place)
            made[layer["name"]] = last = self.layer(layer, last, name)
        return tuple(made[source][i] for source, i in model["outputs"]) or last

    def layer(self, layer: Layer, x: Value, name: str) -> Value:
        """What a layer makes of values."""
        kind, settings = layer["class"], layer["settings"]
        shape = settings.get("batch_input_shape") or settings.get("batch_shape")
        if shape is not None and not self.ops:
            self.shape = shape
        if "data_format" in settings:
            self.channels_first = settings["data_format"] == "channels_first"
        if kind in MODELS:
            return self.run(layer, x, f"{name}/")
        if kind == "RandomCrop":
            self.shape = ()
        if kind in SILENT or kind.startswith("Random"):
            return x
        if kind not in READERS:
            raise NotADenseNet(f"{name} is a {kind} layer, which a DenseNet does not have")
        width = sum(self.widths.get(value, 0) for value in x)
        op = replace(READERS[kind](settings, name, width), x=x, name=f"{name} ({kind})")
        axes = (1, [1]) if self.channels_first else (-1, 3, [-1], [3])
        if op.kind in ("norm", "concat") and settings.get("axis", -1) not in axes:
            op = replace(op, kind="other")
        self.widths[name] = op.weights["weight"].tensor.shape[0] if op.weights else width
        then = ACTIVATIONS.get(str(settings.get("activation")), "other")
        if then != "skip":
            inner = f"{name} before its activation"
            self.ops.append(replace(op, y=inner))
            op = Op(then, (inner,), name, op.name)
        self.ops.append(op)
        return (name,)


# -- layers to operators -----------------------------------------------------------------

Reader = Callable[[Mapping[str, Any], str, int], Op]


def _unread(name: str, *shape: int) -> Weight:
    """A weight of which a config says no more than the shape."""

    def read() -> Array:
        raise NotADenseNet(f"{name}: what it computes depends on its weights, which a DenseNet's does not")

    if not all(0 <= n <= MAX_WIDTH for n in shape):
        raise NotADenseNet(f"{name} has sizes that no layer has")
    return Weight(name, Tensor(shape, np.dtype(np.float32), read))


def _plain(kind: Kind) -> Reader:
    return lambda settings, name, width: Op(kind, (), name, name)


def _window(settings: Mapping[str, Any], size: str) -> Window:
    kernel = tuple(settings[size])
    strides, none = tuple(settings.get("strides") or kernel), (0,) * len(kernel)
    dilations, groups = tuple(settings.get("dilation_rate", ())), settings.get("groups", 1)
    return Window(kernel, strides, none, none, dilations, groups, same=settings.get("padding") == "same")


def _conv(settings: Mapping[str, Any], name: str, width: int) -> Op:
    window = _window(settings, "kernel_size")
    weight = _unread(name, settings["filters"], width, *window.kernel)
    return Op("conv", (), name, name, {"weight": weight}, window)  # a bias would make no difference


def _norm(settings: Mapping[str, Any], name: str, width: int) -> Op:
    if not (settings.get("center", True) and settings.get("scale", True)):
        raise NotADenseNet(f"{name} lacks its scale or its offset")
    return Op(
        "norm", (), name, name, {leaf: _unread(name, width) for leaf in NORM_TENSORS}, eps=float(settings["epsilon"])
    )


def _dense(settings: Mapping[str, Any], name: str, width: int) -> Op:
    units = settings["units"]
    return Op("linear", (), name, name, {"weight": _unread(name, units, width), "bias": _unread(name, units)})


def _pool(kind: Kind) -> Reader:
    return lambda settings, name, width: Op(kind, (), name, name, window=_window(settings, "pool_size"))


def _pad(settings: Mapping[str, Any], name: str, width: int) -> Op:
    (top, bottom), (left, right) = settings["padding"]
    return Op("pad", (), name, name, window=Window((), (), (top, left), (bottom, right)))


def _relu(settings: Mapping[str, Any], name: str, width: int) -> Op:
    plain = not any(settings.get(key) for key in ("max_value", "negative_slope", "threshold"))
    return Op("relu" if plain else "other", (), name, name)


READERS: Mapping[str, Reader] = {
    "Conv2D": _conv,
    "BatchNormalization": _norm,
    "Activation": _plain("skip"),
    "ReLU": _relu,
    "Softmax": _plain("end"),
    "ZeroPadding2D": _pad,
    "MaxPooling2D": _pool("max_pool"),
    "AveragePooling2D": _pool("avg_pool"),
    "GlobalAveragePooling2D": _plain("global_avg"),
    "GlobalMaxPooling2D": _plain("global_max"),
    "Concatenate": _plain("concat"),
    "Flatten": _plain("flatten"),
    "Dense": _dense,
}
"""Layers by class, without the activation that is part of some."""
