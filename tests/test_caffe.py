"""Caffe: both generations of blobs, every naming, and what the file and its prototxt say beside the weights."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, logits_of
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CIFAR, SMALL, imagenet_configs, random_tensors
from wire import data, fixed32, number, varint

from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile
from converter.formats import open_checkpoint
from converter.formats.protobuf import fields, signed, varints
from converter.formats.prototxt import parse
from converter.reading.load import load
from densenet.config import DenseNetConfig

FACTOR = 8.0
"""What the tests' batch norms are stored multiplied with: a power of two, so that nothing is rounded."""


# -- a writer ----------------------------------------------------------------------


def blob(array: np.ndarray, *, form: str = "float") -> bytes:
    """A BlobProto; ``form`` is float, double, unpacked (dims one by one) or legacy (four of them, always)."""
    raw = data(8, array.astype("<f8").tobytes()) if form == "double" else data(5, array.astype("<f4").tobytes())
    if form == "legacy":
        dims = (1,) * (4 - array.ndim) + array.shape
        return b"".join(number(i + 1, n) for i, n in enumerate(dims)) + raw
    if form == "unpacked":
        return raw + data(7, b"".join(number(1, n) for n in array.shape))
    return raw + data(7, data(1, b"".join(varint(n) for n in array.shape)))


def layer(name: str, kind: str, *blobs: np.ndarray, more: bytes = b"", form: str = "float") -> bytes:
    return data(100, data(1, name) + data(2, kind) + b"".join(data(7, blob(b, form=form)) for b in blobs) + more)


def norm(name: tuple[str, str], tensors: dict, module: str, *, eps: bytes = b"", form: str = "float") -> bytes:
    get = lambda leaf: tensors[f"{module}.{leaf}"]  # noqa: E731
    sums = (get("running_mean") * FACTOR, get("running_var") * FACTOR, np.array([FACTOR]))
    return layer(name[0], "BatchNorm", *sums, more=eps, form=form) + layer(
        name[1], "Scale", get("weight"), get("bias"), form=form
    )


def shicai_name(module: str, config: DenseNetConfig, *, of_201: bool) -> str:
    parts = module.split(".")
    if parts[0] == "stem":
        return "conv1"
    if parts[0] == "blocks":
        return f"conv{int(parts[1]) + 2}_{int(parts[3]) + 1}/x{parts[4][-1]}"
    if parts[0] == "classifier":
        return "fc6"
    b = int(parts[1]) if parts[0] == "transitions" else len(config.block_config) - 1
    return f"conv{b + 2}_{config.block_config[b]}/blk" if of_201 else f"conv{b + 2}_blk"


def shicai(
    config: DenseNetConfig,
    tensors: dict,
    *,
    of_201: bool = False,
    form: str = "float",
    eps: bytes = b"",
    pools: bytes = b"",
    classifier: str = "fc6",
) -> bytes:
    out = data(1, "DENSENET") + layer("input", "Input") + pools
    for module in config.modules():
        name = shicai_name(module.name, config, of_201=of_201)
        if module.kind == "norm":
            out += norm((f"{name}/bn", f"{name}/scale"), tensors, module.name, eps=eps, form=form)
        elif module.kind == "conv":
            out += layer(name, "Convolution", tensors[f"{module.name}.weight"], form=form)
        else:
            kernel = tensors["classifier.weight"][:, :, None, None]
            out += layer(classifier, "Convolution", kernel, tensors["classifier.bias"], form=form)
    return out


def netspec(config: DenseNetConfig, tensors: dict, *, form: str = "float") -> bytes:
    out, norms, convolutions = b"", 0, 0
    for module in config.modules():
        if module.kind == "norm":
            norms += 1
            out += norm((f"BatchNorm{norms}", f"Scale{norms}"), tensors, module.name, form=form)
        elif module.kind == "conv":
            convolutions += 1
            out += layer(f"Convolution{convolutions}", "Convolution", tensors[f"{module.name}.weight"], form=form)
            out += layer(f"Dropout{convolutions}", "Dropout")
        else:
            arrays = (tensors["classifier.weight"], tensors["classifier.bias"])
            out += layer("InnerProduct1", "InnerProduct", *arrays, form=form)
    return out


def pool(name: str, *, average: bool, kernel: int, more: bytes = b"") -> bytes:
    return layer(name, "Pooling", more=data(121, number(1, average) + number(2, kernel) + number(3, 2) + more))


def loaded(path: Path, content: bytes, **options) -> tuple[DenseNetConfig, dict, tuple[str, ...]]:
    path.write_bytes(content)
    model = load(path, **options)
    return model.config, {name: tensor.read() for name, tensor in model.tensors.items()}, model.notes


