"""KerasHub's DenseNets: their config says how many layers there are, not which.

keras_hub/src/models/densenet/densenet_backbone.py and image_classifier.py build the layers from
``stackwise_num_repeats``, ``compression_ratio`` and ``growth_rate``; here the same layers are
written out as a functional model's config has them.  Padding is ``same``, eps 1.001e-5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converter.core import bounds
from converter.core.errors import NotADenseNet

Layer = Mapping[str, Any]

BACKBONE, CLASSIFIER = "DenseNetBackbone", "DenseNetImageClassifier"
EPS = 1.001e-5
STEM_WIDTH, BOTTLENECK = 64, 4
KNOWN = {"name", "trainable", "dtype", "stackwise_num_repeats", "compression_ratio", "growth_rate", "image_shape"}
"""The backbone's settings; with others (KerasCV's rescaling) it is another."""


def expanded(model: Layer) -> Layer:
    """A KerasHub DenseNet as a model of plain layers; anything else as it is.

    Raises:
        NotADenseNet: it has settings that are not known here.
    """
    if model["class"] == BACKBONE and not model["layers"]:
        return _backbone(model)
    if model["class"] == CLASSIFIER and not model["layers"]:
        return _classifier(model)
    return model


def preprocessing_note(model: Layer) -> list[str]:
    """What to say of the preprocessor that a classifier may have beside its network."""
    given = model["class"] == CLASSIFIER and model["settings"].get("preprocessor")
    return ["its preprocessor (what predict() does to images) is not part of the network"] if given else []


def _classifier(model: Layer) -> Layer:
    settings = model["settings"]
    backbone, given = settings["backbone"]["class_name"], settings["backbone"]["config"]
    pooling = {"avg": "GlobalAveragePooling2D", "max": "GlobalMaxPooling2D"}[settings.get("pooling", "avg")]
    chain = _Chain(given["image_shape"])
    chain.take(_layer(backbone, given["name"], [[(chain.last, 0)]], given))
    chain.add(pooling, "pooler")
    chain.add("Dense", "predictions", units=settings["num_classes"], activation=settings.get("activation"))
    return {**model, "layers": chain.layers, "outputs": [(chain.last, 0)]}


def _backbone(model: Layer) -> Layer:
    settings = model["settings"]
    strange = sorted(set(settings) - KNOWN)
    if strange:
        raise NotADenseNet(f"{model['name']}: a {BACKBONE} with {', '.join(strange)}, which is not known here")
    repeats, growth = settings["stackwise_num_repeats"], settings["growth_rate"]
    if not 0 < sum(repeats) <= bounds.KERAS_LAYERS:
        raise NotADenseNet(f"{model['name']}: {sum(repeats)} layers; no DenseNet has so many")
    chain = _Chain(settings["image_shape"])
    chain.conv("conv1_conv", STEM_WIDTH, 7, strides=[2, 2], padding="same")
    chain.norm("conv1")
    chain.add("MaxPooling2D", "pool1", pool_size=[3, 3], strides=[2, 2], padding="same")
    width = STEM_WIDTH
    for i, count in enumerate(repeats, 1):
        for j in range(1, count + 1):
            before, name = chain.last, f"stack{i}_block{j}"
            chain.norm(f"{name}_1")
            chain.conv(f"{name}_1_conv", BOTTLENECK * growth, 1)
            chain.norm(f"{name}_2")
            chain.conv(f"{name}_2_conv", growth, 3, padding="same")
            chain.add("Concatenate", f"{name}_concat", before, axis=-1)
            width += growth
        if i < len(repeats):
            width = int(width * settings["compression_ratio"])
            chain.norm(f"transition{i}")
            chain.conv(f"transition{i}_conv", width, 1)
            chain.add("AveragePooling2D", f"transition{i}_pool", pool_size=[2, 2], strides=[2, 2])
    chain.norm("")
    return {**model, "layers": chain.layers, "outputs": [(chain.last, 0)]}


class _Chain:
    """Layers, each taking the one before."""

    def __init__(self, image: Any) -> None:
        self.layers: list[Layer] = []
        self.last = "image"
        shape = [None, *image] if image else None
        self.layers.append(_layer("InputLayer", "image", [], {"batch_shape": shape}))

    def add(self, kind: str, name: str, *before: str, **settings: Any) -> None:
        """One more, which may take others too, before the last."""
        self.take(_layer(kind, name, [[(each, 0) for each in (*before, self.last)]], settings))

    def take(self, layer: Layer) -> None:
        """One more, as it is."""
        self.layers.append(layer)
        self.last = layer["name"]

    def conv(self, name: str, filters: int, size: int, **settings: Any) -> None:
        """A convolution without bias."""
        given = {"kernel_size": [size, size], "strides": [1, 1], "use_bias": False, **settings}
        self.add("Conv2D", name, filters=filters, **given)

    def norm(self, name: str) -> None:
        """A norm and ReLU."""
        self.add("BatchNormalization", f"{name}_bn".lstrip("_"), epsilon=EPS)
        self.add("Activation", f"{name}_relu".lstrip("_"), activation="relu")


def _layer(kind: str, name: str, calls: list[list[tuple[str, int]]], settings: Mapping[str, Any]) -> Layer:
    return {
        "class": kind,
        "name": name,
        "settings": settings,
        "calls": calls,
        "call": None,
        "layers": [],
        "outputs": [],
    }
