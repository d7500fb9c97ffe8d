"""Surgery on keras.applications' DenseNet: edits of its config, layers around it."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tools.surgery.record import Surgery

KERAS = ("keras",)
Config = dict[str, Any]
Shape = tuple[int, ...]
Frame = Callable[[Any, "KerasPatient", Shape], Any]
"""Makes a network of another, the patient and the shape of its images."""


@dataclass
class KerasPatient:
    """A Keras network on the table.

    Attributes:
        rng: the surgeries' choices.
        arguments: what it is built with.
        edits: changes of its layers' configs: each is called with a layer's dict.
        frames: what is put around the built network, from the inside out, and what each makes of height and width.
        channels, size, classes: of the images and of the classifier.
        model: the network, when it is built.
    """

    rng: random.Random
    size: tuple[int, int]
    classes: int
    framework: str = "keras"
    arguments: dict[str, Any] = field(default_factory=dict)
    edits: list[Callable[[Config], None]] = field(default_factory=list)
    frames: list[tuple[Frame, Callable[[int], int]]] = field(default_factory=list)
    channels: int = 3
    model: Any = None

    def images(self, count: int, seed: int) -> np.ndarray:
        """Random images, (N, H, W, C) float32, some values outside [0, 1]."""
        rng = np.random.default_rng(seed)
        coarse = rng.normal(size=(count, 9, 9, self.channels)).repeat(9, 1).repeat(9, 2)
        fine = rng.normal(size=(count, *self.size, self.channels))
        return (0.5 + 0.6 * coarse[:, : self.size[0], : self.size[1]] + 0.3 * fine).astype(np.float32)


def framework() -> Any:
    """Keras, on TensorFlow where it is installed."""
    if "KERAS_BACKEND" not in os.environ:
        from importlib.util import find_spec

        os.environ["KERAS_BACKEND"] = "tensorflow" if find_spec("tensorflow") else "torch"
    import keras

    return keras


def admit_keras(rng: random.Random) -> KerasPatient:
    """A small network of keras.applications' function; its growth rate of 32 is fixed there."""
    return KerasPatient(rng, rng.choice(((64, 64), (70, 77), (66, 72))), rng.choice((4, 5, 7)))


def build(p: KerasPatient) -> None:
    """The network with its surgery, and weights that make all of it matter."""
    keras = framework()
    from keras.src.applications.densenet import DenseNet

    keras.utils.set_random_seed(p.rng.randrange(1 << 30))
    keras.backend.clear_session()
    arguments = {"classifier_activation": None, "classes": p.classes, "include_top": True, **p.arguments}
    p.channels = arguments.pop("channels", 3)
    shapes: list[Shape] = [(*p.size, p.channels)]
    for _, inner in reversed(p.frames):
        height, width, _ = shapes[0]
        shapes.insert(0, (inner(height), inner(width), p.channels))
    # Four blocks: what follows them is called after the last of four.
    net = DenseNet([1, 2, 1, 1], weights=None, input_shape=shapes[0], **arguments)
    if p.edits:
        config = net.get_config()
        for layer in config["layers"]:
            for edit in p.edits:
                edit(layer)
        net = type(net).from_config(config)
    for (frame, _), shape in zip(p.frames, shapes[1:]):
        net = frame(net, p, shape)
    rng = np.random.default_rng(p.rng.randrange(1 << 30))
    for weight in net.weights:
        name, value = weight.path.rpartition("/")[2], np.array(weight)
        if name == "gamma":
            weight.assign(rng.uniform(0.5, 1.6, value.shape))
        elif name in ("beta", "bias"):
            weight.assign(rng.normal(0.1, 0.3, value.shape))
        elif name == "moving_mean":
            weight.assign(rng.normal(0, 0.3, value.shape))
        elif name in {"moving_variance", "variance"}:
            weight.assign(rng.uniform(0.3, 1.5, value.shape))
        elif value.dtype.kind == "f" and value.ndim > 1:
            weight.assign(rng.normal(0, (1.6 / max(1, np.prod(value.shape[:-1]))) ** 0.5, value.shape))
    net(p.images(1, 3))
    p.model = net


def answer_keras(p: KerasPatient) -> list[np.ndarray]:
    """Its own outputs on two images."""
    out = p.model(p.images(2, 2), training=False)
    return [np.array(value) for value in (out if isinstance(out, tuple | list) else (out,))]


# -- operations ------------------------------------------------------------------------------------


def given(**arguments: Any) -> Callable[[KerasPatient], None]:
    """Built with other arguments."""
    return lambda p: p.arguments.update(arguments)


def edit(kind: str, name: str = "", **changes: Any) -> Callable[[KerasPatient], None]:
    """Layers of a class (and of names that match) with other settings."""

    def change(layer: Config) -> None:
        if layer["class_name"] == kind and re.search(name, layer["config"]["name"]):
            layer["config"].update(changes)

    return lambda p: p.edits.append(change)


