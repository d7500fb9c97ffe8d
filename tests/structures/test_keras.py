"""Keras: numbered layers, every dialect, and what a config says."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.cases import CASES, logits_of
from helpers.keras import FILES, FLYYUFELIX, H5, WEIGHTS, ZIP, error_of, layers_of, rewritten_zip, same_tensors
from helpers.networks import random_tensors

from converter import load
from converter.core.checkpoint import Tensor
from converter.core.errors import NotADenseNet, UnreadableFile, UnsafeFile
from converter.formats.keras.h5_writer import write_keras_h5
from converter.structures.keras_numbered import LEAF_OF
from densenet.config import DenseNetConfig
from densenet.module import NORM_TENSORS

NORM = ("gamma", "beta", "moving_mean", "moving_variance")


# -- as Keras wrote them ---------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_logits_are_those_of_keras(path: Path) -> None:
    assert error_of(path, path) < 1e-5


@pytest.mark.parametrize(
    ("path", "layout", "eps"),
    [
        (H5, "keras", 1.001e-5),
        (ZIP, "keras", 1.001e-5),
        (WEIGHTS, "keras", 1.001e-5),
        (FLYYUFELIX, "flyyufelix", 1.1e-5),
    ],
)
def test_layout_and_eps(path: Path, layout: str, eps: float) -> None:
    model = load(path)
    assert (model.origin.layout, model.config.eps, model.config.padding) == (layout, eps, "symmetric")


def test_one_network_whatever_file_keras_put_it_in() -> None:
    assert same_tensors(H5, ZIP)
    assert same_tensors(H5, WEIGHTS)


# -- .weights.h5 without names, and in several files --------------------------------------


def nameless(target: Path, *, drop: tuple[str, ...] = (), empty: bool = True) -> Path:
    """As Keras 2.15 writes it (no names), or early Keras 3 (nor layers without weights)."""
    shutil.copy(WEIGHTS, target)
    with h5py.File(target, "r+") as file:
        for name in list(file["layers"]):
            layer = file["layers"][name]
            if (drop and name.startswith(drop)) or not (empty or layer["vars"]):
                del file["layers"][name]
            elif "name" in layer["vars"].attrs:
                del layer["vars"].attrs["name"]
    return target


@pytest.mark.parametrize("empty", [True, False])
def test_numbered_layers_are_put_in_order(tmp_path: Path, empty: bool) -> None:
    path = nameless(tmp_path / "model.weights.h5", empty=empty)
    model = load(path)
    assert model.origin.layout == "keras-numbered"
    assert model.config.eps == 1.001e-5
    assert "assumed" in " ".join(model.notes)
    assert same_tensors(path, WEIGHTS)


def test_numbered_layers_without_paddings_of_their_own_are_titu1994s(tmp_path: Path) -> None:
    model = load(nameless(tmp_path / "model.weights.h5", drop=("zero_padding2d",)))
    assert (model.config.padding, model.config.eps) == ("same", 1.1e-5)


@pytest.mark.parametrize("bottleneck", [True, False])
def test_titu1994s_networks_for_small_images(tmp_path: Path, bottleneck: bool) -> None:
    """Layers called by class and number, numbered from anywhere, as one Python session builds several models."""
    config = DenseNetConfig.cifar(22 if bottleneck else 13, 4, bottleneck=bottleneck)
    leaves = {f"{kind}.{leaf}": value for kind, named in LEAF_OF.items() for value, leaf in named.items()}
    arrays, tensors = random_tensors(config), {}
    for i, module in enumerate(config.modules()):
        layer = {"conv": "conv2d", "norm": "batch_normalization", "linear": "dense"}[module.kind] + f"_{i + 7}"
        for name in module.tensors():
            leaf, array = leaves[f"{module.kind}.{name.rpartition('.')[2]}"], arrays[name]
            tensors[f"{layer}/{leaf}"] = Tensor.of(
                array.transpose(*range(2, array.ndim), 1, 0) if array.ndim > 1 else array
            )
    write_keras_h5(tmp_path / "w.h5", tensors)
    model = load(tmp_path / "w.h5")
    assert model.config == replace(config, eps=1.1e-5)
    assert all(np.array_equal(model.tensors[name].read(), array) for name, array in arrays.items())


def test_names_from_the_config_when_the_weights_have_none(tmp_path: Path) -> None:
    weights = nameless(tmp_path / "w.h5").read_bytes()
    with zipfile.ZipFile(ZIP) as old, zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, weights if name.endswith(".h5") else old.read(name))
    assert load(tmp_path / "model.keras").origin.layout == "keras"
    assert same_tensors(tmp_path / "model.keras", ZIP)


# -- topological files of other versions ---------------------------------------------------


def topological(
    path: Path, rename: Callable[[str, str], str] = lambda layer, leaf: f"{layer}/{leaf}:0", **root: Any
) -> dict[str, np.ndarray]:
    """The whole-model file's weights alone, with weights called as another version calls them."""
    arrays = {}
    with h5py.File(H5) as old, h5py.File(path, "w") as new:
        whole = old["model_weights"]
        new.attrs["layer_names"] = whole.attrs["layer_names"]
        for key, value in root.items():
            new.attrs[key] = value
        for layer in np.array(whole.attrs["layer_names"]).astype(str):
            group, names = new.create_group(layer), []
            for weight in np.array(whole[layer].attrs["weight_names"]).astype(str):
                name = rename(layer, weight.rpartition("/")[2])
                names.append(name.encode())
                group[name] = arrays[f"{layer}/{weight.rpartition('/')[2]}"] = whole[layer][weight][()]
            group.attrs["weight_names"] = names
    return arrays


