"""A Keras model's own description of itself: what it computes, beside the weights.

``model_config`` of a whole model's HDF5, ``config.json`` of a ``.keras``: layers in
order, each with its class, its settings and the layers it takes.  No weight shows a
batch norm's epsilon, the padding or a missing activation; here they are.  Each layer
becomes an operator for ``wiring.py``.

Where every weight is a part of the network as it is, under names that a layout knows, the
weights are taken by those names, and the description states the rest.  Where something is
folded (a norm before the classifier), or the names are the author's own, they are taken from
the layers that the description names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from converter.core.checkpoint import Checkpoint
from converter.core.errors import NotADenseNet, UnreadableFile
from converter.structures.keras_activations import activated
from converter.structures.keras_hub import expanded, preprocessing_note
from converter.structures.keras_layers import READERS, Place, Table, size_after
from converter.structures.keras_numbered import NAMED, keras_table
from converter.structures.keras_operations import NAMES, operation
from converter.structures.ops import END, Op
from converter.structures.parts import Structure
from converter.structures.stated import Stated
from converter.structures.wiring import read_wiring

Layer = Mapping[str, Any]
"""As ``converter/formats/keras/config.py`` describes one."""
Value = tuple[str, ...]
"""A layer's outputs: one, or several of a model's."""

IMAGE = "the image"
MODELS = ("Functional", "Model", "Sequential")
SILENT = (
    *("InputLayer", "Dropout", "SpatialDropout2D", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    *("ActivityRegularization", "Scale"),
)
"""Layers that change nothing at inference, as do all called ``Random...``; and flyyufelix' Scale, part of its norm."""
OPERATIONS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")


def read_keras_config(checkpoint: Checkpoint) -> Structure | None:
    """The network of a Keras model whose weights are not taken by their names; None for any other.

    Raises:
        NotADenseNet: its layers or their wiring are not a DenseNet's.
        UnreadableFile: it is no description of a model.
    """
    found = _read(checkpoint) if _is_described(checkpoint) else None
    return found.structure if found is not None and not found.by_names else None


def stated_by_keras(checkpoint: Checkpoint) -> Stated:
    """What a Keras model's own description says of weights that are taken by their names.

    Raises:
        NotADenseNet: its layers or their wiring are not a DenseNet's.
        UnreadableFile: it is no description of a model.
    """
    found = _read(checkpoint) if _is_described(checkpoint) else None
    if found is None or not found.by_names:
        return Stated()
    structure = found.structure
    eps = next(part.eps for part in structure.parts if part.kind == "norm")
    return Stated({**structure.settings, "eps": eps}, structure.notes, structure.front, structure.activation)


def _is_described(checkpoint: Checkpoint) -> bool:
    return checkpoint.graph is not None and checkpoint.format.startswith("Keras")


@dataclass(frozen=True)
class _Found:
    structure: Structure
    by_names: bool