def swap(kind: str, other: str, name: str = "", **config: Any) -> Callable[[KerasPatient], None]:
    """Layers of a class become another's."""

    def change(layer: Config) -> None:
        if layer["class_name"] == kind and re.search(name, layer["config"]["name"]):
            layer["class_name"] = other
            layer["config"] = {"name": layer["config"]["name"], **config}

    return lambda p: p.edits.append(change)


def reversed_concat(layer: Config) -> None:
    """New features first."""
    if layer["class_name"] == "Concatenate":
        layer["inbound_nodes"][0]["args"][0].reverse()


def ahead(make: Callable[[Any], Any], inner: Callable[[int], int] = int) -> Callable[[KerasPatient], None]:
    """Layers in front, in one functional model; with what they make of height and width."""

    def frame(net: Any, p: KerasPatient, shape: Shape) -> Any:
        keras = framework()
        inputs = keras.Input(shape)
        x = inputs
        for layer in make(keras):
            x = layer(x)
        return keras.Model(inputs, net(x))

    return lambda p: p.frames.append((frame, inner))


def after(make: Callable[[Any, KerasPatient], Any]) -> Callable[[KerasPatient], None]:
    """Layers behind, in one Sequential with the network."""

    def frame(net: Any, p: KerasPatient, shape: Shape) -> Any:
        keras = framework()
        return keras.Sequential([keras.Input(shape), net, *make(keras, p)])

    return lambda p: p.frames.append((frame, int))


def preprocessed(p: KerasPatient) -> None:
    """keras.applications' preprocess_input as operations in the graph."""

    def frame(net: Any, p: KerasPatient, shape: Shape) -> Any:
        keras = framework()
        inputs = keras.Input(shape)
        return keras.Model(inputs, net(keras.applications.densenet.preprocess_input(inputs)))

    p.frames.append((frame, int))


def flipped(net: Any, p: KerasPatient, shape: Shape) -> Any:
    """BGR."""
    keras = framework()
    inputs = keras.Input(shape)
    return keras.Model(inputs, net(inputs[..., ::-1]))


def two_heads(net: Any, p: KerasPatient, shape: Shape) -> Any:
    """Two heads on the pooled features."""
    keras = framework()
    pooled = net.layers[-2].output
    return keras.Model(net.inputs, [net.output, keras.layers.Dense(2, name="second")(pooled)])