def test_topological_file_with_scope_suffixes(tmp_path: Path) -> None:
    topological(tmp_path / "w.h5", lambda layer, leaf: f"{layer}_2/{leaf}:0", backend=b"tensorflow")
    assert same_tensors(tmp_path / "w.h5", WEIGHTS)


def test_lists_too_long_for_one_attribute(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    topological(path, backend=b"tensorflow")
    with h5py.File(path, "r+") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        for i, piece in enumerate(np.array_split(names, 3)):
            file.attrs[f"layer_names{i}"] = piece
    assert same_tensors(path, WEIGHTS)


def test_a_whole_network_nested_in_a_model(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    arrays = topological(tmp_path / "flat.h5")
    head = {key: arrays.pop(key) for key in ("predictions/kernel", "predictions/bias")}
    order = sorted(arrays, key=lambda key: "moving" in key)  # what Keras does not train comes last
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"input", b"densenet121", b"dense"]
        file.create_group("input").attrs["weight_names"] = np.zeros(0)
        for layer, names in (("densenet121", order), ("dense", ["dense/kernel", "dense/bias"])):
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                group[name] = arrays[name] if name in arrays else head[name.replace("dense", "predictions")]
    model = load(path)
    assert model.origin.prefix == "densenet121/"
    assert error_of(path, H5) < 1e-5
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = [b"input", b"densenet121", b"batch_normalization", b"dense"]
        group = file.create_group("batch_normalization")
        group.attrs["weight_names"] = [f"batch_normalization/{leaf}".encode() for leaf in NORM]
        for leaf in NORM:
            group[f"batch_normalization/{leaf}"] = np.ones(13, np.float32)
    with pytest.raises(NotADenseNet, match="outside"):
        load(path)


def flyyufelix_as(path: Path, *, keras: int, theano: bool, ordering: str) -> Path:
    """The reference file as other versions of Keras and other backends store the same network."""
    two = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}
    with h5py.File(FLYYUFELIX) as old, h5py.File(path, "w") as new:
        new.attrs["layer_names"] = old.attrs["layer_names"]
        if keras == 2:
            new.attrs["backend"] = b"theano" if theano else b"tensorflow"
            new.attrs["keras_version"] = b"2.0.5"
        for raw in old.attrs["layer_names"]:
            layer, names = raw.decode(), []
            group = new.create_group(layer)
            for weight in old[layer].attrs["weight_names"]:
                value = old[layer][weight][()]
                name = weight.decode().removesuffix(":0")
                leaf = name.removeprefix(f"{layer}_")
                if keras == 2:
                    name = f"{layer}/{name}" if layer.endswith("_scale") else f"{layer}/{two.get(leaf, leaf)}"
                if value.ndim == 4:
                    value = value[::-1, ::-1] if theano else value
                    value = value.transpose(3, 2, 0, 1) if keras == 1 and ordering == "th" else value
                names.append((name if theano else f"{name}:0").encode())
                group[names[-1]] = value
            group.attrs["weight_names"] = names
    return path