def same(have: dict, want: dict) -> None:
    assert list(have) == list(want)
    for name, array in want.items():
        np.testing.assert_array_equal(have[name], array, err_msg=name)


# -- weights -----------------------------------------------------------------------


@pytest.mark.parametrize("case", ["caffe-shicai-small", "caffe-cifar-L13-k8"])
def test_logits_are_those_of_caffe(case):
    folder = CASES / case
    file = json.loads((folder / "case.json").read_text())["file"]
    want = np.load(folder / "logits.npy")
    error = np.abs(logits_of(folder / file, np.load(folder / "input.npy")) - want).max() / np.abs(want).max()
    assert error < 1e-5


@pytest.mark.parametrize("form", ["float", "double", "unpacked", "legacy"])
@pytest.mark.parametrize("of_201", [False, True])
def test_shicai_in_every_form_of_blob(tmp_path, form, of_201):
    tensors = random_tensors(SMALL, dtype=np.float64 if form == "double" else np.float32)
    config, have, _ = loaded(tmp_path / "x.caffemodel", shicai(SMALL, tensors, of_201=of_201, form=form))
    assert replace(config, transition_ceil=False) == SMALL
    same(have, tensors)


@pytest.mark.parametrize("form", ["float", "legacy"])
def test_netspec(tmp_path, form):
    tensors = random_tensors(CIFAR)
    config, have, _ = loaded(tmp_path / "x.caffemodel", netspec(CIFAR, tensors, form=form))
    assert config == replace(CIFAR, transition_ceil=True)
    same(have, tensors)


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    tensors = random_tensors(config := replace(CIFAR, block_config=(4, 4, 4)))
    (tmp_path / "x.caffemodel").write_bytes(netspec(config, tensors))
    with h5py.File(tmp_path / "x.caffemodel.h5", "w") as file:
        for key, tensor in open_checkpoint(tmp_path / "x.caffemodel").tree.items():
            file[f"data/{key}"] = tensor.read()
    have = load(tmp_path / "x.caffemodel.h5")
    assert have.config == replace(config, transition_ceil=True)
    same({name: tensor.read() for name, tensor in have.tensors.items()}, tensors)


@settings(max_examples=30, deadline=None)
@given(imagenet_configs(), st.booleans(), st.sampled_from(["float", "legacy"]))
def test_any_small_network(tmp_path_factory, config, of_201, form):
    tensors = random_tensors(config)
    path = tmp_path_factory.mktemp("caffe") / "x.caffemodel"
    have = loaded(path, shicai(config, tensors, of_201=of_201, form=form))
    assert have[0] == replace(config, transition_ceil=True)
    same(have[1], tensors)


def test_a_factor_of_zero_gives_zeros(tmp_path):
    content = netspec(CIFAR, random_tensors(CIFAR)).replace(struct.pack("<f", FACTOR), struct.pack("<f", 0))
    _, have, _ = loaded(tmp_path / "x.caffemodel", content)
    assert not have["norm.running_mean"].any() and not have["norm.running_var"].any()


def test_the_factor_is_accounted_for(tmp_path):
    (tmp_path / "x.caffemodel").write_bytes(shicai(SMALL, random_tensors(SMALL)))
    dropped = load(tmp_path / "x.caffemodel").dropped
    assert "factor" in dropped["conv1/bn/2"] and len(dropped) == sum(m.kind == "norm" for m in SMALL.modules())


def test_a_renamed_classifier_is_found(tmp_path):
    tensors = random_tensors(SMALL)
    same(loaded(tmp_path / "x.caffemodel", shicai(SMALL, tensors, classifier="fc_flowers"))[1], tensors)


def test_batch_norms_merged_into_convolutions(tmp_path):
    tensors = random_tensors(config := replace(SMALL, eps=1e-4))
    bias = random_tensors(SMALL, 1)["stem.norm.bias"]
    merged = layer("conv1", "Convolution", tensors["stem.conv.weight"], bias)
    eps = data(139, fixed32(3, struct.pack("<f", 1e-4)))
    whole = shicai(config, tensors, eps=eps)
    separate = layer("conv1", "Convolution", tensors["stem.conv.weight"])
    separate += norm(("conv1/bn", "conv1/scale"), tensors, "stem.norm", eps=eps)
    assert separate in whole
    config, have, _ = loaded(tmp_path / "x.caffemodel", whole.replace(separate, merged))
    assert config.eps == 1e-4
    np.testing.assert_array_equal(have["stem.norm.bias"], bias)
    np.testing.assert_array_equal(have["stem.norm.running_var"], np.full(len(bias), 1 - 1e-4, np.float32))


