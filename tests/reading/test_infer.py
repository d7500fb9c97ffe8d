"""Names nobody knows, inferred by order."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from helpers.networks import imagenet_configs, random_tensors
from helpers.renamed import CONFIG, rename, same, save
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import inspect, load
from converter.core.errors import NotADenseNet
from converter.layouts.custom import save_layout
from densenet import DenseNetConfig


def test_unknown_names_are_matched_in_order_and_reported(tmp_path: Path) -> None:
    tensors = random_tensors(CONFIG)
    path = save(tmp_path / "a.npz", {rename(name): array for name, array in tensors.items()})
    found = inspect(path)
    assert found.chosen.layout.name == "inferred"
    assert "inferred" in found.model.notes[0]
    assert found.chosen.layout.modules["blocks.{b}.layers.{l}.norm1"] == "stage{b}.unit{l+1}.bn1"
    assert found.chosen.layout.modules["transitions.{t}.conv"] == "down{t+10}.conv"
    same(path, tensors)


def test_what_tensors_do_not_show_is_said_also_where_a_norm_was_folded(tmp_path: Path) -> None:
    tensors = random_tensors(CONFIG)
    norm = {leaf: tensors.pop(f"stem.norm.{leaf}") for leaf in ("weight", "bias", "running_mean", "running_var")}
    scale = norm["weight"] / np.sqrt(norm["running_var"] + 1e-5)
    foreign = {}
    for name, array in tensors.items():
        if name == "stem.conv.weight":
            foreign |= {"stem.conv.weight": array * scale[:, None, None, None]}
            foreign |= {"stem.conv.bias": norm["bias"] - norm["running_mean"] * scale}
        else:
            foreign[name] = array
    found = inspect(save(tmp_path / "a.npz", {rename(name): array for name, array in foreign.items()}))
    assert found.chosen.layout.name == "inferred"
    assert any(note.startswith("the file holds tensors alone") for note in found.model.notes)


def test_names_in_alphabetical_order_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    """As safetensors' own writer leaves them, tensors named by one running number."""
    config = DenseNetConfig(growth_rate=4, block_config=(6, 5), init_features=8, num_classes=3)
    tensors, number, owner = {}, {}, ""
    for name, array in random_tensors(config).items():
        owner = name.rpartition(".")[0]
        tensors[f"layer_{number.setdefault(owner, len(number))}.{name.rpartition('.')[2]}"] = array
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    same(tmp_path / "a.safetensors", random_tensors(config))


@settings(max_examples=30)
@given(imagenet_configs(), st.integers(0, 3))
def test_any_network_is_inferred(config: DenseNetConfig, offset: int) -> None:
    from converter.core.checkpoint import Tensor
    from converter.reading.infer import infer
    from converter.reading.wrappers import groups

    tensors = random_tensors(config)
    foreign = {re.sub(r"\d+", lambda m: str(int(m[0]) + offset), rename(name)): t for name, t in tensors.items()}
    found = infer(groups({name: Tensor.of(array) for name, array in foreign.items()}), "x")
    assert found is not None
    assert found.config is not None
    assert found.config.tensors() == config.tensors()
    for name, (_, (key,)) in found.used.items():
        np.testing.assert_array_equal(foreign[key], tensors[name])


@pytest.mark.parametrize("change", ["swap", "drop", "add"])
def test_what_is_not_in_order_is_refused(change: str, tmp_path: Path) -> None:
    items = [(rename(name), array) for name, array in random_tensors(CONFIG).items()]
    if change == "swap":
        items[1:5], items[6:10] = items[6:10], items[1:5]
    elif change == "drop":
        del items[10]
    else:
        items.insert(10, ("extra.weight", np.zeros((4, 4, 3, 3), np.float32)))
    with pytest.raises(NotADenseNet, match="not a DenseNet in any known layout"):
        load(save(tmp_path / "a.npz", dict(items)))


LONGER = replace(CONFIG, head=("linear:7", "relu", "norm", "linear:6", "relu"))
NUMBERS = {"head.0.linear": 0, "head.2.norm": 2, "head.3.linear": 3, "classifier": 5}


@pytest.mark.parametrize("place", ["top", "top.list"])
def test_a_head_of_several_layers_is_found_behind_unknown_names(place: str, tmp_path: Path) -> None:
    tensors = random_tensors(LONGER)
    foreign = {}
    for name, array in tensors.items():
        module, _, leaf = name.rpartition(".")
        foreign[f"{place}.{NUMBERS[module]}.{rename(leaf)}" if module in NUMBERS else rename(name)] = array
    path = save(tmp_path / "a.npz", foreign)
    found = inspect(path)
    assert found.model.config == LONGER
    assert any("read as linear:7,relu,norm,linear:6,relu (a ReLU is assumed between" in n for n in found.model.notes)
    same(path, tensors)
    assert load(path, settings={"head": "linear:7,gelu,norm,linear:6,relu"}).config.head[1] == "gelu"
    save_layout(tmp_path / "own.toml", found.chosen.layout)
    again = load(path, layout=str(tmp_path / "own.toml"))
    assert again.config == LONGER


def test_a_norm_before_the_classifier_is_found_behind_unknown_names(tmp_path: Path) -> None:
    config = replace(CONFIG, head=("norm",))
    foreign = {rename(name).replace("head.0.bn", "neck"): array for name, array in random_tensors(config).items()}
    assert any(name.startswith("neck.") for name in foreign)
    same(save(tmp_path / "a.npz", foreign), random_tensors(config))


def test_layers_behind_unknown_names_that_do_not_follow_each_other_are_refused(tmp_path: Path) -> None:
    """Two heads beside each other."""
    foreign = {rename(name): array for name, array in random_tensors(CONFIG).items()}
    width = CONFIG.num_features
    foreign |= {"other.weight": np.ones((3, width), np.float32), "other.bias": np.ones(3, np.float32)}
    with pytest.raises(NotADenseNet):
        load(save(tmp_path / "a.npz", foreign))
