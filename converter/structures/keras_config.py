"""A Keras model's own description of itself: what it computes, beside the weights.

``model_config`` of a whole model's HDF5, ``config.json`` of a ``.keras``: layers in
order, each with its class, its settings and the layers it takes (``inbound_nodes``).
No weight shows a batch norm's epsilon, the padding or a missing activation; here they
are.  A network that only has a DenseNet's weights, not its wiring, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from converter.core.checkpoint import Checkpoint
from converter.core.errors import NotADenseNet, UnreadableFile
from converter.formats.keras.config import layer_dicts

SILENT = frozenset(
    """InputLayer Dropout SpatialDropout2D AlphaDropout GaussianDropout GaussianNoise ActivityRegularization
    Scale""".split()
)
"""Layers that change nothing at inference, as do all called ``Random...``; and flyyufelix' Scale, part of its norm."""
KNOWN = SILENT | frozenset(
    """Conv2D BatchNormalization Dense ZeroPadding2D Activation ReLU Softmax Concatenate Flatten MaxPooling2D
    AveragePooling2D GlobalAveragePooling2D GlobalMaxPooling2D Functional Model Sequential""".split()
)
OUTPUTS = ("linear", "softmax", "sigmoid", None)
"""What may follow the classifier: not part of the logits."""


@dataclass(eq=False)
class _Layer:
    """One layer, and its neighbours: what it takes and who takes what it makes."""

    kind: str
    name: str
    config: Mapping[str, Any]
    takes: list[str]
    inputs: list[_Layer] = field(default_factory=list)
    outputs: list[_Layer] = field(default_factory=list)

    def get(self, name: str, default: Any = None) -> Any:
        """A setting; lists as tuples."""
        return _tuples(self.config.get(name, default))

    @property
    def silent(self) -> bool:
        return self.kind in SILENT or self.kind.startswith("Random")

    @property
    def relu(self) -> bool:
        if self.kind == "ReLU":
            return not any(self.config.get(key) for key in ("max_value", "negative_slope", "threshold"))
        return self.kind == "Activation" and self.config.get("activation") == "relu"