# -- settings ----------------------------------------------------------------------

EPS = 'layer { name: "%s" type: "BatchNorm" batch_norm_param { use_global_stats: true eps: 0.001 } }\n'
POOLS = """layer { name: "pool1"  type: 'Pooling'  # the stem's
  pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 %s } }
layer { name: "pool2" type: "Pooling" pooling_param: < pool: AVE, kernel_size: 2; stride: 2 > }
layer { name: "pool5" type: "Pooling" pooling_param { pool: AVE global_pooling: true } }
"""


def prototxt(content: bytes, pools: str) -> str:
    """The text that goes with a model of :func:`shicai`."""
    names = [
        next(bytes(v) for k, _, v in fields(x) if k == 1).decode()
        for n, _, x in fields(memoryview(content))
        if n == 100
    ]
    norms = "".join(EPS % name for name in names if name.endswith("/bn"))
    rest = "".join(
        f'layer {{ name: "{name}" type: "?" top: "{name}" }}\n' for name in names if not name.endswith("/bn")
    )
    return f'name: "DENSENET"\ninput: "data"\ninput_dim: [1, 3, 64, 64]\n{pools}{norms}{rest}'


def test_eps_of_the_layers(tmp_path):
    eps = data(139, fixed32(3, struct.pack("<f", 2e-5)))
    assert loaded(tmp_path / "x.caffemodel", shicai(SMALL, random_tensors(SMALL), eps=eps))[0].eps == 2e-5


def test_rounding_is_assumed_where_the_poolings_say_nothing(tmp_path):
    config, _, notes = loaded(tmp_path / "x.caffemodel", shicai(SMALL, random_tensors(SMALL)))
    assert (config.stem_ceil, config.transition_ceil) == (False, True)
    assert any("--set" in note for note in notes)
    config, _, _ = loaded(tmp_path / "x.caffemodel", shicai(SMALL, random_tensors(SMALL)), settings={"stem_ceil": True})
    assert config.stem_ceil


@pytest.mark.parametrize(
    ("field_13", "stem_ceil"), [(b"", True), (number(13, 1), False), (number(13, 0), False)], ids=["none", "1", "0"]
)
def test_rounding_of_the_poolings(tmp_path, field_13, stem_ceil):
    pools = pool("pool1", average=False, kernel=3, more=field_13) + pool("pool2", average=True, kernel=2)
    pools += pool("pool5", average=True, kernel=0, more=number(12, 1))
    config, _, notes = loaded(tmp_path / "x.caffemodel", shicai(SMALL, random_tensors(SMALL), pools=pools))
    assert (config.stem_ceil, config.transition_ceil) == (stem_ceil, True)
    assert not any("--set" in note for note in notes)


@pytest.mark.parametrize(
    ("said", "ceil"),
    [("", True), ("ceil_mode: false", False), ("ceil_mode: true", True), ("round_mode: FLOOR", False)],
)
@pytest.mark.parametrize("name", ["x.prototxt", "deploy.prototxt"])
def test_the_prototxt_decides(tmp_path, name, said, ceil):
    content = shicai(SMALL, random_tensors(SMALL), pools=pool("pool1", average=False, kernel=3))
    (tmp_path / name).write_text(prototxt(content, POOLS % said))
    (tmp_path / "solver.prototxt").write_text('net: "train.prototxt"\nbase_lr: 0.1')
    (tmp_path / "broken.prototxt").write_text("layer { name: ")
    config, _, _ = loaded(tmp_path / "x.caffemodel", content)
    assert (config.stem_ceil, config.transition_ceil, config.eps) == (ceil, True, 0.001)


def test_prototxts_that_contradict_each_other_do_not(tmp_path):
    content = shicai(SMALL, random_tensors(SMALL))
    (tmp_path / "a.prototxt").write_text(prototxt(content, POOLS % "ceil_mode: false"))
    (tmp_path / "b.prototxt").write_text(prototxt(content, POOLS % ""))
    config, _, _ = loaded(tmp_path / "x.caffemodel", content)
    assert (config.stem_ceil, config.eps) == (False, 0.001)
    (tmp_path / "x.prototxt").write_text(prototxt(content, POOLS % ""))
    assert loaded(tmp_path / "x.caffemodel", content)[0].stem_ceil


