"""Caffe: every naming, and what the file and its prototxt say beside the weights."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from helpers.caffe import FACTOR, described, layer, loaded, netspec, norm, same, shicai
from helpers.cases import CASES, logits_of
from helpers.networks import CIFAR, SMALL, imagenet_configs, random_tensors
from helpers.wire import data, fixed32, number
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import load
from converter.core.errors import NotADenseNet
from converter.formats import open_checkpoint
from converter.formats.protobuf import fields

# -- a writer ----------------------------------------------------------------------


def pool(name: str, *, average: bool, kernel: int, more: bytes = b"") -> bytes:
    return layer(name, "Pooling", more=data(121, number(1, average) + number(2, kernel) + number(3, 2) + more))


# -- weights -----------------------------------------------------------------------


@pytest.mark.parametrize("case", ["caffe-shicai-small", "caffe-cifar-L13-k8"])
def test_logits_are_those_of_caffe(case):
    folder = CASES / case
    file = json.loads((folder / "case.json").read_text())["file"]
    want = np.load(folder / "logits.npy")
    error = np.abs(logits_of(folder / file, np.load(folder / "input.npy")) - want).max() / np.abs(want).max()
    assert error < 1e-5


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


@settings(max_examples=30)
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


# -- networks described whole ------------------------------------------------------

BEHIND = 'layer { name: "behind" type: "%s" bottom: "fc6" top: "behind" %s }\n'
WHOLE = {
    "ceil": ({}, "", replace(SMALL, stem_ceil=True, transition_ceil=True), ""),
    "floor": ({}, "", SMALL, ""),
    "softmax": ({}, BEHIND % ("Softmax", ""), SMALL, "Softmax behind behind the logits"),
    "eps": ({}, "", replace(SMALL, eps=1e-3), ""),
    "the last pooling by its size": (
        {"features": "pooling_param { pool: AVE kernel_size: 2 stride: 1 }"},
        "",
        SMALL,
        "",
    ),
}


def with_prototxt(folder, text, tensors):
    (folder / "x.prototxt").write_text(text)
    (folder / "x.caffemodel").write_bytes(shicai(SMALL, tensors))
    return folder / "x.caffemodel"


@pytest.mark.parametrize(("changes", "more", "config", "note"), WHOLE.values(), ids=WHOLE)
def test_the_network_described_beside_it_is_read_whole(tmp_path, changes, more, config, note):
    tensors = random_tensors(SMALL)
    model = load(with_prototxt(tmp_path, described(config, **changes) + more, tensors))
    assert model.config == config
    same({name: tensor.read() for name, tensor in model.tensors.items()}, tensors)
    assert any(note in each for each in model.notes)
    assert "factor" in model.dropped["conv1/bn/2"]


def test_a_data_layer_is_said(tmp_path):
    """As in train_val.prototxt: what only trains is left out, the network takes what the data layer gives."""
    transform = "transform_param { mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.017 crop_size: 64 }"
    data_layer = (
        f'layer {{ name: "images" type: "Data" top: "data" top: "label" {transform} include {{ phase: %s }} }}\n'
    )
    ends = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }\n'
    ends += 'layer { name: "top1" type: "Accuracy" bottom: "fc6" bottom: "label" top: "top1" include { phase: TEST } }'
    _, _, rest = described(SMALL).partition("64]\n")
    tensors = random_tensors(SMALL)
    model = load(with_prototxt(tmp_path, data_layer % "TRAIN" + data_layer % "TEST" + rest + ends, tensors))
    same({name: tensor.read() for name, tensor in model.tensors.items()}, tensors)
    assert any("104, 117, 123" in note and "0.017" in note for note in model.notes)


@pytest.mark.parametrize(
    ("layer", "said", "error"),
    [
        ("conv1", "convolution_param { kernel_size: 7 pad: 3 stride: 3 }", "stem_stride"),
        ("conv2_1_x2", "convolution_param { kernel_size: 3 pad: 0 }", "Convolution conv2_1/x2"),
        ("stem.pool", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", "Pooling stem.pool"),
        (
            "transitions.0.pool",
            "pooling_param { pool: MAX kernel_size: 2 stride: 2 }",
            "transition_pool is avg here, max before",
        ),
        ("transitions.0.pool", "pooling_param { pool: AVE kernel_size: 2 stride: 2 }", "transition_ceil"),
        ("blocks.0.layers.0.relu1", "relu_param { negative_slope: 0.1 }", "ReLU blocks.0.layers.0.relu1"),
        ("blocks.0.layers.0.relu1", "=Dropout", "expected a layer"),
        ("blocks.0.layers.0", "concat_param { axis: 2 }", "Concat blocks.0.layers.0"),
        ("blocks.0.layers.0", "=Eltwise", "Eltwise blocks.0.layers.0"),
        ("conv3_1_x1_bn", "batch_norm_param { use_global_stats: false }", "does not use them"),
        ("features", "pooling_param { pool: AVE kernel_size: 2 stride: 2 pad: 1 }", "Pooling features"),
    ],
)
def test_another_network_is_refused_by_name(tmp_path, layer, said, error):
    tensors, text = random_tensors(SMALL), described(SMALL, **{layer: said})
    if error == "stem_stride":  # a setting of ours
        assert load(with_prototxt(tmp_path, text, tensors)).config.stem_stride == 3
        return
    with pytest.raises(NotADenseNet, match=error):
        load(with_prototxt(tmp_path, text, tensors))


@pytest.mark.parametrize("kind", ["ReLU", "Power", "TanH"])
def test_what_follows_the_logits(tmp_path, kind):
    tensors = random_tensors(SMALL)
    path = with_prototxt(tmp_path, described(SMALL) + BEHIND % (kind, "power_param { scale: 2 shift: 1 }"), tensors)
    if kind != "Power":
        with pytest.raises(NotADenseNet, match=f"{kind} behind"):
            load(path)
        return
    have = load(path).tensors
    np.testing.assert_allclose(have["classifier.weight"].read(), tensors["classifier.weight"] * 2)
    np.testing.assert_allclose(have["classifier.bias"].read(), tensors["classifier.bias"] * 2 + 1)


def test_descriptions_that_differ_are_refused(tmp_path):
    path = with_prototxt(tmp_path, described(SMALL), random_tensors(SMALL))
    (tmp_path / "x.prototxt").rename(tmp_path / "a.prototxt")
    (tmp_path / "b.prototxt").write_text(described(replace(SMALL, stem_ceil=True)))
    with pytest.raises(NotADenseNet, match=r"a\.prototxt and b\.prototxt"):
        load(path)


def test_the_layers_in_the_file_itself_are_read_whole(tmp_path):
    """Caffe writes what its layers take: no prototxt is needed."""
    folder = CASES / "caffe-shicai-small"
    content = (folder / json.loads((folder / "case.json").read_text())["file"]).read_bytes()
    (tmp_path / "x.caffemodel").write_bytes(content)
    model = load(tmp_path / "x.caffemodel")
    assert not any("does not say how pooling rounds" in note for note in model.notes)
    (tmp_path / "x.caffemodel").write_bytes(content.replace(b"\x04ReLU", b"\x04TanH", 1))
    with pytest.raises(NotADenseNet, match=r"in the file itself, ReLU relu2_1/x1.* the first activation is tanh"):
        load(tmp_path / "x.caffemodel")


def headed(kind, said=""):
    """The description with a layer between the pooled features and the classifier."""
    text = described(SMALL)
    at = text.index('layer { name: "fc6"')
    act = f'layer {{ name: "act" type: "{kind}" bottom: "features" top: "act" {said} }}\n'
    return text[:at] + act + text[at:].replace('bottom: "features"', 'bottom: "act"', 1)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("leaky_relu:0.2", headed("ReLU", "relu_param { negative_slope: 0.2 }")),
        ("elu:0.5", headed("ELU", "elu_param { alpha: 0.5 }")),
        ("tanh", headed("TanH")),
        ("softplus", headed("BNLL")),
        ("sigmoid", headed("Sigmoid")),
    ],
)
def test_activations_of_a_head(tmp_path, word, text):
    assert load(with_prototxt(tmp_path, text, random_tensors(SMALL))).config.head == (word,)


def test_a_head_of_several_layers(tmp_path):
    """InnerProduct, ReLU, InnerProduct: described, and as weights alone, where the ReLU is assumed."""
    config = replace(CIFAR, head=("linear:7", "relu"))
    tensors = random_tensors(config)
    content = netspec(replace(config, head=()), {n: t for n, t in tensors.items() if "head" not in n})
    first = layer("InnerProduct0", "InnerProduct", tensors["head.0.linear.weight"], tensors["head.0.linear.bias"])
    last = layer("InnerProduct1", "InnerProduct", tensors["classifier.weight"], tensors["classifier.bias"])
    assert content.endswith(last)
    have, arrays, notes = loaded(tmp_path / "x.caffemodel", content.removesuffix(last) + first + last)
    assert have.head == config.head
    assert any("its activations are not in the file" in note for note in notes)
    same(arrays, tensors)