def settings_of_keras(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a Keras model's own description says: config fields that no tensor shows; nothing where there is none.

    Raises:
        NotADenseNet: its layers or their wiring are not a DenseNet's.
        UnreadableFile: it is no description of a model.
    """
    where, config = checkpoint.path, checkpoint.graph
    if config is None:
        return {}
    try:
        return _settings(config)
    except NotADenseNet as error:
        raise NotADenseNet(f"{where}: {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        raise UnreadableFile(f"{where}: its model config cannot be understood ({type(error).__name__})") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _names(node: Any) -> Iterator[str]:
    """Every ``[layer, node, tensor, ...]`` in an inbound node: the same in Keras 2 and 3, nested otherwise."""
    if isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int) and isinstance(node[2], int):
            yield node[0]
        else:
            for item in node:
                yield from _names(item)
    elif isinstance(node, dict):
        for item in node.values():
            yield from _names(item)


def _models(model: Any) -> Iterator[list[_Layer]]:
    """The layers of a model, connected, then those of each model nested in it."""
    layers = []
    for layer in layer_dicts(model):
        inner = layer.get("config")
        values = inner if isinstance(inner, dict) else {}
        name = str(layer.get("name") or values.get("name"))
        layers.append(_Layer(layer["class_name"], name, values, list(_names(layer.get("inbound_nodes")))))
    yield _connected(layers)
    for layer in layer_dicts(model):
        yield from _models(layer) if layer_dicts(layer) else ()


def _connected(layers: list[_Layer]) -> list[_Layer]:
    """The layers that do something, each knowing its neighbours among them."""
    if not any(layer.takes for layer in layers):  # a Sequential does not say
        for before, layer in pairwise(layers):
            layer.takes.append(before.name)
    makers: dict[str, _Layer] = {}
    for layer in layers:
        layer.inputs = [makers[name] for name in layer.takes]
        makers[layer.name] = layer.inputs[0] if layer.silent and layer.inputs else layer
        if not layer.silent:
            for before in layer.inputs:
                before.outputs.append(layer)
    return [layer for layer in layers if not layer.silent]


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    models = list(_models(config))
    layers = [layer for model in models for layer in model]
    strange = sorted({layer.kind for layer in layers} - KNOWN)
    if strange:
        raise NotADenseNet(f"its model has {', '.join(strange)} layers, which a DenseNet does not have")
    networks = [model for model in models if any(layer.kind == "BatchNormalization" for layer in model)]
    if len(networks) != 1:
        raise NotADenseNet(f"its model has batch norms in {len(networks)} places; a DenseNet in one")
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in CHECKS.get(layer.kind, _nothing)(layer).items():
            if result.setdefault(name, value) != value:
                raise NotADenseNet(f"{layer.name} has {name} {value}, another layer {result[name]}")
    return {**result, **_relus(networks[0])}


def _nothing(_layer: _Layer) -> dict[str, Any]:
    return {}


def _conv(layer: _Layer) -> dict[str, Any]:
    size, strides = layer.get("kernel_size"), layer.get("strides", (1, 1))
    padding = _padding(layer, size[0])
    plain = layer.get("dilation_rate", (1, 1)) == (1, 1) and layer.get("groups", 1) == 1
    stem = size[0] > 3 and strides == (2, 2)
    if not plain or not padding or not (stem or strides == (1, 1)) or layer.get("activation", "linear") != "linear":
        raise NotADenseNet(f"{layer.name} is a convolution as a DenseNet does not have it")
    return {"padding": padding} if stem else {}


def _max_pool(layer: _Layer) -> dict[str, Any]:
    padding = _padding(layer, 3)
    if layer.get("pool_size") != (3, 3) or layer.get("strides") != (2, 2) or not padding:
        raise NotADenseNet(f"{layer.name} is a pooling as a DenseNet does not have it")
    return {"padding": padding}


def _average_pool(layer: _Layer) -> dict[str, Any]:
    if any(after.kind == "Flatten" for after in layer.outputs):
        return {"global_pool": "avg"}  # over all that is left, at the size the model was built for
    if layer.get("pool_size") != (2, 2) or layer.get("strides") != (2, 2):
        raise NotADenseNet(f"{layer.name} is a pooling as a DenseNet does not have it")
    return {"transition_ceil": layer.get("padding") == "same"}


def _padding(layer: _Layer, size: int) -> str | None:
    """``same`` as TensorFlow means it, ``symmetric`` by a layer of its own, None for anything else."""
    padded = [before for before in layer.inputs if before.kind == "ZeroPadding2D"]
    if not padded:
        return "same" if layer.get("padding") == "same" else "symmetric" if size == 1 else None
    half = (size // 2, size // 2)
    return "symmetric" if layer.get("padding") == "valid" and padded[0].get("padding") == (half, half) else None


def _norm(layer: _Layer) -> dict[str, Any]:
    if not (layer.get("center", True) and layer.get("scale", True)):
        raise NotADenseNet(f"{layer.name} lacks its scale or its offset")
    return {"eps": float(layer.get("epsilon"))}


def _concatenate(layer: _Layer) -> dict[str, Any]:
    old, *new = layer.inputs
    if any(x.kind != "Conv2D" for x in new) or not any(x.kind == "BatchNormalization" for x in old.outputs):
        raise NotADenseNet(f"{layer.name} does not put new feature maps behind the old ones")
    return {}


def _activation(layer: _Layer) -> dict[str, Any]:
    if not layer.relu and layer.get("activation", "softmax") not in OUTPUTS:
        raise NotADenseNet(f"{layer.name} computes {layer.get('activation')}, which a DenseNet does not there")
    return {}


CHECKS = {
    "Conv2D": _conv,
    "MaxPooling2D": _max_pool,
    "AveragePooling2D": _average_pool,
    "GlobalAveragePooling2D": lambda _: {"global_pool": "avg"},
    "GlobalMaxPooling2D": lambda _: {"global_pool": "max"},
    "BatchNormalization": _norm,
    "Concatenate": _concatenate,
    "Activation": _activation,
    "ReLU": _activation,
    "Dense": _activation,
}
"""Per class of layer: refuse what a DenseNet has not, and return the config fields it settles."""


def _relus(network: list[_Layer]) -> dict[str, Any]:
    """Which norms no ReLU follows: the last (Keras 2.1.3 to 2.1.6), all of the transitions', or none."""
    norms = [layer for layer in network if layer.kind == "BatchNormalization"]
    mute = [norm for norm in norms if not (norm.outputs and all(after.relu for after in norm.outputs))]
    pools = sum(layer.kind == "AveragePooling2D" for layer in network)
    between = [norm for norm in mute if norm is not norms[-1]]
    into_pool = [n for n in between if any(p.kind == "AveragePooling2D" for c in n.outputs for p in c.outputs)]
    if len(into_pool) != len(between) or len(between) not in (0, pools):
        raise NotADenseNet(f"no relu follows {between[0].name}")
    return {"final_relu": norms[-1] not in mute, "transition_relu": not between}
