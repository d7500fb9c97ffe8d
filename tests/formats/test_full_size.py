"""Every container with arrays as large as real networks have: beyond 64 KiB, and beyond a chunk of a megabyte."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import caffe, mxnet, t7, tensorflow
from helpers.networks import random_model, random_tensors, save
from helpers.paddle import named, write_pickle, write_program

from converter import load
from converter.formats.torch.zip_writer import write_torch
from converter.layouts.paddle import PADDLE, STATIC
from converter.layouts.torchvision import TORCHVISION
from densenet.config import DenseNetConfig

FULL = DenseNetConfig(growth_rate=8, block_config=(1,), init_features=520, bn_size=66, num_classes=5)
"""One layer, with a convolution of 1.1 MB."""


def same(path: Path, want: dict[str, np.ndarray]) -> None:
    tensors = load(path).tensors
    assert max(array.nbytes for array in want.values()) > 1 << 20
    assert {name for name in tensors if not name.endswith("num_batches_tracked")} == set(want)
    assert all(np.array_equal(tensors[name].read(), array) for name, array in want.items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz", ".onnx"])
def test_what_we_write(suffix: str, tmp_path: Path) -> None:
    same(save(random_model(FULL), tmp_path / f"model{suffix}"), random_tensors(FULL))


@pytest.mark.parametrize("to", ["keras", "keras2"])
def test_hdf5(to: str, tmp_path: Path) -> None:
    config = replace(FULL, eps=1.001e-5)
    same(save(random_model(config), tmp_path / "model.h5", to), random_tensors(config))


def tensors_of(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("as_tensors", [False, True], ids=["numpy", "torch"])
def test_pickles(as_tensors: bool, protocol: int, tmp_path: Path) -> None:
    want, arrays = named(TORCHVISION, FULL)
    value = tensors_of(arrays) if as_tensors else arrays
    same(write_pickle(tmp_path / "model.pkl", {"state_dict": value}, protocol), want)


@pytest.mark.parametrize("new", [False, True], ids=["legacy", "zip"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_numpy_in_torch_files(new: bool, protocol: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    want, arrays = named(TORCHVISION, FULL)
    path = tmp_path / "model.pth"
    torch.save(arrays, path, _use_new_zipfile_serialization=new, pickle_protocol=protocol)
    same(path, want)


@pytest.mark.parametrize("compress", [0, ("zlib", 1), ("gzip", 1), ("bz2", 1), ("xz", 0), ("lzma", 0)], ids=str)
def test_joblib(compress: Any, tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    want, arrays = named(TORCHVISION, FULL)
    joblib.dump(arrays, tmp_path / "model.joblib", compress=compress)
    same(tmp_path / "model.joblib", want)


def test_npy_of_a_dict(tmp_path: Path) -> None:
    want, arrays = named(TORCHVISION, FULL)
    np.save(tmp_path / "model.npy", arrays, allow_pickle=True)  # type: ignore[arg-type]
    same(tmp_path / "model.npy", want)


def tarred(data: bytes) -> bytes:
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w:gz") as archive:
        info = tarfile.TarInfo("run/a.pth")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return result.getvalue()


def zipped(data: bytes) -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.pth", data)
    return result.getvalue()


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lambda data: lzma.compress(data, preset=0), tarred, zipped],
    ids=["gz", "bz2", "xz", "tar.gz", "zip"],
)
def test_packed(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    inner = save(random_model(FULL), tmp_path / "a.pth")
    (tmp_path / "packed").write_bytes(pack(inner.read_bytes()))
    same(tmp_path / "packed", random_tensors(FULL))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_torch_file_as_bytes_in_a_pickle(protocol: int, tmp_path: Path) -> None:
    from converter.core.checkpoint import Tensor

    want, arrays = named(TORCHVISION, FULL)
    write_torch(tmp_path / "a.pth", {name: Tensor.of(array) for name, array in arrays.items()})
    data = {"net": (tmp_path / "a.pth").read_bytes(), "epoch": 3}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(data, protocol))
    same(tmp_path / "model.pkl", want)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_paddle_pickles(protocol: int, tmp_path: Path) -> None:
    want, arrays = named(PADDLE, FULL)
    same(write_pickle(tmp_path / "model.pdparams", arrays, protocol), want)


def test_paddle_programs(tmp_path: Path) -> None:
    want, arrays = named(STATIC, FULL)
    write_program(tmp_path, arrays)
    same(tmp_path, want)


@pytest.mark.parametrize("kind", ["v1", "v2", "graph"])
def test_tensorflow(kind: str, tmp_path: Path) -> None:
    want, arrays = tensorflow.slim(replace(FULL, eps=1.1e-5, padding="same"))
    same(tensorflow.WRITERS[kind](tmp_path / "model.ckpt", arrays), want)  # type: ignore[operator]


@pytest.mark.parametrize("generation", [0, 2])
def test_mxnet(generation: int, tmp_path: Path) -> None:
    want = random_tensors(FULL)
    (tmp_path / "model.params").write_bytes(mxnet.params(mxnet.gluon(FULL, want, "legacy"), generation))
    same(tmp_path / "model.params", want)


@pytest.mark.parametrize("form", ["float", "unpacked"])
def test_caffe(form: str, tmp_path: Path) -> None:
    want = random_tensors(FULL)
    (tmp_path / "x.caffemodel").write_bytes(caffe.shicai(FULL, want, of_201=False, form=form))
    same(tmp_path / "x.caffemodel", want)


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
def test_t7(text: bool, tmp_path: Path) -> None:
    config = replace(t7.SMALL, block_config=(1, 1), init_features=240, bn_size=40 if text else 280)
    tensors = t7.weights(config)
    assert max(array.nbytes for array in tensors.values()) > (1 << 17 if text else 1 << 20)
    t7.check(t7.saved(tmp_path / "model.t7", t7.Official(config, tensors).network(), text=text), config, tensors)
