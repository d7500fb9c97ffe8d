"""MindSpore: ``.ckpt`` files, whole and in slices, with MindCV's names."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from helpers.networks import SMALL, imagenet_configs, random_tensors
from helpers.wire import data, number, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import convert, load
from converter.core.errors import ConverterError, UnreadableFile
from converter.formats import open_checkpoint
from densenet.config import DenseNetConfig

LEAVES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
TYPES = {"float32": "Float32", "float16": "Float16", "float64": "Float64", "int32": "Int32", "bfloat16": "BFloat16"}


def mindcv_name(tensor: str) -> str:
    module, _, leaf = tensor.rpartition(".")
    parts = module.split(".")
    leaf = LEAVES[leaf] if "norm" in parts[-1] else leaf
    numbers = [int(part) for part in parts if part.isdecimal()]
    if parts[0] == "blocks":
        return f"features.denseblock{numbers[0] + 1}.cell_list.{numbers[1]}.{parts[-1]}.{leaf}"
    if parts[0] == "transitions":
        return f"features.transition{numbers[0] + 1}.features.{parts[-1]}.{leaf}"
    return {"stem": f"features.{parts[-1]}0", "norm": "features.norm5", "classifier": "classifier"}[
        parts[0]
    ] + f".{leaf}"


def value(name: str, array: np.ndarray, *, packed: bool = False, dims: tuple[int, ...] | None = None) -> bytes:
    """One entry of a checkpoint; ``dims`` where they are not those of what it holds."""
    dims = array.shape if dims is None else dims
    tensor = data(1, b"".join(map(varint, dims))) if packed else b"".join(number(1, n) for n in dims)
    tensor += data(2, TYPES[array.dtype.name]) + data(3, array.tobytes())
    return data(1, data(1, name) + data(2, tensor))


def ckpt(tensors: dict[str, np.ndarray], *, packed: bool = False) -> bytes:
    return b"".join(value(mindcv_name(name), array, packed=packed) for name, array in tensors.items())


def loaded(path: Path, content: bytes) -> tuple[DenseNetConfig, dict[str, np.ndarray]]:
    path.write_bytes(content)
    model = load(path)
    return model.config, {name: tensor.read() for name, tensor in model.tensors.items()}


def same(have: dict, want: dict) -> None:
    assert set(have) == set(want)
    for name, array in want.items():
        assert have[name].dtype == array.dtype
        np.testing.assert_array_equal(have[name], array, err_msg=name)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
def test_types(tmp_path, packed, dtype):
    tensors = random_tensors(SMALL, dtype=dtype)
    config, have = loaded(tmp_path / "x.ckpt", ckpt(tensors, packed=packed))
    assert config == SMALL
    same(have, tensors)


def test_slices(tmp_path):
    tensors = random_tensors(SMALL)
    content = b""
    for name, array in tensors.items():
        for piece in np.array_split(array.reshape(-1), 3 if array.size > 20 else 1):
            content += value(mindcv_name(name), piece, dims=array.shape)
    same(loaded(tmp_path / "x.ckpt", content)[1], tensors)


def test_a_checksum_behind_it(tmp_path):
    tensors = random_tensors(SMALL)
    same(loaded(tmp_path / "x.ckpt", ckpt(tensors) + b"crc_num" + bytes(10))[1], tensors)


def test_a_training_checkpoint(tmp_path):
    tensors = random_tensors(SMALL)
    content = value("learning_rate", np.array(0.1, np.float32), dims=(0,)) + ckpt(tensors)
    content += b"".join(
        value(f"moments.{mindcv_name(name)}", array) for name, array in tensors.items() if "running" not in name
    )
    content += data(1, data(1, "arch") + data(2, data(2, "str") + data(3, "densenet".encode("utf-32-le"))))
    content += value("global_step", np.array([7], np.int32)) + value("epoch_num", np.array(3, np.int32), dims=(0,))
    config, have = loaded(tmp_path / "x.ckpt", content)
    assert config == SMALL
    same(have, tensors)
    assert open_checkpoint(tmp_path / "x.ckpt").tree["arch"] == "densenet"


@settings(max_examples=30)
@given(imagenet_configs())
def test_any_small_network_and_back(tmp_path_factory, config):
    folder, tensors = tmp_path_factory.mktemp("mindspore"), random_tensors(config)
    have = loaded(folder / "x.ckpt", ckpt(tensors))
    assert have[0] == config
    same(have[1], tensors)
    convert(folder / "x.ckpt", folder / "y.safetensors", to="mindcv")
    written = {name: tensor.read() for name, tensor in open_checkpoint(folder / "y.safetensors").tree.items()}
    same(written, {mindcv_name(name): array for name, array in tensors.items()})
    again = load(folder / "y.safetensors")
    assert (again.config, again.origin.layout) == (config, "mindcv")
    same({name: tensor.read() for name, tensor in again.tensors.items()}, tensors)


def refused(path: Path, content: bytes, kind: type[ConverterError] = UnreadableFile) -> str:
    path.write_bytes(content)
    with pytest.raises(kind) as error:
        load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def test_every_truncation_is_refused(tmp_path):
    content = ckpt(random_tensors(SMALL))
    for end in [*range(1, 300), *range(300, len(content), 83), len(content) - 1]:
        refused(tmp_path / "x.ckpt", content[:end], ConverterError)


def test_forged_entries_are_refused(tmp_path):
    path, first = tmp_path / "x.ckpt", value("a", np.ones(2, np.float32))
    assert "do not fit" in refused(path, first + value("b", np.ones(2, np.float32), dims=(1 << 40,)))
    assert "do not fit" in refused(path, first + value("b", np.ones(2, np.float32), dims=((1 << 64) - 1,)))
    assert "do not fit" in refused(path, first + value("a", np.ones(2, np.float16)))
    assert "dimensions" in refused(path, first + value("b", np.ones(1, np.float32), dims=(1,) * 33, packed=True))
    assert "Complex64" in refused(path, first + data(1, data(1, "b") + data(2, data(2, "Complex64"))))
    assert "MapTensor" in refused(path, first + data(1, data(1, "b") + data(3, b"")))
    assert "field 9" in refused(path, first + number(9, 1))


@settings(max_examples=60)
@given(st.data())
def test_damage_anywhere_is_an_error_or_harmless(tmp_path_factory, draws):
    content = bytearray(ckpt(random_tensors(SMALL)))
    for _ in range(draws.draw(st.integers(1, 4))):
        content[draws.draw(st.integers(0, len(content) - 1))] = draws.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("mindspore") / "x.ckpt"
    path.write_bytes(content)
    try:
        for tensor in load(path).tensors.values():
            tensor.read()
    except ConverterError as error:
        assert "\n" not in str(error)
