"""Keras files: as Keras wrote them, in the variants other versions write, damaged, hostile, and written by us."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from cases import CASES, logits_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import imagenet_configs, random_tensors

from converter.core.checkpoint import Tensor
from converter.core.errors import CannotExpress, ConverterError, NotADenseNet, UnreadableFile, UnsafeFile
from converter.core.model import Model
from converter.core.model import Origin as Source
from converter.formats import open_checkpoint
from converter.formats.keras.h5_writer import write_keras_h5
from converter.layouts import layout_named
from converter.reading.load import load
from converter.structures.keras_numbered import LEAF_OF
from converter.writing.in_layout import in_layout
from densenet.config import DenseNetConfig

H5 = CASES / "keras3-h5" / "model.h5"
ZIP = CASES / "keras3-zip" / "model.keras"
WEIGHTS = CASES / "keras3-weights" / "model.weights.h5"
FLYYUFELIX = CASES / "flyyufelix-k122-tf-tf" / "densenet121_weights_tf.h5"
FILES = (H5, ZIP, WEIGHTS, FLYYUFELIX)
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def error_of(path: Path, case: Path) -> float:
    """Largest difference from the logits Keras computed, relative to the largest logit."""
    want = np.load(case.parent / "logits.npy")
    got = logits_of(path, np.load(case.parent / "input.npy"))
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


def same_tensors(a: Path, b: Path) -> bool:
    left, right = load(a), load(b)
    return left.config == right.config and all(
        np.array_equal(left.tensors[name].read(), tensor.read()) for name, tensor in right.tensors.items()
    )


def rewritten_zip(target: Path, config: Callable[[Any], Any]) -> Path:
    """The .keras file with its config changed."""
    with zipfile.ZipFile(ZIP) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, json.dumps(config(json.loads(data))) if name == "config.json" else data)
    return target


def layers_of(config: Any, kind: str) -> list[Any]:
    return [layer for layer in config["config"]["layers"] if layer["class_name"] == kind]


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
    assert (model.source.layout, model.config.eps, model.config.padding) == (layout, eps, "symmetric")


def test_one_network_whatever_file_keras_put_it_in() -> None:
    assert same_tensors(H5, ZIP)
    assert same_tensors(H5, WEIGHTS)


def test_opening_reads_no_tensor() -> None:
    tensor = next(iter(load(H5).tensors.values()))
    base = tensor.read()
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


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
    assert model.source.layout == "keras-numbered"
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


def test_optimizer_state_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    shutil.copy(WEIGHTS, path)
    with h5py.File(path, "r+") as file:
        for i in range(12):
            file[f"optimizer/vars/{i}"] = np.ones(3, np.float32)
    assert same_tensors(path, WEIGHTS)


def test_names_from_the_config_when_the_weights_have_none(tmp_path: Path) -> None:
    weights = nameless(tmp_path / "w.h5").read_bytes()
    with zipfile.ZipFile(ZIP) as old, zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, weights if name.endswith(".h5") else old.read(name))
    assert load(tmp_path / "model.keras").source.layout == "keras"
    assert same_tensors(tmp_path / "model.keras", ZIP)


def sharded(folder: Path) -> Path:
    weight_map: dict[str, Any] = {}
    names = ("model_00000.weights.h5", "model_00001.weights.h5")
    with h5py.File(WEIGHTS) as old, h5py.File(folder / names[0], "w") as a, h5py.File(folder / names[1], "w") as b:
        for i, name in enumerate(sorted(old["layers"])):
            old.copy(f"layers/{name}", (a, b)[i % 2].require_group("layers"))
            if len(old["layers"][name]["vars"]):
                weight_map[f"/layers/{name}/vars"] = names[i % 2] if i % 3 else [names[i % 2]]
    index = folder / "model.weights.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def test_sharded_weights(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    assert same_tensors(index, WEIGHTS)
    assert len(open_checkpoint(index).files) == 3


def test_a_shard_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    index = sharded(folder)
    (folder / "model_00001.weights.h5").rename(tmp_path / "model_00001.weights.h5")
    with pytest.raises(UnreadableFile, match="missing"):
        load(index)
    index.write_text(index.read_text().replace("model_00001", "../model_00001"))
    with pytest.raises(UnsafeFile, match="outside"):
        load(index)


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
    assert model.source.prefix == "densenet121/"
    assert error_of(path, H5) < 1e-5
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = [b"input", b"densenet121", b"batch_normalization", b"dense"]
        group = file.create_group("batch_normalization")
        group.attrs["weight_names"] = [f"batch_normalization/{leaf}".encode() for leaf in NORM]
        for leaf in NORM:
            group[f"batch_normalization/{leaf}"] = np.ones(12, np.float32)
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
        _set("BatchNormalization", epsilon=0.5),
        _set("BatchNormalization", scale=False),
        _set("Conv2D", dilation_rate=[2, 2]),
        _set("Conv2D", activation="relu"),
        _set("Activation", activation="elu"),
        _set("Dense", activation="relu"),
        _set("ZeroPadding2D", padding=[[1, 0], [1, 0]]),
        _class("Activation", "PReLU"),
        _class("MaxPooling2D", "Rescaling"),
        _new_first,
    ],
)
def test_a_model_wired_otherwise_is_refused(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    with pytest.raises(NotADenseNet):
        load(rewritten_zip(tmp_path / "m.keras", change))


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


# -- storage ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"compression": "gzip"}, {"compression": "lzf", "shuffle": True}, {"chunks": True}])
def test_chunked_and_compressed_weights(tmp_path: Path, how: dict[str, Any]) -> None:
    path = tmp_path / "model.weights.h5"
    shutil.copy(WEIGHTS, path)
    with h5py.File(path, "r+") as file:
        for layer in file["layers"].values():
            for name in list(layer["vars"]):
                value = layer["vars"][name][()]
                del layer["vars"][name]
                layer["vars"].create_dataset(name, data=value, **how)
    assert same_tensors(path, WEIGHTS)


@pytest.mark.parametrize("dtype", ["float16", ">f4", "float64", "bfloat16"])
def test_element_types(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "model.weights.h5"
    shutil.copy(WEIGHTS, path)
    with h5py.File(path, "r+") as file:
        for layer in file["layers"].values():
            for name in list(layer["vars"]):
                value = layer["vars"][name][()]
                del layer["vars"][name]
                if dtype == "bfloat16":  # as Keras 3 stores it
                    layer["vars"].create_dataset(name, data=value.astype(ml_dtypes.bfloat16))
                    layer["vars"][name].attrs["dtype"] = "bfloat16"
                else:
                    layer["vars"][name] = value.astype(dtype)
    have, want = load(path), load(WEIGHTS)
    target = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype).newbyteorder("=")
    for name, tensor in want.tensors.items():
        assert have.tensors[name].dtype == target
        assert np.array_equal(have.tensors[name].read(), tensor.read().astype(target))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_files_give_one_clear_error_or_a_model(tmp_path: Path, path: Path, data: st.DataObject) -> None:
    original = path.read_bytes()
    damaged = bytearray(original[: data.draw(st.integers(1, len(original)))])
    for _ in range(data.draw(st.integers(0, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    target = tmp_path / path.name
    target.write_bytes(damaged)
    try:
        with np.errstate(all="ignore"):
            for tensor in load(target).tensors.values():
                tensor.read()
    except ConverterError as error:
        assert "\n" not in str(error)
        assert str(target) in str(error)


def _external_link(file: h5py.File) -> None:
    file["layers/conv2d/vars/1"] = h5py.ExternalLink("/etc/passwd", "/")


def _soft_link(file: h5py.File) -> None:
    file["layers/conv2d/vars/1"] = h5py.SoftLink("/layers/conv2d/vars/0")


def _external_data(file: h5py.File) -> None:
    file.create_dataset("layers/conv2d/vars/1", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def _virtual_data(file: h5py.File) -> None:
    virtual = h5py.VirtualLayout((4,), "f4")
    virtual[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("layers/conv2d/vars/1", virtual)


@pytest.mark.parametrize("change", [_external_link, _soft_link, _external_data, _virtual_data])
def test_values_from_other_files_are_refused(tmp_path: Path, change: Callable[[h5py.File], None]) -> None:
    path = tmp_path / "model.weights.h5"
    shutil.copy(WEIGHTS, path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(UnsafeFile):
        load(path)


def _loop(file: h5py.File) -> None:
    file["layers/conv2d/again"] = file["layers"]


def _never_written(file: h5py.File) -> None:
    file.create_dataset("layers/conv2d/vars/1", (1 << 40,), "f4")


def _empty_chunks(file: h5py.File) -> None:
    file.create_dataset("layers/conv2d/vars/1", (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip")


def _bomb(file: h5py.File) -> None:
    dataset = file.create_dataset("layers/conv2d/vars/1", (1 << 30,), "f4", chunks=(1 << 20,), compression="gzip")
    dataset[:8] = 0


@pytest.mark.parametrize("change", [_loop, _never_written, _empty_chunks, _bomb])
def test_absurd_sizes_are_refused(tmp_path: Path, change: Callable[[h5py.File], None]) -> None:
    path = tmp_path / "model.weights.h5"
    shutil.copy(WEIGHTS, path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(UnreadableFile):
        load(path)


@pytest.mark.parametrize("path", [H5, WEIGHTS])
def test_a_text_that_claims_gigabytes_is_refused_unread(tmp_path: Path, path: Path) -> None:
    data = bytearray(path.read_bytes())
    texts = [b"model_config", b"backend"] if path == H5 else [b"name\0"]
    for text in texts:  # the claim stands some bytes behind the attribute's name
        at = data.find(text)
        length = next(i for i in range(at + len(text), at + 120) if data[i + 4 : i + 12].strip(b"\0") and data[i])
        data[length : length + 4] = b"\xff\xff\xff\xf0"
    target = tmp_path / path.name
    target.write_bytes(data)
    with pytest.raises(UnreadableFile):
        load(target)


def test_other_hdf5_is_said_to_be_no_densenet(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["measurements/a"] = np.arange(4.0)
        file["text"] = "no weights"
    with pytest.raises(NotADenseNet):
        load(tmp_path / "x.h5")


# -- written by us --------------------------------------------------------------------------


def model_from(config: DenseNetConfig, seed: int = 0) -> Model:
    tensors = {name: Tensor.of(array) for name, array in random_tensors(config, seed).items()}
    return Model(config, tensors, Source("random", "", "", "library"))


@pytest.mark.parametrize("layout", ["keras", "keras2"])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=imagenet_configs())
def test_round_trip(tmp_path: Path, layout: str, config: DenseNetConfig) -> None:
    model = model_from(config)
    path = tmp_path / "weights.h5"
    tensors, notes = in_layout(model, layout_named(layout))
    write_keras_h5(path, tensors)
    back = load(path)
    assert any("eps" in note for note in notes)
    assert back.source.layout == layout
    assert back.config.eps == 1.001e-5
    assert (back.config.block_config, back.config.growth_rate) == (config.block_config, config.growth_rate)
    for name, tensor in model.tensors.items():
        want = tensor.read()
        if name.endswith("running_var"):
            want = (want.astype(np.float64) + (config.eps - 1.001e-5)).astype(np.float32)
        assert np.array_equal(back.tensors[name].read(), want)


def test_same_model_same_bytes(tmp_path: Path) -> None:
    tensors, _ = in_layout(load(FLYYUFELIX), layout_named("keras"))
    for name in ("a.h5", "b.h5"):
        write_keras_h5(tmp_path / name, tensors)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert error_of(tmp_path / "a.h5", FLYYUFELIX) < 1e-5


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    array = Tensor.of(np.zeros(3, ml_dtypes.bfloat16))
    with pytest.raises(CannotExpress, match="fp32"):
        write_keras_h5(tmp_path / "w.h5", {"bn/gamma": array})
    with pytest.raises(CannotExpress, match="--to keras"):
        write_keras_h5(tmp_path / "w.h5", {"gamma": Tensor.of(np.zeros(3, np.float32))})
    with pytest.raises(CannotExpress, match=r"call it w\.h5"):
        write_keras_h5(tmp_path / "w.weights.h5", {"bn/gamma": Tensor.of(np.zeros(3, np.float32))})
    with pytest.raises(CannotExpress):
        in_layout(model_from(DenseNetConfig.cifar(40, 12, bottleneck=True)), layout_named("keras"))
    assert not list(tmp_path.iterdir())


# -- against Keras itself ------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


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
    ours = model_from(config, 3)
    tensors, _ = in_layout(ours, layout_named("keras"))
    write_keras_h5(tmp_path / "w.h5", tensors)
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
    tensors = {name: Tensor.of(array) for name, array in random_tensors(config).items()}
    written, _ = in_layout(Model(config, tensors, Source("x", "", "", "library")), layout_named("keras2"))
    write_keras_h5(tmp_path / "w.h5", written)
    with h5py.File(tmp_path / "w.h5", "a") as file:
        file.attrs["keras_version"] = version
    found = load(tmp_path / "w.h5")
    assert found.config.final_relu is relu
    assert any("final_relu" in note for note in found.notes) is not relu
    assert load(tmp_path / "w.h5", settings={"final_relu": True}).config.final_relu