def test_a_prototxt_of_another_network_is_left_alone(tmp_path):
    other = shicai(replace(SMALL, block_config=(1, 1)), random_tensors(replace(SMALL, block_config=(1, 1))))
    (tmp_path / "x.prototxt").write_text(prototxt(other, POOLS % ""))
    config, _, _ = loaded(tmp_path / "x.caffemodel", shicai(SMALL, random_tensors(SMALL)))
    assert (config.stem_ceil, config.eps) == (False, 1e-5)


# -- damage ------------------------------------------------------------------------


def refused(path: Path, content: bytes, kind: type[ConverterError] = UnreadableFile) -> str:
    path.write_bytes(content)
    with pytest.raises(kind) as error:
        load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def test_every_truncation_is_refused(tmp_path):
    content = shicai(SMALL, random_tensors(SMALL))
    for end in [*range(1, 400), *range(400, len(content), 97), len(content) - 1]:
        refused(tmp_path / "x.caffemodel", content[:end], ConverterError)


def test_forged_sizes_are_refused(tmp_path):
    kernel = np.ones((2, 2, 1, 1))
    huge = data(7, data(1, varint(1 << 40) * 2)) + data(5, bytes(4))
    many = data(7, data(1, varint(1) * 100_000)) + data(5, bytes(4))
    negative = data(7, data(1, varint((1 << 64) - 1))) + data(5, bytes(4))
    head = layer("a", "Convolution", kernel)
    for forged in (huge, many, negative):
        text = refused(tmp_path / "x.caffemodel", head + data(100, data(1, "b") + data(2, "Scale") + data(7, forged)))
        assert "b/0" in text
    assert "no data" in refused(
        tmp_path / "x.caffemodel", head + data(100, data(1, "b") + data(2, "Scale") + data(7, number(1, 1)))
    )


def test_networks_that_are_none_of_ours(tmp_path):
    path, kernel = tmp_path / "x.caffemodel", np.ones((2, 2, 1, 1))
    refused(path, layer("a", "Convolution", kernel), NotADenseNet)
    refused(path, layer("a", "Reshape", np.ones((2, 2, 2))), NotADenseNet)
    assert "two layers" in refused(path, layer("a", "Convolution", kernel) * 2)
    assert "2015" in refused(path, layer("a", "Convolution", kernel) + data(2, b""))
    assert "no Scale" in refused(path, layer("a", "BatchNorm", np.ones(2), np.ones(2), np.ones(1)), NotADenseNet)
    other_eps = layer("b", "BatchNorm", more=data(139, fixed32(3, struct.pack("<f", 0.1))))
    assert "different eps" in refused(path, layer("a", "BatchNorm") + other_eps, NotADenseNet)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_anywhere_is_an_error_or_harmless(tmp_path_factory, draws):
    content = bytearray(netspec(CIFAR, random_tensors(CIFAR)))
    for _ in range(draws.draw(st.integers(1, 4))):
        content[draws.draw(st.integers(0, len(content) - 1))] = draws.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("caffe") / "x.caffemodel"
    path.write_bytes(content)
    try:
        for tensor in load(path).tensors.values():
            tensor.read()
    except ConverterError as error:
        assert "\n" not in str(error)


# -- the wire ----------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_refused(content):
    try:
        for _, _, value in fields(memoryview(content)):
            if not isinstance(value, int):
                list(varints(value))
    except UnreadableFile:
        pass


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_varints(values):
    assert list(varints(memoryview(b"".join(map(varint, values))))) == values


def test_fields():
    content = number(1, 300) + data(2, b"ab") + fixed32(3, b"wxyz") + varint(4 << 3 | 1) + bytes(8)
    assert [(n, w, v if isinstance(v, int) else bytes(v)) for n, w, v in fields(memoryview(content))] == [
        (1, 0, 300),
        (2, 2, b"ab"),
        (3, 5, b"wxyz"),
        (4, 1, bytes(8)),
    ]
    assert signed((1 << 64) - 1) == -1 and signed(5) == 5
    for malformed in (b"\x00\x00", b"\x0b", b"\x0a\x05a", b"\x08" + b"\xff" * 10, b"\x08", b"\x0d123"):
        with pytest.raises(UnreadableFile):
            list(fields(memoryview(malformed)))


@pytest.mark.parametrize("text", ["}", "a {", "{ a: 1 }", "1", '"a"', "a: $", "a {" * 100, 'a: "b'])
def test_malformed_prototxt(text):
    with pytest.raises(UnreadableFile):
        parse(text)


def test_prototxt():
    assert parse("a: 1 # b: 2\nc { d: 'e' d: \"f\" } c < d: [g, h] >\nname: 'x:y'") == {
        "a": ["1"],
        "c": [{"d": ["e", "f"]}, {"d": ["g", "h"]}],
        "name": ["x:y"],
    }