@pytest.mark.parametrize("ordering", ["tf", "th"])
@pytest.mark.parametrize("theano", [False, True])
@pytest.mark.parametrize("keras", [1, 2])
def test_flyyufelix_in_every_dialect(tmp_path: Path, keras: int, theano: bool, ordering: str) -> None:
    path = flyyufelix_as(tmp_path / "w.h5", keras=keras, theano=theano, ordering=ordering)
    assert same_tensors(path, FLYYUFELIX)


# -- what a config says ----------------------------------------------------------------


def test_config_says_eps(tmp_path: Path) -> None:
    def change(config: Any) -> Any:
        for layer in layers_of(config, "BatchNormalization"):
            layer["config"]["epsilon"] = 0.01
        return config

    assert load(rewritten_zip(tmp_path / "m.keras", change)).config.eps == 0.01


def test_config_says_that_the_last_relu_is_missing(tmp_path: Path) -> None:
    """keras-applications issue 31."""

    def change(config: Any) -> Any:
        text = json.dumps(config).replace('["relu", 0, 0]', '["bn", 0, 0]')
        config = json.loads(text)
        config["config"]["layers"] = [x for x in config["config"]["layers"] if x["config"]["name"] != "relu"]
        return config

    assert load(ZIP).config.final_relu
    assert not load(rewritten_zip(tmp_path / "m.keras", change)).config.final_relu


def test_config_says_softmax_which_is_not_part_of_the_logits(tmp_path: Path) -> None:
    def change(config: Any) -> Any:
        layers_of(config, "Dense")[0]["config"]["activation"] = "softmax"
        return config

    assert error_of(rewritten_zip(tmp_path / "m.keras", change), ZIP) < 1e-5


def _set(kind: str, **values: Any) -> Callable[[Any], Any]:
    def change(config: Any) -> Any:
        layers_of(config, kind)[1 if kind != "Dense" else 0]["config"].update(values)
        return config

    return change


def _class(kind: str, other: str) -> Callable[[Any], Any]:
    def change(config: Any) -> Any:
        layers_of(config, kind)[0]["class_name"] = other
        return config

    return change


def _new_first(config: Any) -> Any:
    for layer in layers_of(config, "Concatenate"):
        layer["inbound_nodes"][0]["args"][0].reverse()
    return config


