"""Paddle: pickles, programs with their parameters, a file per parameter; and bare pickles of anybody's."""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from helpers.cases import CASES, logits_of
from helpers.networks import SMALL, imagenet_configs, random_model, random_tensors, save
from helpers.paddle import named, pir, program, record, same, write_pickle, write_program
from helpers.wire import number
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import convert, load
from converter.core.errors import ConverterError, UnreadableFile, UnsafeFile
from converter.formats import open_checkpoint
from converter.layouts.paddle import PADDLE, STATIC
from converter.layouts.torchvision import TORCHVISION

# -- writers of each container ------------------------------------------------------------


class Parameter:
    """Pickles as Paddle's tensors do inside other objects: ``tuple((name, array))``."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.pair = name, array

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self.pair,)


# -- reference files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "file", ["paddle-jit2/inference.pdmodel", "paddle-jit3/inference.json", "paddle-jit3", "paddle-jit2"]
)
def test_reference(file):
    folder = CASES / file.partition("/")[0]
    want = np.load(folder / "logits.npy")
    have = logits_of(CASES / file, np.load(folder / "input.npy"))
    assert np.abs(have - want).max() <= 1e-5 * np.abs(want).max()
    files = [path.name for path in open_checkpoint(CASES / file).files]
    assert files == ["inference.pdmodel" if "jit2" in file else "inference.json", "inference.pdiparams"]


# -- pickles ------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("layout", [PADDLE, STATIC, TORCHVISION], ids=lambda layout: layout.name)
def test_pickles(tmp_path, protocol, layout):
    tensors, arrays = named(layout)
    names = {"StructuredToParameterName@@": dict.fromkeys(arrays, "conv2d_0.w_0")} if layout is PADDLE else {}
    for file in ("x.pdparams", "x.pkl"):
        model = load(write_pickle(tmp_path / file, {**arrays, **names}, protocol))
        assert model.config == SMALL
        same(model, tensors)


@pytest.mark.parametrize("dtype", [">f4", "f8", "f2"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_of_other_types_and_orders(tmp_path, dtype, protocol):
    tensors, arrays = named(PADDLE, dtype=dtype)
    turned = {key: np.asfortranarray(array) for key, array in arrays.items()}
    model = load(write_pickle(tmp_path / "x.pdparams", turned, protocol))
    same(model, tensors)
    assert all(tensor.dtype.isnative for tensor in model.tensors.values())


def test_bfloat16(tmp_path):
    tensors, arrays = named(PADDLE, dtype=ml_dtypes.bfloat16)
    bits = {key: array.view(np.uint16) for key, array in arrays.items()}
    same(load(write_pickle(tmp_path / "x.pdparams", bits)), tensors)


@pytest.mark.parametrize("protocol", [2, 4])
def test_nested_objects(tmp_path, protocol):
    tensors, arrays = named(PADDLE)
    state = OrderedDict((key, Parameter(f"p_{i}", array)) for i, (key, array) in enumerate(arrays.items()))
    value = {"epoch": 3, "model": state, "optimizer": {"moment": Parameter("m", arrays["out.bias"])}, "t": (1, "x")}
    model = load(write_pickle(tmp_path / "x.pdparams", value, protocol))
    same(model, tensors)
    assert model.origin.inside == "model"


def test_big_arrays_in_slices(tmp_path):
    tensors, arrays = named(PADDLE)
    value: dict[str, Any] = {"UnpackBigParamInfor@@": {}}
    for key, array in arrays.items():
        parts = np.array_split(array.reshape(-1), 3)
        names = [f"{key}@@.{i}" for i in range(3)]
        value["UnpackBigParamInfor@@"][key] = {"OriginShape": array.shape, "slices": names}
        value |= dict(zip(names, parts))
    path = write_pickle(tmp_path / "x.pdparams", value, 2)
    same(load(path), tensors)
    value.pop(names[1])
    with pytest.raises(UnreadableFile, match="not complete"):
        load(write_pickle(path, value, 2))


def test_a_pickle_that_refers_to_itself(tmp_path):
    tensors, arrays = named(TORCHVISION)
    loop: dict[str, Any] = {"state_dict": arrays, "history": [1]}
    loop["history"].append(loop)
    same(load(write_pickle(tmp_path / "x.pkl", loop)), tensors)


class Bad:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1+1",)


@pytest.mark.parametrize("protocol", range(5))
def test_code_is_refused(tmp_path, protocol):
    value = {**named(PADDLE)[1], "x": Bad()}
    for file in ("x.pdparams", "x.pkl"):
        with pytest.raises(UnsafeFile, match="eval"):
            load(write_pickle(tmp_path / file, value, protocol))
    (tmp_path / "y").write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    with pytest.raises(UnsafeFile, match=r"os\.system"):
        load(tmp_path / "y")


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickled_torch_tensors_are_read(tmp_path, protocol):
    """``pickle.dump`` of a state dict: every storage is a file of its own inside the pickle."""
    torch = pytest.importorskip("torch")
    tensors, arrays = named(TORCHVISION)
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    file = write_pickle(tmp_path / "x.pkl", {"state_dict": state, "grid": torch.zeros(40_000)}, protocol)
    assert file.stat().st_size > 1 << 17  # more than one frame of a pickle
    same(load(file), tensors)


# -- programs and records -----------------------------------------------------------------


@pytest.mark.parametrize("given", ["inference.pdmodel", "inference.pdiparams", "."])
def test_programs(tmp_path, given):
    tensors, arrays = named(STATIC)
    write_program(tmp_path, arrays, eps=0.001, ceil=True)
    model = load(tmp_path / given)
    assert model.config == replace(SMALL, eps=0.001, stem_ceil=True, transition_ceil=True)
    same(model, tensors)


def test_program_with_pickled_parameters(tmp_path):
    tensors, arrays = named(STATIC)
    (tmp_path / "net.pdmodel").write_bytes(program(arrays, eps=0.001))
    write_pickle(tmp_path / "net.pdparams", arrays)
    model = load(tmp_path / "net.pdmodel")
    same(model, tensors)
    assert model.config.eps == 0.001


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_a_file_per_parameter(tmp_path, dtype):
    tensors, arrays = named(STATIC, dtype=dtype)
    for name, array in arrays.items():
        (tmp_path / name).write_bytes(record(array))
    (tmp_path / "README").write_text("other files do not matter")
    same(load(tmp_path), tensors)
    (tmp_path / "__model__").write_bytes(program(arrays, eps=0.001))
    assert load(tmp_path).config.eps == 0.001
    assert len(open_checkpoint(tmp_path).files) == len(arrays) + 1


@settings(max_examples=15)
@given(config=imagenet_configs(), layout=st.sampled_from((PADDLE, STATIC)))
def test_round_trip(tmp_path, config, layout):
    tensors = random_tensors(config)
    save(random_model(config), tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.npz", to=layout.name)
    back = load(tmp_path / "b.npz")
    assert (back.config, back.origin.layout) == (config, layout.name)
    same(back, tensors)


# -- damaged and hostile ------------------------------------------------------------------


@pytest.mark.parametrize("file", ["p.pdparams", "inference.pdmodel", "inference.pdiparams", "m.json"])
def test_truncation(tmp_path, file):
    arrays = named(STATIC)[1]
    write_program(tmp_path, arrays)
    write_pickle(tmp_path / "p.pdparams", arrays)
    (tmp_path / "m.json").write_text(pir(arrays))
    (tmp_path / "m.pdiparams").write_bytes((tmp_path / "inference.pdiparams").read_bytes())
    path = tmp_path / file
    content = path.read_bytes()
    for size in {*range(1, 200, 13), *range(200, len(content), len(content) // 40), len(content) - 1}:
        path.write_bytes(content[:size])
        try:
            model = load(path)
        except ConverterError:
            continue
        assert file == "inference.pdmodel"  # cut within what it says of the operators, a program is still one
        assert model.config.block_config == SMALL.block_config


@settings(max_examples=40)
@given(
    at=st.integers(0, 10**9),
    byte=st.integers(0, 255),
    file=st.sampled_from(("p.pdparams", "q.pkl", "inference.pdmodel", "inference.pdiparams")),
)
def test_a_wrong_byte_is_no_traceback(tmp_path, at, byte, file):
    arrays = named(STATIC)[1]
    write_program(tmp_path, arrays)
    write_pickle(tmp_path / "p.pdparams", arrays)
    write_pickle(tmp_path / "q.pkl", arrays, 2)
    path = tmp_path / file
    content = bytearray(path.read_bytes())
    content[at % len(content)] = byte
    path.write_bytes(content)
    try:
        for tensor in load(path).tensors.values():
            tensor.read()
    except ConverterError:
        pass


def test_forged_sizes(tmp_path):
    for dims in ((2**40, 2**20), (2**64 - 1,)):
        desc = number(1, 5) + b"".join(number(2, n) for n in dims)
        (tmp_path / "w").write_bytes(struct.pack("<IQIi", 0, 0, 0, len(desc)) + desc + bytes(64))
        with pytest.raises(UnreadableFile):
            open_checkpoint(tmp_path)


def test_parameters_of_another_program(tmp_path):
    arrays = named(STATIC)[1]
    path = write_program(tmp_path, arrays)
    other = {**arrays, "fc_offset": np.zeros(99, np.float32)}
    path.write_bytes(program(other))
    with pytest.raises(UnreadableFile, match="do not belong together"):
        load(path)
    path.write_bytes(program({**arrays, "more": np.zeros(1, np.float32)}))
    with pytest.raises(UnreadableFile, match="parameters where"):
        load(path)


def test_missing_halves(tmp_path):
    path = write_program(tmp_path, named(STATIC)[1])
    program_bytes = path.read_bytes()
    path.unlink()
    with pytest.raises(UnreadableFile, match=r"\.pdmodel or \.json beside it"):
        load(tmp_path / "inference.pdiparams")
    (tmp_path / "inference.pdiparams").unlink()
    path.write_bytes(program_bytes)
    for source in (path, tmp_path):
        with pytest.raises(UnreadableFile, match="parameters"):
            load(source)
