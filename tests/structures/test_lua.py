"""Lua Torch: networks as trees of modules, read whole, and refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cases import CASES, logits_of
from helpers.t7 import SMALL, Function, Longs, Obj, Official, at, check, saved, weights
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import load
from converter.core.errors import NotADenseNet
from converter.formats import open_checkpoint
from densenet.config import DenseNetConfig

# -- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [path.name for path in sorted(CASES.glob("t7-*"))])
def test_reference_files_give_the_logits_of_lua_torch(case: str) -> None:
    folder = CASES / case
    want = np.load(folder / "logits.npy")
    got = logits_of(folder / json.loads((folder / "case.json").read_text())["file"], np.load(folder / "input.npy"))
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("package", ["nn", "cudnn"])
@pytest.mark.parametrize("layers", ["concat", "old", "custom"])
@pytest.mark.parametrize("bottleneck", [True, False])
def test_every_kind_of_layer_is_read(tmp_path: Path, package: str, layers: str, bottleneck: bool) -> None:
    config = replace(SMALL, bottleneck=bottleneck)
    tensors = weights(config)
    network = Official(config, tensors, package=package, layers=layers, dropout=layers != "custom").network()
    check(saved(tmp_path / "model.t7", network), config, tensors)


@pytest.mark.parametrize("version", [1, 3])
@pytest.mark.parametrize("text", [False, True])
def test_data_parallel_tables_are_looked_into(tmp_path: Path, version: int, text: bool) -> None:
    tensors = weights(SMALL)
    root = Obj("nn.DataParallelTable", {"modules": [Official(SMALL, tensors).network()]}, version)
    root.fields["impl"] = Obj("nn.DataParallelTable.Threads", {"initFunc": Function(8), "dpt": root})
    path = saved(tmp_path / "model.t7", root, text=text)
    check(path, SMALL, tensors)
    assert "function" in open_checkpoint(path).inert


def test_weights_may_be_windows_on_one_storage(tmp_path: Path) -> None:
    tensors = weights(SMALL)
    flat = np.concatenate([np.zeros(5, np.float32), *(array.ravel() for array in tensors.values())])
    position, windows = 5, {}
    for name, array in tensors.items():
        windows[name] = flat[position : position + array.size].reshape(array.shape)
        position += array.size
    assert all(window.base is flat for window in windows.values())
    for options in ({}, {"long": 4}, {"text": True}):
        path = saved(tmp_path / "model.t7", Official(SMALL, windows).network(), **options)
        check(path, SMALL, tensors)
        assert path.stat().st_size < 4 * saved(tmp_path / "flat.t7", flat, **options).stat().st_size + 40_000


def test_running_std_becomes_a_variance(tmp_path: Path) -> None:
    tensors = weights(SMALL)
    model = load(saved(tmp_path / "model.t7", Official(SMALL, tensors, running_std=True).network()))
    for name, tensor in model.tensors.items():
        np.testing.assert_allclose(tensor.read(), tensors[name], rtol=1e-6, err_msg=name)


def test_keys_are_paths_and_every_other_tensor_has_a_reason(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.t7", Official(SMALL, weights(SMALL), layers="custom").network())
    dropped = load(path).dropped
    assert dropped["2.1.1.save_mean"] and dropped["2.saved_bn_running_mean"]
    assert dropped["1.gradWeight"] == "a gradient"


def test_a_softmax_is_left_out_and_reported(tmp_path: Path) -> None:
    tensors = weights(SMALL)
    network = Official(SMALL, tensors).network()
    network.fields["modules"].append(Obj("nn.LogSoftMax"))
    path = saved(tmp_path / "model.t7", network)
    check(path, SMALL, tensors)
    assert any("(nn.LogSoftMax) behind the logits is left out" in note for note in load(path).notes)


def test_the_first_densenet_of_several_is_taken(tmp_path: Path) -> None:
    tensors = weights(SMALL)
    other = Obj("nn.Sequential", {"modules": [Obj("nn.Tanh")]})
    path = saved(tmp_path / "model.t7", {"teacher": other, "model": Official(SMALL, tensors).network()})
    check(path, SMALL, tensors)
    assert any("2 networks" in note for note in load(path).notes)


def test_a_table_of_named_tensors_is_read_by_its_names(tmp_path: Path) -> None:
    tensors = weights(SMALL)
    check(saved(tmp_path / "model.t7", {"model": tensors}), SMALL, tensors)


@settings(max_examples=25)
@given(
    config=st.builds(
        DenseNetConfig,
        growth_rate=st.integers(1, 5),
        block_config=st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple),
        init_features=st.integers(4, 12),
        bottleneck=st.booleans(),
        stem=st.sampled_from(["imagenet", "cifar"]),
        num_classes=st.integers(0, 4),
        transition_ceil=st.booleans(),
        stem_ceil=st.booleans(),
        eps=st.sampled_from([1e-5, 1e-3]),
    ),
    options=st.fixed_dictionaries(
        {"text": st.booleans(), "referenced": st.booleans(), "long": st.sampled_from([4, 8])}
    ),
    layers=st.sampled_from(["concat", "old", "custom"]),
)
def test_any_network_comes_back(tmp_path: Path, config: DenseNetConfig, options: dict[str, Any], layers: str) -> None:
    said = {"stem_ceil": config.stem_ceil and config.stem == "imagenet"}
    said["transition_ceil"] = config.transition_ceil and len(config.block_config) > 1
    config = replace(config, **said)
    tensors = weights(config)
    path = saved(tmp_path / "model.t7", Official(config, tensors, layers=layers).network(), **options)
    model = load(path)
    assert replace(model.config, compression=config.compression) == config  # several fractions give these widths
    for name, tensor in model.tensors.items():
        np.testing.assert_array_equal(tensor.read(), tensors[name], err_msg=name)


# -- refusing -------------------------------------------------------------------------------


def change(path: tuple[int, ...], **fields: Any) -> Any:
    def apply(network: Obj) -> None:
        at(network, *path).fields.update(fields)

    return apply


def become(path: tuple[int, ...], cls: str) -> Any:
    def apply(network: Obj) -> None:
        at(network, *path).cls = cls

    return apply


def new_first(network: Obj) -> None:
    at(network, 2, 1).fields["modules"].reverse()


def holds_itself(network: Obj) -> None:
    network.fields["modules"][3] = network


def without(path: tuple[int, ...], name: str) -> Any:
    def apply(network: Obj) -> None:
        del at(network, *path).fields[name]

    return apply


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            change((7,), dW=1, dH=1),
            "7 (nn.SpatialAveragePooling) (2x2 window, stride 1, padding 0): a DenseNet has 2x2",
        ),
        (change((7,), divide=False), "divide"),
        (change((6,), groups=2), "groups 2"),
        (change((6,), dW=2, dH=2), "6 (nn.SpatialConvolution) (1x1 window, stride 2"),
        (change((1,), padW=0), "1 (nn.SpatialConvolution) (3x3 window, stride 1, padding 1x0): a DenseNet has"),
        (change((6,), kW=3), "6 (nn.SpatialConvolution) has a weight of another size than its kW and kH"),
        (change((2, 1, 2, 2), threshold=1e-6), "threshold"),
        (change((2, 1), dimension=1), "2.1 (nn.Concat)"),
        (change((12,), size=Longs([5])), "12 (nn.Reshape)"),
        (change((12,), size="all"), "12 (nn.Reshape)"),
        (change((2, 1, 2, 1), eps="small"), "no eps"),
        (become((2, 1, 2, 2), "nn.Tanh"), "2.1.2.2 (nn.Tanh)"),
        (become((2, 1, 2, 2), "fbnn.ReLU"), "2.1.2.2 (fbnn.ReLU)"),
        (become((5,), "nn.Identity"), "where a DenseNet has ReLU"),
        (without((2, 1, 2, 1), "running_mean"), "running_mean"),
        (without((1,), "weight"), "weight"),
        (without((7,), "kW"), "kW"),
        (new_first, "2.1.1 (nn.Sequential)"),
        (holds_itself, "contains itself"),
    ],
)
def test_what_is_no_densenet_is_refused_by_name(tmp_path: Path, spoil: Any, reason: str) -> None:
    network = Official(SMALL, weights(SMALL)).network()
    spoil(network)
    with pytest.raises(NotADenseNet) as refusal:
        load(saved(tmp_path / "model.t7", network))
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_dropout_that_scales_outside_training_is_refused(tmp_path: Path) -> None:
    network = Official(SMALL, weights(SMALL), dropout=True).network()
    path = saved(tmp_path / "model.t7", network)
    load(path)
    at(network, 2, 1, 2, 4).fields.pop("v2")
    with pytest.raises(NotADenseNet, match=r"2\.1\.2\.4 \(nn.Dropout\)"):
        load(saved(path, network))


def test_transitions_that_round_differently_are_refused(tmp_path: Path) -> None:
    config = replace(SMALL, block_config=(1, 1, 1))
    network = Official(config, weights(config)).network()
    at(network, 6).fields["ceil_mode"] = True
    with pytest.raises(NotADenseNet, match="transition_ceil is False here, True before"):
        load(saved(tmp_path / "model.t7", network))


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"epoch": 1, "modelFile": "model_1.t7", "optimFile": "optimState_1.t7"}, "no model"),
        ({"dfdx": np.ones(9, np.float32), "learningRate": 0.1, "evalCounter": 3}, "no model"),
        ({"epoch": 1}, "not a DenseNet"),
    ],
)
def test_training_state_is_no_model(tmp_path: Path, table: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotADenseNet, match=reason):
        load(saved(tmp_path / "latest.t7", table))


# -- heads of several layers -----------------------------------------------------------------


def linear(out: int, width: int) -> Obj:
    rng = np.random.default_rng(out)
    arrays = {"weight": rng.normal(size=(out, width)).astype("f4"), "bias": rng.normal(size=out).astype("f4")}
    return Obj("nn.Linear", arrays)


def test_a_head_of_several_layers(tmp_path: Path) -> None:
    """nn.Linear, nn.BatchNormalization, nn.ELU and another Linear behind what was the classifier."""
    network, classes = Official(SMALL, weights(SMALL)).network(), SMALL.num_classes
    statistics = {
        name: np.linspace(0.5, 1.5, classes).astype("f4") for name in ("weight", "running_mean", "running_var")
    }
    norm = Obj("nn.BatchNormalization", {**statistics, "bias": np.zeros(classes, "f4"), "eps": 1e-3})
    last = linear(3, classes)
    network.fields["modules"] += [norm, Obj("nn.ELU", {"alpha": 0.5}), last]
    path = saved(tmp_path / "model.t7", network)
    model = load(path)
    assert model.config.head == (f"linear:{classes}", "norm", "elu:0.5")
    check(saved(tmp_path / "plain.t7", Official(SMALL, weights(SMALL)).network()), SMALL, weights(SMALL))
    x = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    y = logits_of(tmp_path / "plain.t7", x)
    gamma, mean, variance = (statistics[name] for name in ("weight", "running_mean", "running_var"))
    y = (y - mean) / np.sqrt(variance + 1e-3) * gamma
    y = np.where(y > 0, y, 0.5 * np.expm1(np.minimum(y, 0))) @ last.fields["weight"].T + last.fields["bias"]
    np.testing.assert_allclose(logits_of(path, x), y, atol=1e-4 * np.abs(y).max())


@pytest.mark.parametrize(
    ("module", "word"),
    [
        (Obj("nn.LeakyReLU", {"negval": 0.2}), "leaky_relu:0.2"),
        (Obj("nn.PReLU", {"weight": np.array([0.25], "f4")}), "leaky_relu:0.25"),
        (Obj("nn.SoftPlus", {"beta": 1, "threshold": 20}), "softplus"),
        (Obj("nn.Tanh"), "tanh"),
        (Obj("nn.Clamp", {"min_val": 0, "max_val": 6}), "relu6"),
    ],
)
def test_activations_of_a_head(tmp_path: Path, module: Obj, word: str) -> None:
    network = Official(SMALL, weights(SMALL)).network()
    network.fields["modules"] += [module, linear(3, SMALL.num_classes)]
    assert load(saved(tmp_path / "model.t7", network)).config.head == (f"linear:{SMALL.num_classes}", word)


def test_a_head_with_slopes_for_each_feature_is_refused(tmp_path: Path) -> None:
    network, slopes = Official(SMALL, weights(SMALL)).network(), np.linspace(0, 1, SMALL.num_classes).astype("f4")
    network.fields["modules"] += [Obj("nn.PReLU", {"weight": slopes}), linear(3, SMALL.num_classes)]
    with pytest.raises(NotADenseNet, match=r"nn\.PReLU"):
        load(saved(tmp_path / "model.t7", network))
