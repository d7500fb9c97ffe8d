"""MXNet: Gluon's names and those of symbols, and what a symbol says beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from helpers.cases import CASES, logits_of
from helpers.mxnet import gluon, params, symbol_params
from helpers.networks import SMALL, imagenet_configs, random_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import convert, load
from converter.core.errors import CannotExpress, NotADenseNet, UnreadableFile
from converter.formats import open_checkpoint
from densenet.config import DenseNetConfig

PUBLISHED = {"eps": 1e-4, "stem_ceil": True, "transition_ceil": True}


# -- writers -----------------------------------------------------------------------


def symbol(attributes: str = "attrs", pool: dict | None = None, **batch_norm: str) -> str:
    """A network's description as far as it matters: a batch norm, the poolings."""
    pool = {"pooling_convention": "full"} if pool is None else pool
    nodes = [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "conv2_1_x1_bn_gamma", attributes: {"__init__": "x"}, "inputs": []},
        {"op": "BatchNorm", "name": "bn", attributes: batch_norm, "inputs": [[0, 0, 0], [1, 0, 0]]},
        {"op": "Pooling", "name": "p1", attributes: {"kernel": "(3, 3)", "pool_type": "max", **pool}, "inputs": []},
        {"op": "Pooling", "name": "p2", attributes: {"kernel": "(2, 2)", "pool_type": "avg", **pool}, "inputs": []},
        {"op": "Pooling", "name": "p4", attributes: {"kernel": "(7, 7)", "pool_type": "avg"}, "inputs": []},
        {"op": "Pooling", "name": "p5", attributes: {"global_pool": "True", "pool_type": "avg"}, "inputs": []},
    ]
    return json.dumps({"nodes": nodes, "arg_nodes": [0, 1], "heads": [[6, 0, 0]]})


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


@settings(max_examples=40, deadline=None)
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


@settings(max_examples=30, deadline=None)
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
    pools = {"pooling_convention": "valid"}
    (tmp_path / "net-symbol.json").write_text(symbol(attributes, pools, eps="2e-05", fix_gamma="False"))
    tensors = random_tensors(SMALL)
    config, have = loaded(tmp_path / name, params(symbol_params(SMALL, tensors)))
    assert config == replace(SMALL, eps=2e-5)
    same(have, tensors)


@pytest.mark.parametrize("batch_norm", [{}, {"fix_gamma": "True"}, {"fix_gamma": "1"}])
def test_fixed_gammas_are_ones(tmp_path, batch_norm):
    (tmp_path / "net-symbol.json").write_text(symbol(pool={}, eps="1e-4", **batch_norm))
    tensors = random_tensors(SMALL)
    config, have = loaded(tmp_path / "net-0000.params", params(symbol_params(SMALL, tensors)))
    assert not config.stem_ceil and not config.transition_ceil
    tensors["blocks.0.layers.0.norm1.weight"][:] = 1
    same(have, tensors)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nodes": 5}', '{"nodes": [{"op": "BatchNorm"}]}', "[" * 100_000])
def test_a_damaged_symbol_is_refused(tmp_path, text):
    (tmp_path / "net-symbol.json").write_text(text)
    (tmp_path / "net-0000.params").write_bytes(params(symbol_params(SMALL, random_tensors(SMALL))))
    with pytest.raises(UnreadableFile, match=r"net-symbol.json"):
        load(tmp_path / "net-0000.params")


def test_a_symbol_that_contradicts_itself_is_refused(tmp_path):
    text = json.loads(symbol(eps="0.1"))
    text["nodes"] += json.loads(symbol(eps="0.2"))["nodes"][2:3]
    (tmp_path / "net-symbol.json").write_text(json.dumps(text))
    (tmp_path / "net-0000.params").write_bytes(params(symbol_params(SMALL, random_tensors(SMALL))))
    with pytest.raises(NotADenseNet, match="different eps"):
        load(tmp_path / "net-0000.params")