HEADLESS = {"include_top": False, "classes": 1000}
ACT, WINDOW, AHEAD, BACK = r"ReLU|activation|relu", r"pool", r"before|in front|images|prepar|normalis|rescal", r"behind"
SURGERIES: tuple[tuple[str, Callable[[KerasPatient], None], str], ...] = (
    ("keras-softmax", given(classifier_activation="softmax"), rf"softmax|Softmax|{BACK}"),
    ("keras-sigmoid", given(classifier_activation="sigmoid"), rf"sigmoid|Sigmoid|{BACK}"),
    ("keras-relu-head", given(classifier_activation="relu"), rf"{BACK}|activation"),
    ("keras-headless-avg", given(pooling="avg", **HEADLESS), r"head|features"),
    ("keras-headless-max", given(pooling="max", **HEADLESS), r"pool"),
    ("keras-headless-maps", given(pooling=None, **HEADLESS), r"pool|head|features"),
    ("keras-channels1", given(channels=1), "never"),
    ("keras-channels4", given(channels=4), "never"),
    ("keras-rescaling", ahead(lambda k: [k.layers.Rescaling(1 / 255)]), AHEAD),
    ("keras-rescaling-offset", ahead(lambda k: [k.layers.Rescaling(2.0, -1.0)]), AHEAD),
    ("keras-normalization", ahead(lambda k: [k.layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3])]), AHEAD),
    ("keras-preprocess", preprocessed, AHEAD),
    ("keras-bgr", lambda p: p.frames.append((flipped, int)), AHEAD),
    ("keras-zero-pad", ahead(lambda k: [k.layers.ZeroPadding2D(4)], lambda n: n + 8), AHEAD),
    ("keras-avgpool", ahead(lambda k: [k.layers.AveragePooling2D(2)], lambda n: n // 2), AHEAD),
    ("keras-resizing", ahead(lambda k: [k.layers.Resizing(80, 80)], lambda n: 80), AHEAD),
    ("keras-upsampling", ahead(lambda k: [k.layers.UpSampling2D(2)], lambda n: 2 * n), AHEAD),
    ("keras-augmentation", ahead(lambda k: [k.layers.RandomFlip(), k.layers.RandomRotation(0.1)]), "never"),
    ("keras-noise", ahead(lambda k: [k.layers.GaussianNoise(0.1)]), "never"),
    ("keras-front-conv", ahead(lambda k: [k.layers.Conv2D(3, 1)]), rf"conv|{AHEAD}"),
    ("keras-front-norm", ahead(lambda k: [k.layers.BatchNormalization()]), AHEAD),
    ("keras-behind-softmax", after(lambda k, p: [k.layers.Softmax()]), rf"softmax|Softmax|{BACK}"),
    ("keras-behind-activation", after(lambda k, p: [k.layers.Activation("sigmoid")]), rf"sigmoid|Sigmoid|{BACK}"),
    ("keras-behind-relu", after(lambda k, p: [k.layers.ReLU()]), BACK),
    ("keras-behind-unit", after(lambda k, p: [k.layers.UnitNormalization()]), BACK),
    ("keras-behind-rescaling", after(lambda k, p: [k.layers.Rescaling(0.5)]), BACK),
    ("keras-mlp", lambda p: (given(pooling="avg", **HEADLESS)(p), after(lambda k, p: [k.layers.Dense(12, "relu"), k.layers.Dense(p.classes)])(p)), r"head|Dense|hidden"),
    ("keras-transfer", lambda p: (given(pooling="avg", **HEADLESS)(p), after(lambda k, p: [k.layers.Dropout(0.3), k.layers.Dense(p.classes)])(p)), "never"),
    ("keras-transfer-softmax", lambda p: (given(pooling="avg", **HEADLESS)(p), after(lambda k, p: [k.layers.Dense(p.classes, "softmax")])(p)), rf"softmax|Softmax|{BACK}"),
    ("keras-transfer-pool", lambda p: (given(**HEADLESS)(p), after(lambda k, p: [k.layers.GlobalMaxPooling2D(), k.layers.Dense(p.classes)])(p)), WINDOW),
    ("keras-transfer-flat", lambda p: (given(**HEADLESS)(p), after(lambda k, p: [k.layers.Flatten(), k.layers.Dense(p.classes)])(p)), r"pool|Flatten|flat"),
    ("keras-transfer-norm", lambda p: (given(pooling="avg", **HEADLESS)(p), after(lambda k, p: [k.layers.BatchNormalization(), k.layers.Dense(p.classes)])(p)), r"norm|head"),
    ("keras-two-heads", lambda p: p.frames.append((two_heads, int)), r"head|output|results"),
    ("keras-max-head", swap("GlobalAveragePooling2D", "GlobalMaxPooling2D"), WINDOW),
    ("keras-stride", edit("Conv2D", "conv1_conv", strides=(1, 1)), r"stride"),
    ("keras-padding", edit("ZeroPadding2D", "zero_padding2d", padding=((2, 3), (2, 3))), r"padding|pad"),
    ("keras-stem-pool-stride", edit("MaxPooling2D", "pool1", strides=(1, 1)), WINDOW),
    ("keras-stem-pool-size", edit("MaxPooling2D", "pool1", pool_size=(2, 2)), WINDOW),
    ("keras-stem-pool-avg", swap("MaxPooling2D", "AveragePooling2D", "pool1", pool_size=(3, 3), strides=(2, 2)), WINDOW),
    ("keras-eps", edit("BatchNormalization", epsilon=1e-3), r"eps"),
    ("keras-eps-one", edit("BatchNormalization", "conv2_block1_0", epsilon=1e-2), r"eps"),
    ("keras-momentum", edit("BatchNormalization", momentum=0.9), "never"),
    ("keras-transition-max", swap("AveragePooling2D", "MaxPooling2D", pool_size=(2, 2), strides=(2, 2)), WINDOW),
    ("keras-transition-axes", edit("AveragePooling2D", pool_size=(1, 2), strides=(1, 2)), WINDOW),
    ("keras-transition-same", edit("AveragePooling2D", padding="same"), WINDOW),
    ("keras-dilation", edit("Conv2D", "conv5_block1_2_conv", dilation_rate=(2, 2)), r"dilat|stride"),
    ("keras-elu", edit("Activation", activation="elu"), ACT),
    ("keras-linear-one", edit("Activation", "conv3_block1_1_relu", activation="linear"), ACT),
    ("keras-no-last-relu", edit("Activation", "^relu$", activation="linear"), ACT),
    ("keras-no-transition-relu", edit("Activation", "pool2_relu", activation="linear"), ACT),
    ("keras-leaky", swap("Activation", "LeakyReLU", negative_slope=0.1), ACT),
    ("keras-relu6", swap("Activation", "ReLU", max_value=6.0), ACT),
    ("keras-relu-layer", swap("Activation", "ReLU"), "never"),
    ("keras-reversed", lambda p: p.edits.append(reversed_concat), r"order|concat"),
    ("keras-no-bias", edit("Dense", use_bias=False), "never"),
)  # fmt: skip
KERAS_SURGERIES = tuple(Surgery(name, operate, note, KERAS) for name, operate, note in SURGERIES)
