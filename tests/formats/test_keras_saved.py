"""Keras models as people save them: compiled, of a class of their own, the second of a session; by Keras itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.keras import H5, WEIGHTS, ZIP, same_tensors

from converter import inspect, load
from converter.core.errors import ConverterError


def moved(target: Path, **places: str) -> Path:
    """The small network as a subclass of keras.Model keeps it: layers in the attribute ``base``, ``fc`` beside."""
    with h5py.File(WEIGHTS) as old, h5py.File(target, "w") as new:
        for name, layer in old["layers"].items():
            place = "fc" if name.startswith("dense") else f"base/layers/{name}"
            old.copy(layer, new.require_group(str(Path(place).parent)), Path(place).name)
        new.create_group("vars")
        for name, source in places.items():
            old.copy(f"layers/{source}", new, name)
    return target


def test_layers_that_are_attributes_of_a_subclass(tmp_path: Path) -> None:
    path = moved(tmp_path / "m.weights.h5")
    assert same_tensors(path, WEIGHTS)
    assert any("subclass of keras.Model" in note for note in inspect(path).model.notes)


def test_its_pooling_is_read_from_its_layers(tmp_path: Path) -> None:
    path = moved(tmp_path / "m.weights.h5")
    with h5py.File(path, "r+") as file:
        for name in [name for name in file["base/layers"] if "global_average" in name]:
            del file[f"base/layers/{name}"]
        file.create_group("gap/vars").attrs["name"] = "global_max_pooling2d"
    assert load(path).config.global_pool == "max"


def test_metrics_of_a_subclass_are_no_part_of_it(tmp_path: Path) -> None:
    path = moved(tmp_path / "m.weights.h5")
    with h5py.File(path, "r+") as file:
        for name in ("loss_tracker", "acc_metric"):
            values = file.create_group(f"{name}/vars")
            values["0"], values["1"] = np.float32(3), np.float32(8)
        file.create_group("aug/seed_generator/vars")["0"] = np.array([1, 2], np.uint32)
    assert same_tensors(path, WEIGHTS)


def test_another_layer_of_a_subclass_is_not_passed_over(tmp_path: Path) -> None:
    path = moved(tmp_path / "m.weights.h5", extra=next(n for n in h5py.File(WEIGHTS)["layers"] if "batch" in n))
    with pytest.raises(ConverterError):
        load(path)


@pytest.mark.parametrize("counted", ["mean", "mean_metric_wrapper"])
def test_metrics_that_tf_keras_saves(counted: str, tmp_path: Path) -> None:
    """``metrics/mean/vars/0``, as Keras 2.13 to 2.16 write for compiled models."""
    path = tmp_path / "m.weights.h5"
    shutil.copy(WEIGHTS, path)
    with h5py.File(path, "r+") as file:
        values = file.create_group(f"metrics/{counted}/vars")
        values["0"], values["1"] = np.float32(3), np.float32(8)
    assert same_tensors(path, WEIGHTS)


def second(path: Path, number: int) -> Path:
    """The whole model's weights as those of the second DenseNet that TensorFlow 1 made in one session."""
    scopes = {"conv1_conv": f"conv1/conv_{number}", "conv1_bn": f"conv1/bn_{number}"}
    with h5py.File(H5) as old, h5py.File(path, "w") as new:
        weights = old["model_weights"]
        network, listed = new.create_group("densenet"), []
        names = [name for name in _texts(weights.attrs["layer_names"]) if len(weights[name].attrs["weight_names"])]
        head = names.pop()
        for name in names:
            for weight in _texts(weights[name].attrs["weight_names"]):
                leaf = weight.rpartition("/")[2]
                key = f"{scopes.get(name, f'{name}_{number}')}/{leaf}"
                network[key] = weights[name][weight][()]
                listed.append(key)
        network.attrs["weight_names"] = [key.encode() for key in listed]
        dense = new.create_group("dense_1")
        kept = _texts(weights[head].attrs["weight_names"])
        for weight in kept:
            dense[f"dense_1/{weight.rpartition('/')[2]}"] = weights[head][weight][()]
        dense.attrs["weight_names"] = [f"dense_1/{weight.rpartition('/')[2]}".encode() for weight in kept]
        new.attrs["layer_names"] = [b"densenet", b"dense_1"]
        new.attrs["keras_version"] = b"2.3.1"
    return path


def _texts(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


@pytest.mark.parametrize("number", [1, 3])
def test_the_second_model_of_a_session(number: int, tmp_path: Path) -> None:
    path = second(tmp_path / "m.h5", number)
    model, want = load(path), load(H5)
    assert model.origin.layout == "keras2"
    assert model.config.padding == "symmetric"
    assert model.config.eps == want.config.eps
    assert all(np.array_equal(model.tensors[name].read(), tensor.read()) for name, tensor in want.tensors.items())


def test_a_zip_of_a_subclass_is_read_by_its_weights(tmp_path: Path) -> None:
    import json
    import zipfile

    moved(tmp_path / "model.weights.h5")
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.write(tmp_path / "model.weights.h5", "model.weights.h5")
        about = {"module": None, "class_name": "Net", "config": {"trainable": True}, "registered_name": "Net"}
        archive.writestr("config.json", json.dumps(about))
    assert same_tensors(tmp_path / "m.keras", WEIGHTS)
    assert any("subclass" in note for note in inspect(tmp_path / "m.keras").model.notes)
    assert not any("subclass" in note for note in inspect(ZIP).model.notes)
