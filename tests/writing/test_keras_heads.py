"""Heads of several layers in Keras' files: as Keras writes them, and as Keras loads what we write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cases import logits_of
from helpers.networks import random_model

from converter import load
from converter.core.errors import NotADenseNet
from converter.formats.keras.h5_writer import write_keras_h5
from converter.layouts import layout_named
from converter.writing.in_layout import in_layout
from densenet.config import DenseNetConfig

X = np.random.default_rng(1).uniform(size=(2, 3, 64, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def layers(keras: Any) -> Any:
    return keras.layers


@pytest.fixture(scope="module")
def base(keras: Any) -> Any:
    """keras.applications' DenseNet without its top; maps of 2x2 at the end."""
    from keras.src.applications.densenet import DenseNet

    return DenseNet([1, 1, 1, 1], include_top=False, weights=None, input_shape=(64, 64, 3))


def chain(x: Any, layers: Sequence[Any]) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def flat(keras: Any, base: Any, layers: Sequence[Any]) -> Any:
    """The head's layers behind the base's own."""
    return settled(keras.Model(base.input, chain(base.output, layers)))


def nested(keras: Any, base: Any, layers: Sequence[Any]) -> Any:
    """The base as one layer of a Sequential."""
    return settled(keras.Sequential([keras.Input((64, 64, 3)), base, *layers]))