def _read(checkpoint: Checkpoint) -> _Found:
    where = checkpoint.path
    try:
        version = checkpoint.metadata.get("keras_version", "")
        return _followed(checkpoint.graph, Table(keras_table(checkpoint) or {}), version, checkpoint.head)
    except NotADenseNet as error:
        raise NotADenseNet(f"{where}: {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError, RecursionError) as error:
        raise UnreadableFile(f"{where}: its model config cannot be understood ({type(error).__name__})") from error


def _followed(model: Layer, table: Table, version: str, head: str) -> _Found:
    network = _Network(table, version)
    outputs = network.run(expanded(model), (IMAGE,), "")
    structure = read_wiring("keras-config", network.ops, IMAGE, outputs, size=network.size(), head=head)
    known = {weight.key for op in network.ops for weight in op.weights.values()}
    keys = {key for part in structure.parts for key in part.keys.values()}
    folded = sorted(keys - known)
    idle = {key: "a layer that the result does not depend on" for key in table.tensors if key not in network.used()}
    usual = any(map(NAMED.search, table.tensors)) or network.scaled or not table.tensors
    eps = {part.eps for part in structure.parts if part.eps is not None}
    plain = usual and not folded and not structure.settings.get("head") and len(eps) < 2
    by_names = table.unread or (plain and keys == set(table.tensors))
    if table.unread and len(eps) > 1:  # weights are taken by their names, and as they are
        raise NotADenseNet(f"its batch norms have different eps: {', '.join(map(str, sorted(eps)))}")
    if table.unread and folded:
        layer = folded[0].partition(" (")[0]
        raise NotADenseNet(f"{layer}: takes feature maps in another order than a DenseNet's, or lacks a batch norm")
    notes = (*structure.notes, *preprocessing_note(model))
    return _Found(replace(structure, dropped={**structure.dropped, **idle}, notes=notes), by_names)


class _Network:
    """The operators of a model and of those nested in it, in order."""

    def __init__(self, table: Table, version: str) -> None:
        self.table, self.version = table, version
        self.ops: list[Op] = []
        self.widths: dict[str, int] = {}
        self.sizes: dict[str, tuple[int, ...]] = {}
        self.shape: Sequence[int | None] = ()
        self.channels_first = False
        self.vectors: set[str] = set()
        self.scaled = False

    def size(self) -> tuple[int, ...]:
        """Height and width of the image, where they are fixed."""
        size = self.shape[2:4] if self.channels_first else self.shape[1:3]
        return tuple(n for n in size if n is not None) if None not in size else ()

    def used(self) -> set[str]:
        """Keys of the weights that operators have."""
        return {source for op in self.ops for weight in op.weights.values() for source in weight.sources}

    def run(self, model: Layer, given: Value, place: str) -> Value:
        """What a model makes of values; a Sequential does not say which layers take which."""
        layers = model["layers"]
        if len(given) != 1 or sum(layer["class"] == "InputLayer" for layer in layers) > 1:
            raise NotADenseNet(f"{place or 'its model'} has several inputs; a DenseNet has one, the image")
        if not layers:
            raise NotADenseNet(f"{place or 'its model'} is a {model['class']}, whose layers its config does not list")
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
            made[layer["name"]] = last = self.layer(layer, last, place)
        return tuple(made[source][i] for source, i in model["outputs"]) or last

    def layer(self, layer: Layer, x: Value, model: str) -> Value:
        """What a layer makes of values."""
        kind, settings, name = layer["class"], layer["settings"], model + layer["name"]
        shape = settings.get("batch_input_shape") or settings.get("batch_shape")
        if shape is not None and not self.ops:
            self.shape = shape
        if "data_format" in settings and kind != "Flatten":
            self.channels_first = settings["data_format"] == "channels_first"
        inner = expanded(layer)
        if kind in MODELS or inner is not layer:
            return self.run(inner, x, f"{name}/")
        if kind == "RandomCrop":
            self.shape = ()
        self.scaled |= kind == "Scale"
        if kind in SILENT or kind.startswith("Random"):
            return x
        axis = -3 if self.channels_first else -1
        width = self._channels() if x == (IMAGE,) else sum(self.widths.get(value, 0) for value in x)
        if kind == "Flatten" and not self.vectors.issuperset(x):
            width *= prod(self.sizes.get(x[0], (0,)))
        if kind in OPERATIONS or (kind in NAMES and (kind not in READERS or len(x) == 1)):
            return self._append(operation(layer, name, axis), x, name, self.widths.get(x[0], 0) if x else 0)
        if kind not in READERS:
            raise NotADenseNet(f"{name} is a {kind} layer, which a DenseNet does not have")
        size = self.sizes.get(x[0], ()) if self.ops else self.size()
        op = READERS[kind](settings, Place(self.table, model, layer["name"], width, size, axis, self.version))
        op = replace(op, x=x, name=f"{name} ({kind})")
        axes = (1, [1]) if self.channels_first else (-1, 3, [-1], [3])
        if self.vectors.issuperset(x):
            axes = (-1, 1, [-1], [1])
        if op.kind in ("norm", "concat") and settings.get("axis", -1) not in axes:
            op = replace(op, kind="other")
        before = f"{name} before its activation"
        then = activated(Op("other", (before,), name, op.name), settings.get("activation"), self.version)
        if then.kind == "skip" or kind == "Activation":
            return self._append([op], x, name, width)
        if then.kind in END:
            then = replace(then, name=f"{settings['activation']} of {op.name}")
        return self._append([replace(op, y=before), then], x, name, width)

    def _channels(self) -> int:
        """Of the image."""
        return int(self.shape[1 if self.channels_first else -1] or 0) if len(self.shape) > 1 else 0

    def _append(self, ops: Sequence[Op], x: Value, name: str, width: int) -> Value:
        """Operators of one layer, the first of which takes its values."""
        for each in ops:
            op = replace(each, x=each.x or x)
            size = (self.sizes.get(op.x[0]) or ()) if op.x[0] != IMAGE else self.size()
            self.sizes[op.y] = size_after(op, size)
            if op.kind in ("global_avg", "global_max", "flatten", "linear") or self.vectors.issuperset(op.x):
                self.vectors.add(op.y)
            self.ops.append(op)
        kinds = [op.weights["weight"].tensor.shape[0] for op in ops if op.kind in ("conv", "linear")]
        self.widths[name] = kinds[-1] if kinds else width
        return (name,)