@pytest.mark.parametrize(
    "change",
    [
        _set("BatchNormalization", scale=False),
        _set("Conv2D", dilation_rate=[2, 2]),
        _set("Conv2D", activation="relu"),
        _set("Activation", activation="elu"),
        _set("Dense", activation="relu"),
        _set("ZeroPadding2D", padding=[[1, 0], [1, 0]]),
        _class("Activation", "PReLU"),
        _class("MaxPooling2D", "Resizing"),
    ],
)
def test_a_model_wired_otherwise_is_refused(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    with pytest.raises(NotADenseNet):
        load(rewritten_zip(tmp_path / "m.keras", change))


def test_new_feature_maps_before_the_old_ones_are_put_in_order(tmp_path: Path) -> None:
    """The weights of what follows stand for channels in the file's order."""
    changed, plain = load(rewritten_zip(tmp_path / "m.keras", _new_first)), load(ZIP)
    k, layers = plain.config.growth_rate, plain.config.block_config[-1]
    width = plain.tensors["norm.weight"].shape[0]
    order = [*range(k * layers, width), *(n for i in range(layers, 0, -1) for n in range(k * (i - 1), k * i))]
    want = plain.tensors["norm.running_mean"].read()[order]
    assert np.array_equal(changed.tensors["norm.running_mean"].read(), want)
    classifier = plain.tensors["classifier.weight"].read()[:, order]
    assert np.array_equal(changed.tensors["classifier.weight"].read(), classifier)


def _before_the_network(kind: str, call: Any = None, **settings: Any) -> Callable[[Any], Any]:
    """One more layer between the image and what takes it."""

    def change(config: Any) -> Any:
        layers = config["config"]["layers"]
        image = layers[0]["config"]["name"]
        text = json.dumps(layers[1:]).replace(f'["{image}", 0, 0]', '["front", 0, 0]')
        tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": [image, 0, 0]}}
        node = {"args": [tensor, *([] if call is None else [call])], "kwargs": {}}
        front = {"class_name": kind, "name": "front", "config": {"name": "front", **settings}, "inbound_nodes": [node]}
        config["config"]["layers"] = [layers[0], front, *json.loads(text)]
        return config

    return change


BGR = [{"class_name": "__ellipsis__", "config": {}}, {"class_name": "__slice__", "config": {"step": -1}}]
WIDE = [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize(
    ("change", "images"),
    [
        (_before_the_network("Rescaling", scale=2.0, offset=0.0), lambda x: 2 * x),
        (_before_the_network("TrueDivide", 255.0), lambda x: x / 255),
        (_before_the_network("TrueDivide", [2.0, 4.0, 8.0]), lambda x: x / np.float32([2, 4, 8]).reshape(3, 1, 1)),
        (_before_the_network("GetItem", BGR), lambda x: x[:, ::-1]),
        (_before_the_network("RandomFlip"), lambda x: x),
    ],
)
def test_what_scales_or_turns_images_is_part_of_the_network(
    tmp_path: Path, change: Callable[[Any], Any], images: Callable[[Any], Any]
) -> None:
    path, x = rewritten_zip(tmp_path / "m.keras", change), np.load(ZIP.parent / "input.npy")
    want = logits_of(ZIP, np.ascontiguousarray(images(x)))
    assert np.abs(logits_of(path, x) - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize(
    ("change", "mean", "std"),
    [
        (_before_the_network("Rescaling", scale=1 / 127.5, offset=-1), (0.5,) * 3, (0.5,) * 3),
        (_before_the_network("Subtract", [0.25, 0.5, 0.75]), (0.25, 0.5, 0.75), (1.0,) * 3),
        (_before_the_network("Normalization", mean=WIDE, variance=[[4.0, 4.0, 1.0]], axis=-1), (1, 2, 3), (2, 2, 1)),
    ],
)
def test_what_shifts_images_is_recorded_as_preprocessing(
    tmp_path: Path, change: Callable[[Any], Any], mean: Any, std: Any
) -> None:
    model = load(rewritten_zip(tmp_path / "m.keras", change))
    assert model.images.preprocess is not None
    np.testing.assert_allclose((model.images.preprocess.mean, model.images.preprocess.std), (mean, std), rtol=1e-5)
    assert "front" in " ".join(model.notes)


@pytest.mark.parametrize(
    "change",
    [
        _before_the_network("Resizing", height=32, width=32),
        _before_the_network("Power", 2.0),
        _before_the_network("TrueDivide", [[[1.0], [2.0]]]),
        _before_the_network("GetItem", [{"class_name": "__slice__", "config": {"step": -1}}]),
    ],
)
def test_what_cannot_be_carried_is_refused_by_its_name(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    with pytest.raises(NotADenseNet, match="front"):
        load(rewritten_zip(tmp_path / "m.keras", change))


def _behind_the_network(kind: str, **settings: Any) -> Callable[[Any], Any]:
    """One more layer behind the last."""

    def change(config: Any) -> Any:
        inner = config["config"]
        last = inner["layers"][-1]["name"]
        tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": [last, 0, 0]}}
        node = {"args": [tensor], "kwargs": {}}
        behind = {"class_name": kind, "name": "behind", "config": {"name": "behind", **settings}}
        inner["layers"].append({**behind, "inbound_nodes": [node]})
        inner["output_layers"] = json.loads(json.dumps(inner["output_layers"]).replace(f'"{last}"', '"behind"'))
        return config

    return change


def test_a_softmax_over_the_images_of_a_batch_is_none_over_the_classes(tmp_path: Path) -> None:
    path = rewritten_zip(tmp_path / "m.keras", _behind_the_network("Softmax", axis=-1))
    assert load(path).images.activation == "softmax"
    for kind in ("Softmax", "Argmax"):
        with pytest.raises(NotADenseNet, match="behind"):
            load(rewritten_zip(tmp_path / "n.keras", _behind_the_network(kind, axis=0)))


def test_a_norm_before_the_classifier_keeps_what_it_does(tmp_path: Path) -> None:
    """Of the whole-model file, with a norm between pooling and classifier."""
    path, rng = tmp_path / "m.h5", np.random.default_rng(3)
    shutil.copy(H5, path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layers = config["config"]["layers"]
        at = next(i for i, layer in enumerate(layers) if layer["class_name"] == "Dense")
        pooled = layers[at - 1]["config"]["name"]
        norm = json.loads(json.dumps(layers_of(config, "BatchNormalization")[0]).replace('"conv1_bn"', '"head_bn"'))
        norm["config"]["epsilon"] = 0.01
        norm["inbound_nodes"] = json.loads(json.dumps(layers[at]["inbound_nodes"]))
        layers[at]["inbound_nodes"] = json.loads(
            json.dumps(layers[at]["inbound_nodes"]).replace(f'"{pooled}"', '"head_bn"')
        )
        layers.insert(at, norm)
        file.attrs["model_config"] = json.dumps(config)
        whole = file["model_weights"]
        whole.attrs["layer_names"] = [*np.array(whole.attrs["layer_names"]).astype("S"), b"head_bn"]
        group, width = whole.create_group("head_bn"), load(H5).tensors["norm.weight"].shape[0]
        values = {leaf: rng.uniform(0.5, 2, width).astype(np.float32) for leaf in NORM}
        group.attrs["weight_names"] = [f"head_bn/{leaf}".encode() for leaf in NORM]
        for leaf, value in values.items():
            group[f"head_bn/{leaf}"] = value
    gamma, beta, mean, variance = values.values()
    model = load(path)
    assert model.config == replace(load(H5).config, head=("norm",))
    found = {leaf: model.tensors[f"head.0.norm.{leaf}"].read().astype(np.float64) for leaf in NORM_TENSORS}
    scale = found["weight"] / np.sqrt(found["running_var"] + model.config.eps)
    np.testing.assert_allclose(scale, gamma / np.sqrt(variance + 0.01), rtol=1e-5)
    assert np.array_equal(found["bias"], beta) and np.array_equal(found["running_mean"], mean)


def test_kerashub_says_how_many_layers_there_are(tmp_path: Path) -> None:
    """keras_hub.models.DenseNetImageClassifier: its config lists no layers."""
    path = CASES / "kerashub" / "model.keras"
    assert error_of(path, path) < 1e-5
    config = load(path).config
    assert (config.padding, config.eps) == ("same", 1.001e-5)


def test_a_model_with_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFile, match="Lambda"):
        load(rewritten_zip(tmp_path / "m.keras", _class("Activation", "Lambda")))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"config": 3}', '{"config": {"layers": [{}]}}', "[" * 100_000])
def test_a_damaged_config_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with zipfile.ZipFile(ZIP) as old, zipfile.ZipFile(tmp_path / "m.keras", "w") as new:
        for name in old.namelist():
            new.writestr(name, text if name == "config.json" else old.read(name))
    with pytest.raises((UnreadableFile, NotADenseNet)):
        load(tmp_path / "m.keras")