def settled(model: Any) -> Any:
    """Weights and statistics unlike fresh ones."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith("kernel"):
            weight.assign(random.normal(0, 1.4 / np.prod(weight.shape[:-1]) ** 0.5, weight.shape))
        elif weight.path.endswith(("bias", "beta", "moving_mean")):
            weight.assign(random.normal(0, 0.3, weight.shape))
    return model


def same(keras: Any, model: Any, path: Path) -> bool:
    """Whether what is read from a file gives what the model does, whose last layer has no activation."""
    want = keras.ops.convert_to_numpy(model(X.transpose(0, 2, 3, 1), training=False))
    return bool(np.abs(logits_of(path, X) - want).max() <= 1e-5 * np.abs(want).max())


QUARTER = {"class_name": "Constant", "config": {"value": 0.25}}
Head = Callable[[Any], Sequence[Any]]
HEADS: dict[str, tuple[Head, str]] = {
    "as most people write them": (
        lambda k: [
            *(k.GlobalAveragePooling2D(), k.BatchNormalization(), k.Dropout(0.5), k.Dense(16, activation="relu")),
            *(k.BatchNormalization(epsilon=0.01), k.Dropout(0.3), k.Dense(3)),
        ],
        "norm,linear:16,relu,norm",
    ),
    "activations by name": (
        lambda k: [
            *(k.GlobalMaxPooling2D(), k.Dense(8, activation="gelu"), k.Dense(8, activation="leaky_relu")),
            *(k.Dense(8, activation="swish"), k.Dense(8, activation="hard_sigmoid"), k.Dense(3)),
        ],
        "linear:8,gelu,linear:8,leaky_relu:0.2,linear:8,silu,linear:8,hardsigmoid",
    ),
    "activations as layers": (
        lambda k: [
            *(k.AveragePooling2D(2), k.Flatten(), k.Dense(8), k.LeakyReLU(), k.Dense(8), k.ELU(alpha=0.7)),
            *(k.Dense(8), k.ReLU(6.0), k.Dense(8), k.PReLU(QUARTER, shared_axes=[1]), k.Dense(3)),
        ],
        "linear:8,leaky_relu:0.3,linear:8,elu:0.7,linear:8,relu6,linear:8,leaky_relu:0.25",
    ),
}


@pytest.mark.parametrize(("head", "words"), HEADS.values(), ids=HEADS)
def test_heads_that_keras_saves(tmp_path: Path, keras: Any, base: Any, layers: Any, head: Head, words: str) -> None:
    build, name = (nested, "model.h5") if head is HEADS["as most people write them"][0] else (flat, "model.keras")
    model = build(keras, base, head(layers))
    model.save(tmp_path / name)
    assert ",".join(load(tmp_path / name).config.head) == words
    assert same(keras, model, tmp_path / name)


def test_the_activation_of_the_last_layer_is_said(tmp_path: Path, keras: Any, base: Any, layers: Any) -> None:
    head = [layers.GlobalAveragePooling2D(), layers.Dense(8, activation="tanh"), layers.Dense(3, activation="softmax")]
    nested(keras, base, head).save(path := tmp_path / "model.keras")
    model = load(path)
    assert model.config.head == ("linear:8", "tanh")
    assert model.images.activation == "softmax"
    assert any("softmax of dense" in note for note in model.notes)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (lambda k: [k.GlobalAveragePooling2D(), k.Dense(8, activation="exponential"), k.Dense(3)], "exponential"),
        (lambda k: [k.GlobalAveragePooling2D(), k.Dense(8), k.ReLU(threshold=0.5), k.Dense(3)], "ReLU"),
        (lambda k: [k.GlobalAveragePooling2D(), k.LayerNormalization(), k.Dense(3)], "LayerNormalization"),
        (lambda k: [k.GlobalAveragePooling2D(), k.Dense(8), k.PReLU("random_normal"), k.Dense(3)], "PReLU"),
        (lambda k: [k.Flatten(), k.Dense(8, activation="relu"), k.Dense(3)], "Flatten"),
    ],
)
def test_what_a_head_cannot_have_is_refused_by_its_name(
    tmp_path: Path, keras: Any, base: Any, layers: Any, head: Head, name: str
) -> None:
    flat(keras, base, head(layers)).save(tmp_path / "model.keras")
    with pytest.raises(NotADenseNet, match=name):
        load(tmp_path / "model.keras")


def test_weights_alone(tmp_path: Path, keras: Any, base: Any, layers: Any) -> None:
    """The norm stands where the widths say; an activation without a layer of its own is in the layer before."""
    plain = [layers.GlobalAveragePooling2D(), layers.Dense(16, activation="relu"), layers.BatchNormalization()]
    model = nested(keras, base, [*plain, layers.Dense(3)])
    model.save_weights(path := tmp_path / "m.weights.h5")
    found = load(path)
    assert found.config.head == ("linear:16", "relu", "norm")
    assert any("its activations are not in the file" in note for note in found.notes)
    assert any("eps 0.001 of the norms in its head is assumed" in note for note in found.notes)
    assert same(keras, model, path)
    leaky = [layers.GlobalAveragePooling2D(), layers.Dense(16), layers.LeakyReLU(), layers.Dense(3)]
    nested(keras, base, leaky).save_weights(path)
    assert load(path).config.head == ("linear:16", "leaky_relu:0.3")
    assert load(path, settings={"head": ("linear:16", "tanh")}).config.head == ("linear:16", "tanh")


def test_keras_loads_a_head_that_we_write(tmp_path: Path, keras: Any, base: Any, layers: Any) -> None:
    config = DenseNetConfig(block_config=(1, 1, 1, 1), num_classes=3, head=("norm", "linear:8", "gelu", "norm"))
    ours = random_model(config, 3)
    arranged = in_layout(ours, layout_named("keras"), metadata=False)
    assert any("linear:8 called head_1_dense, gelu, norm (eps 1.001e-05) called head_3_bn" in n for n in arranged.notes)
    write_keras_h5(tmp_path / "w.h5", arranged.tensors)
    head = [
        *(layers.GlobalAveragePooling2D(), layers.BatchNormalization(epsilon=1.001e-5, name="head_0_bn")),
        *(layers.Dense(8, activation="gelu", name="head_1_dense"),),
        *(layers.BatchNormalization(epsilon=1.001e-5, name="head_3_bn"), layers.Dense(3, name="predictions")),
    ]
    theirs = flat(keras, base, head)
    theirs.load_weights(tmp_path / "w.h5")
    theirs.save(tmp_path / "theirs.keras")
    assert same(keras, theirs, tmp_path / "theirs.keras")
    again = load(tmp_path / "w.h5", settings={"head": config.head})
    for name, tensor in load(tmp_path / "theirs.keras").tensors.items():
        np.testing.assert_allclose(again.tensors[name].read(), tensor.read(), rtol=1e-6)
