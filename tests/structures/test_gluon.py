"""MXNet: Gluon's names and those of symbols, and what a symbol says beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from helpers.cases import CASES, logits_of
from helpers.mxnet import gluon, named, node, params, symbol, symbol_name, symbol_params, text, variable
from helpers.networks import SMALL, imagenet_configs, random_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import convert, load
from converter.core.errors import CannotExpress, NotADenseNet, UnreadableFile
from converter.formats import open_checkpoint
from densenet.config import DenseNetConfig

PUBLISHED = {"eps": 1e-4, "stem_ceil": True, "transition_ceil": True}


def of_symbol(config: DenseNetConfig = SMALL, **norm: str) -> dict:
    """A symbol with the names of ``symbol_params``."""
    return symbol(config, lambda name: symbol_name(name, config, of_201=False)[4:], **norm)


def beside(folder: Path, made: dict, tensors: dict) -> Path:
    """A symbol and its parameters; the classifier is a matrix, for FullyConnected."""
    (folder / "net-symbol.json").write_text(text(made))
    (folder / "net-0000.params").write_bytes(params(matrix(tensors)))
    return folder / "net-0000.params"


def matrix(tensors: dict) -> dict:
    arrays = symbol_params(SMALL, tensors)
    arrays["arg:fc6_weight"] = arrays["arg:fc6_weight"][:, :, 0, 0]
    return arrays


def loaded(path: Path, content: bytes) -> tuple[DenseNetConfig, dict[str, np.ndarray]]:
    path.write_bytes(content)
    model = load(path)
    return model.config, {name: tensor.read() for name, tensor in model.tensors.items()}


def same(have: dict, want: dict) -> None:
    assert set(have) == set(want)
    for name, array in want.items():
        assert have[name].dtype == array.dtype
        np.testing.assert_array_equal(have[name], array, err_msg=name)


# -- weights -----------------------------------------------------------------------


def test_logits_are_those_of_mxnet():
    folder = CASES / "mxnet-symbol-miraclewkf"
    want = np.load(folder / "logits.npy")
    got = logits_of(folder / "densenet-s-0000.params", np.load(folder / "input.npy"))
    assert np.abs(got - want).max() / np.abs(want).max() < 1e-5


@pytest.mark.parametrize("generation", [0, 1, 2, 3])
@pytest.mark.parametrize("style", ["structured", "legacy", "fullnames", "exported"])
def test_gluon(tmp_path, generation, style):
    tensors = random_tensors(SMALL)
    config, have = loaded(tmp_path / "x.params", params(gluon(SMALL, tensors, style), generation))
    assert config == SMALL
    same(have, tensors)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_gluon_cast(tmp_path, dtype):
    """``net.cast`` leaves batch norms as they are."""
    tensors = {name: array if "norm" in name else array.astype(dtype) for name, array in random_tensors(SMALL).items()}
    same(loaded(tmp_path / "x.params", params(gluon(SMALL, tensors, "structured")))[1], tensors)


@settings(max_examples=40)
@given(imagenet_configs(), st.sampled_from(["structured", "legacy", "exported"]))
def test_any_small_gluon_network(tmp_path_factory, config, style):
    tensors = random_tensors(config)
    have = loaded(tmp_path_factory.mktemp("mxnet") / "x.params", params(gluon(config, tensors, style)))
    assert have[0] == config
    same(have[1], tensors)


def test_gluon_within_another_block(tmp_path):
    tensors = random_tensors(SMALL)
    arrays = {f"backbone.{name}": array for name, array in gluon(SMALL, tensors, "structured").items()}
    same(loaded(tmp_path / "x.params", params(arrays))[1], tensors)


def test_gluon_without_its_output(tmp_path):
    tensors = {name: array for name, array in random_tensors(SMALL).items() if "classifier" not in name}
    config, have = loaded(tmp_path / "x.params", params(gluon(SMALL, tensors, "structured")))
    assert config.num_classes == 0
    same(have, tensors)


@pytest.mark.parametrize("generation", [0, 1, 2, 3])
@pytest.mark.parametrize("of_201", [False, True])
def test_symbol_names(tmp_path, generation, of_201):
    tensors = random_tensors(SMALL)
    content = params(symbol_params(SMALL, tensors, of_201=of_201), generation)
    config, have = loaded(tmp_path / "x-0000.params", content)
    assert config == replace(SMALL, **PUBLISHED)
    same(have, tensors)


@settings(max_examples=30)
@given(imagenet_configs(), st.sampled_from(["mxnet-symbol", "mxnet-symbol-201"]))
def test_symbol_names_and_back(tmp_path_factory, config, layout):
    folder, tensors = tmp_path_factory.mktemp("mxnet"), random_tensors(config)
    of_201 = layout.endswith("201")
    arrays = symbol_params(config, tensors, of_201=of_201)
    have = loaded(folder / "x.params", params(arrays))
    assert have[0] == replace(config, **PUBLISHED)
    same(have[1], tensors)
    convert(folder / "x.params", folder / "y.safetensors", to=layout)
    written = {name: tensor.read() for name, tensor in open_checkpoint(folder / "y.safetensors").tree.items()}
    same(written, {name[4:]: array for name, array in arrays.items()})
    again = load(folder / "y.safetensors", layout=layout)
    assert again.config == have[0]
    same({name: tensor.read() for name, tensor in again.tensors.items()}, tensors)


def test_a_network_that_rounds_down_is_no_published_symbol(tmp_path):
    (tmp_path / "x.params").write_bytes(params(gluon(SMALL, random_tensors(SMALL), "legacy")))
    with pytest.raises(CannotExpress, match="stem_ceil"):
        convert(tmp_path / "x.params", tmp_path / "y.safetensors", to="mxnet-symbol")


# -- symbols -----------------------------------------------------------------------


@pytest.mark.parametrize("attributes", ["attrs", "attr", "param"])
@pytest.mark.parametrize("name", ["net-0000.params", "net-0012.params", "net.params"])
def test_the_symbol_beside_it_decides(tmp_path, attributes, name):
    wanted = replace(SMALL, eps=2e-5, stem_ceil=True)
    (tmp_path / "net-symbol.json").write_text(text(of_symbol(wanted), attributes))
    tensors = random_tensors(SMALL)
    config, have = loaded(tmp_path / name, params(matrix(tensors)))
    assert config == wanted
    same(have, tensors)


@pytest.mark.parametrize("batch_norm", [{"fix_gamma": "True"}, {"fix_gamma": "1"}])
def test_fixed_gammas_are_ones(tmp_path, batch_norm):
    tensors = random_tensors(SMALL)
    model = load(beside(tmp_path, of_symbol(**batch_norm), tensors))
    for name in (name for name in tensors if "norm" in name and name.endswith("weight")):
        assert np.all(model.tensors[name].read() == 1)


@settings(max_examples=10)
@given(imagenet_configs())
def test_any_small_symbol(tmp_path_factory, config):
    folder, tensors = tmp_path_factory.mktemp("mxnet"), random_tensors(config)
    (folder / "net-symbol.json").write_text(text(symbol(config, lambda name: name.replace("norm.weight", "gamma"))))
    arrays = {name.replace("norm.weight", "gamma"): array for name, array in tensors.items()}
    have = loaded(folder / "net.params", params(arrays))
    assert have[0] == config
    same(have[1], tensors)


def prepared(op: str, **attrs: str):
    """Something before the network: the first convolution takes what it gives."""

    def change(made: dict) -> None:
        at = node(made, op, "before", 0, **attrs)
        named(made, "stem.conv")["inputs"][0] = [at, 0, 0]

    return change


def followed(op: str, **attrs: str):
    """Something behind the logits."""

    def change(made: dict) -> None:
        made["heads"] = [[node(made, op, "behind", made["heads"][0][0], **attrs), 0, 0]]

    return change


def altered(name: str, op: str = "", **attrs: str):
    """A node that does something else."""

    def change(made: dict) -> None:
        found = named(made, name)
        found["op"] = op or found["op"]
        found["attrs"] |= attrs

    return change


def labelled(made: dict) -> None:
    """What ``SoftmaxOutput`` learns from is a variable too."""
    label = variable(made, "softmax_label")
    made["heads"] = [[node(made, "SoftmaxOutput", "softmax", made["heads"][0][0], label), 0, 0]]


SAME = {
    "a label": (labelled, "SoftmaxOutput softmax behind the logits"),
    "softmax": (followed("softmax"), "softmax behind behind the logits"),
    "dropout": (followed("Dropout", p="0.5"), ""),
    "a shift": (prepared("_minus_scalar", scalar="0.5"), "recorded as its preprocessing"),
    "a last pooling by its size": (
        altered("features", global_pool="False", kernel="(7, 7)", stride="(7, 7)"),
        "taken as global pooling",
    ),
}


@pytest.mark.parametrize(("change", "note"), SAME.values(), ids=SAME)
def test_what_changes_no_weight_is_said(tmp_path, change, note):
    tensors, made = random_tensors(SMALL), of_symbol()
    change(made)
    model = load(beside(tmp_path, made, tensors))
    same({name: tensor.read() for name, tensor in model.tensors.items()}, tensors)
    assert any(note in each for each in model.notes) or not note


@pytest.mark.parametrize(
    ("op", "scalar", "factor"), [("_mul_scalar", "0.5", 0.5), ("_div_scalar", "4", 0.25), ("_rminus_scalar", "0", -1)]
)
def test_scales_are_part_of_the_layer_beside_them(tmp_path, op, scalar, factor):
    tensors = random_tensors(SMALL)
    for change, name in ((prepared, "stem.conv.weight"), (followed, "classifier.weight")):
        made = of_symbol()
        change(op, scalar=scalar)(made)
        have = load(beside(tmp_path, made, tensors)).tensors[name].read()
        np.testing.assert_allclose(have, tensors[name] * factor, rtol=1e-6)


STRANGE = {
    "Convolution stem.conv": altered("stem.conv", stride="(3, 3)", pad="(1, 1)"),
    "Pooling stem.pool": altered("stem.pool", pool_type="avg"),
    "Pooling transitions.0.pool": altered("transitions.0.pool", kernel="(3, 3)"),
    "transition_ceil": altered("transitions.0.pool", pooling_convention="full"),
    "Activation blocks.0.layers.0.relu1": altered("blocks.0.layers.0.relu1", act_type="tanh"),
    "identity|expected a layer": altered("blocks.0.layers.0.relu1", "identity"),
    "LeakyReLU relu": altered("relu", "LeakyReLU"),
    "Concat blocks.0.layers.0": altered("blocks.0.layers.0", dim="2"),
    "L2Normalization behind": followed("L2Normalization"),
    "Activation behind": followed("Activation", act_type="relu"),
    "softmax behind": followed("softmax", axis="0"),
    "Dropout behind": followed("Dropout", mode="always"),
    "Pad before|stem.conv": prepared("Pad", mode="constant", pad_width="(0, 0, 0, 0, 1, 1, 1, 1)"),
    "it is quantised": prepared("_contrib_quantize_v2"),
    "UpSampling before": prepared("UpSampling", scale="2"),
    "takes data, more": lambda made: variable(made, "more"),
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_another_network_is_refused_by_name(tmp_path, change):
    made = of_symbol(replace(SMALL, block_config=SMALL.block_config))
    change(made)
    match = next(name for name, each in STRANGE.items() if each is change)
    with pytest.raises(NotADenseNet, match=match.replace(".", r"\.")):
        load(beside(tmp_path, made, random_tensors(SMALL)))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nodes": 5}', '{"nodes": [{"op": "BatchNorm"}]}', "[" * 100_000])
def test_a_damaged_symbol_is_refused(tmp_path, text):
    (tmp_path / "net-symbol.json").write_text(text)
    (tmp_path / "net-0000.params").write_bytes(params(symbol_params(SMALL, random_tensors(SMALL))))
    with pytest.raises(UnreadableFile, match=r"net-symbol.json"):
        load(tmp_path / "net-0000.params")


def before_the_classifier(op: str, **attrs: str):
    """An activation of the pooled features."""

    def change(made: dict) -> None:
        classifier = made["nodes"][made["heads"][0][0]]
        classifier["inputs"][0] = [node(made, op, "act", classifier["inputs"][0][0], **attrs), 0, 0]

    return change


def swish(made: dict) -> None:
    """x * sigmoid(x)."""
    classifier = made["nodes"][made["heads"][0][0]]
    taken = classifier["inputs"][0][0]
    gate = node(made, "sigmoid", "gate", taken)
    classifier["inputs"][0] = [node(made, "elemwise_mul", "act", taken, gate), 0, 0]


ACTIVATIONS = {
    "leaky_relu:0.25": before_the_classifier("LeakyReLU"),
    "elu:0.5": before_the_classifier("LeakyReLU", act_type="elu", slope="0.5"),
    "gelu": before_the_classifier("LeakyReLU", act_type="gelu"),
    "softplus": before_the_classifier("Activation", act_type="softrelu"),
    "relu6": before_the_classifier("clip", a_min="0", a_max="6"),
    "silu": swish,
}


@pytest.mark.parametrize(("word", "change"), ACTIVATIONS.items(), ids=ACTIVATIONS)
def test_activations_of_a_head(tmp_path, word, change):
    made = of_symbol()
    change(made)
    assert load(beside(tmp_path, made, random_tensors(SMALL))).config.head == (word,)


def test_an_activation_that_no_head_has_is_refused(tmp_path):
    made = of_symbol()
    before_the_classifier("Activation", act_type="log_sigmoid")(made)
    with pytest.raises(NotADenseNet, match="Activation act"):
        load(beside(tmp_path, made, random_tensors(SMALL)))
