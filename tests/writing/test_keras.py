"""Keras files written by us, and Keras itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.cases import logits_of
from helpers.networks import imagenet_configs, random_model
from hypothesis import given, settings

from converter import Images, load
from converter.formats.keras.h5_writer import write_keras_h5
from converter.layouts import layout_named
from converter.writing.in_layout import in_layout
from densenet.config import DenseNetConfig

# -- written by us --------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["keras", "keras2"])
@settings(max_examples=15)
@given(config=imagenet_configs())
def test_round_trip(tmp_path: Path, layout: str, config: DenseNetConfig) -> None:
    model = random_model(config)
    path = tmp_path / "weights.h5"
    arranged = in_layout(model, layout_named(layout))
    write_keras_h5(path, arranged.tensors)
    back = load(path)
    assert any("eps" in note for note in arranged.notes)
    assert back.origin.layout == layout
    assert back.config.eps == 1.001e-5
    assert (back.config.block_config, back.config.growth_rate) == (config.block_config, config.growth_rate)
    for name, tensor in model.tensors.items():
        want = tensor.read()
        if name.endswith("running_var"):
            want = (want.astype(np.float64) + (config.eps - 1.001e-5)).astype(np.float32)
        assert np.array_equal(back.tensors[name].read(), want)


# -- against Keras itself ------------------------------------------------------------------


def keras_network(keras: Any, **options: Any) -> Any:
    """keras.applications' DenseNet with blocks 1-2-1-1 and random weights and statistics."""
    from keras.src.applications.densenet import DenseNet

    model = DenseNet([1, 2, 1, 1], weights=None, input_shape=(32, 32, 3), **options)
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif not weight.path.endswith("kernel"):
            weight.assign(random.normal(0, 0.2, weight.shape))
    return model


def keras_logits(keras: Any, model: Any, x: np.ndarray) -> np.ndarray:
    out = keras.ops.convert_to_numpy(model(x.transpose(0, 2, 3, 1), training=False))
    return out.mean((1, 2)) if out.ndim == 4 else out


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize("name", ["model.h5", "model.keras", "model.weights.h5", "model.weights.json"])
def test_files_keras_writes_here(tmp_path: Path, keras: Any, name: str, top: bool) -> None:
    model = keras_network(keras, include_top=top, **({"classes": 7, "classifier_activation": None} if top else {}))
    path, x = tmp_path / name, np.random.default_rng(1).normal(size=(1, 3, 32, 32)).astype(np.float32)
    if ".weights" in name:
        model.save_weights(path, **({"max_shard_size": 0.0002} if name.endswith("json") else {}))
    else:
        model.save(path)
    assert np.allclose(logits_of(path, x), keras_logits(keras, model, x), atol=1e-4)


def test_keras_loads_what_we_write(tmp_path: Path, keras: Any) -> None:
    config = DenseNetConfig(block_config=(1, 2, 1, 1), num_classes=7)
    ours = random_model(config, 3)
    tensors = in_layout(ours, layout_named("keras")).tensors
    write_keras_h5(tmp_path / "w.h5", tensors, Images(labels=tuple("abcdefg"), activation="softmax").metadata)
    theirs = keras_network(keras, classes=7, classifier_activation=None)
    theirs.load_weights(tmp_path / "w.h5")
    x = np.random.default_rng(1).normal(size=(1, 3, 32, 32)).astype(np.float32)
    got, want = keras_logits(keras, theirs, x), logits_of(tmp_path / "w.h5", x)
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize(
    ("version", "relu"), [(b"2.1.2", True), (b"2.1.3", False), (b"2.1.6", False), (b"2.2.0", True)]
)
def test_the_keras_versions_without_a_final_relu(version: bytes, relu: bool, tmp_path: Path) -> None:
    config = DenseNetConfig(growth_rate=4, block_config=(1, 2), init_features=6, num_classes=3, eps=1.001e-5)
    write_keras_h5(tmp_path / "w.h5", in_layout(random_model(config), layout_named("keras2")).tensors)
    with h5py.File(tmp_path / "w.h5", "a") as file:
        file.attrs["keras_version"] = version
    found = load(tmp_path / "w.h5")
    assert found.config.final_relu is relu
    assert any("no ReLU after the last norm" in note for note in found.notes) is not relu
    assert load(tmp_path / "w.h5", settings={"final_relu": True}).config.final_relu


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_loss_a_model_was_compiled_with_says_what_its_logits_are(tmp_path: Path, keras: Any, suffix: str) -> None:
    model = keras_network(keras, classes=4, classifier_activation=None)
    for loss, activation in ((keras.losses.BinaryCrossentropy(from_logits=True), "sigmoid"), ("mse", "none")):
        model.compile(loss=loss)
        model.save(tmp_path / f"m{suffix}")
        assert load(tmp_path / f"m{suffix}").images.activation == activation
