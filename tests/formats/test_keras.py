"""Keras files: storage of every kind, shards, damaged and hostile ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from helpers.keras import FILES, FLYYUFELIX, H5, WEIGHTS, error_of, same_tensors
from helpers.networks import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import load
from converter.core.checkpoint import Tensor
from converter.core.errors import CannotExpress, ConverterError, NotADenseNet, UnreadableFile, UnsafeFile
from converter.formats import open_checkpoint
from converter.formats.keras.h5_writer import write_keras_h5
from converter.layouts import layout_named
from converter.writing.in_layout import in_layout
from densenet.config import DenseNetConfig

# -- as Keras wrote them ---------------------------------------------------------------


def test_opening_reads_no_tensor(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    shutil.copy(H5, path)
    tensors = load(path).tensors
    assert all(np.isfinite(tensor.read()).all() for tensor in tensors.values())
    tensors = load(path).tensors
    os.truncate(path, 100)
    for tensor in tensors.values():
        with pytest.raises(UnreadableFile, match="changed while it was read"):
            tensor.read()


# -- .weights.h5 without names, and in several files --------------------------------------


def test_optimizer_state_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    shutil.copy(WEIGHTS, path)
    with h5py.File(path, "r+") as file:
        for i in range(12):
            file[f"optimizer/vars/{i}"] = np.ones(3, np.float32)
    assert same_tensors(path, WEIGHTS)


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
@settings(max_examples=25)
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


def test_same_model_same_bytes(tmp_path: Path) -> None:
    tensors = in_layout(load(FLYYUFELIX), layout_named("keras")).tensors
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
        in_layout(random_model(DenseNetConfig.cifar(40, 12, bottleneck=True)), layout_named("keras"))
    assert not list(tmp_path.iterdir())
