"""TensorFlow.js: layers and graph models, whichever of their files is given; quantised weights; damaged manifests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cases import CASES, logits_of

from converter import load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile, UnsafeFile

LAYERS, GRAPH = CASES / "tfjs-layers", CASES / "tfjs-graph"


def copied(case: Path, folder: Path, change: Callable[[Any], None] | None = None) -> Path:
    """The case's model in a folder of its own, its model.json changed."""
    shutil.copytree(case, folder, dirs_exist_ok=True)
    path = folder / "model.json"
    if change is not None:
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("name", ["", "model.json", "group1-shard1of2.bin", "group1-shard2of2.bin"])
def test_any_part_finds_the_rest(name: str) -> None:
    model = load(LAYERS / name)
    assert model.config == load(LAYERS / "model.json").config
    assert model.images.labels == ("ash", "birch", "elm", "oak")
    assert model.images.activation == "softmax"


@pytest.mark.parametrize("case", [LAYERS, GRAPH], ids=["layers", "graph"])
def test_a_missing_shard_is_named(case: Path, tmp_path: Path) -> None:
    path = copied(case, tmp_path)
    first = min(tmp_path.glob("*.bin"))
    first.unlink()
    with pytest.raises(UnreadableFile, match=f"{first.name}.* is missing beside it"):
        load(path)


def test_shards_of_another_size_are_refused(tmp_path: Path) -> None:
    path = copied(GRAPH, tmp_path)
    shard = next(tmp_path.glob("*.bin"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-4])
    with pytest.raises(UnreadableFile, match="ends behind the end"):
        load(path)
    shard.write_bytes(whole + bytes(4))
    with pytest.raises(UnreadableFile, match="4 bytes more"):
        load(path)


def test_weights_of_8_bits_are_refused_in_one_sentence(tmp_path: Path) -> None:
    def change(values: Any) -> None:
        values["weightsManifest"][0]["weights"][3]["quantization"] = {"dtype": "uint8", "min": -1.0, "scale": 0.01}

    with pytest.raises(UnreadableFile, match=r"model\.json: its weights are quantised to 8 bits") as refused:
        load(copied(LAYERS, tmp_path, change))
    assert "\n" not in str(refused.value)


def test_weights_of_16_bits_are_what_tensorflow_js_makes_of_them(tmp_path: Path) -> None:
    """Integers times scale plus minimum, as its decodeWeight does."""
    path = copied(GRAPH, tmp_path)
    values = json.loads(path.read_text())
    (group,) = values["weightsManifest"]
    raw, at, pieces = (tmp_path / group["paths"][0]).read_bytes(), 0, []
    for weight in group["weights"]:
        size = 4 * int(np.prod(weight["shape"]))
        data, at = raw[at : at + size], at + size
        if weight["dtype"] == "float32":
            array = np.frombuffer(data, "<f4")
            low = float(array.min(initial=0))
            scale = (float(array.max(initial=0)) - low) / 65535 or 1.0
            weight["quantization"] = {"dtype": "uint16", "min": low, "scale": scale, "original_dtype": "float32"}
            data = np.clip(np.round((array - low) / scale), 0, 65535).astype("<u2").tobytes()
        pieces.append(data)
    (tmp_path / group["paths"][0]).write_bytes(b"".join(pieces))
    path.write_text(json.dumps(values))
    want = np.load(GRAPH / "logits.npy")
    got = logits_of(path, np.load(GRAPH / "input.npy"))
    assert 0 < np.abs(got - want).max() < 1e-3 * np.abs(want).max()


def as_javascript_saves(values: Any) -> None:
    """``model.save()`` of TensorFlow.js (tfjs-layers, toJSON): the model at the top, one file, no format."""
    topology = values["modelTopology"]
    values["modelTopology"] = {
        **topology["model_config"],
        "keras_version": "tfjs-layers 4.22.0",
        "backend": "tensor_flow.js",
    }
    del values["format"]
    for group in values["weightsManifest"]:
        group["paths"] = ["./weights.bin"]


def test_models_that_javascript_saved(tmp_path: Path) -> None:
    path = copied(LAYERS, tmp_path, as_javascript_saves)
    shards = sorted(tmp_path.glob("*.bin"))
    (tmp_path / "weights.bin").write_bytes(b"".join(shard.read_bytes() for shard in shards))
    for shard in shards:
        shard.unlink()
    for given in (path, tmp_path / "weights.bin", tmp_path):
        got = logits_of(given, np.load(LAYERS / "input.npy"))
        assert np.abs(got - np.load(LAYERS / "logits.npy")).max() < 1e-5


def test_shards_elsewhere_are_refused(tmp_path: Path) -> None:
    def change(values: Any) -> None:
        values["weightsManifest"][0]["paths"][0] = "../w.bin"

    with pytest.raises(UnsafeFile, match="outside its own folder"):
        load(copied(GRAPH, tmp_path, change))


def test_two_layers_of_one_name_are_refused(tmp_path: Path) -> None:
    """A nested model's layer may be called as one outside; the weights' names do not say which is meant."""

    def change(values: Any) -> None:
        outer = values["modelTopology"]["model_config"]["config"]["layers"]
        network = next(layer for layer in outer if layer["class_name"] == "Sequential")["config"]["layers"]
        inside = next(layer for layer in network if layer["class_name"] == "Functional")["config"]["layers"]
        dense = next(layer for layer in outer[-1]["config"]["layers"] if layer["class_name"] == "Dense")
        dense["config"]["name"] = next(layer["name"] for layer in inside if layer["class_name"] == "Conv2D")

    with pytest.raises(ConverterError, match="have one name"):
        load(copied(LAYERS, tmp_path, change))


def test_a_fused_activation_is_looked_at(tmp_path: Path) -> None:
    """Of a fused convolution in a layer, ReLU made LeakyReLU: one of another kind than the others is refused."""

    def change(values: Any) -> None:
        fused = [node for node in values["modelTopology"]["node"] if node["op"] == "_FusedConv2D"]
        node = next(node for node in fused if len(node["attr"]["fused_ops"]["list"]["s"]) == 2)
        node["attr"]["fused_ops"]["list"]["s"][1] = list(b"LeakyRelu")
        node["attr"]["leakyrelu_alpha"] = {"f": 0.1}

    with pytest.raises(NotADenseNet, match="leaky_relu"):
        load(copied(GRAPH, tmp_path, change))


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("modelTopology", "not what is computed"),
        ("weightsManifest", "does not say where its weights are"),
    ],
)
def test_what_is_missing_is_said(part: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=why):
        load(copied(GRAPH, tmp_path, lambda values: values.pop(part)))


def test_a_constant_that_is_not_among_the_weights(tmp_path: Path) -> None:
    def change(values: Any) -> None:
        values["weightsManifest"][0]["weights"][0]["name"] += "_gone"

    with pytest.raises(ConverterError, match="not among the weights"):
        load(copied(GRAPH, tmp_path, change))
