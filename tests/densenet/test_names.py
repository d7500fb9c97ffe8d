"""Library names taken apart: every name a config makes, and nothing else."""

from __future__ import annotations

import re

import pytest
from helpers.networks import any_configs
from hypothesis import given
from hypothesis import strategies as st

from densenet.config import DenseNetConfig
from densenet.module import COUNTER, NORM_TENSORS
from densenet.names import Name, parse

EXAMPLES = {
    "stem.conv.weight": Name("stem.conv", "weight", "conv", "stem", None, None, None),
    "stem.norm2.bias": Name("stem.norm2", "bias", "norm", "stem", None, None, 2),
    "blocks.1.layers.20.conv2.weight": Name("blocks.1.layers.20.conv2", "weight", "conv", "layer", 1, 20, 2),
    "blocks.0.layers.3.norm1.running_var": Name("blocks.0.layers.3.norm1", "running_var", "norm", "layer", 0, 3, 1),
    "transitions.2.norm.running_mean": Name("transitions.2.norm", "running_mean", "norm", "transition", 2, None, None),
    "norm.weight": Name("norm", "weight", "norm", "head", None, None, None),
    "classifier.bias": Name("classifier", "bias", "linear", "head", None, None, None),
    "classifier": Name("classifier", "", "linear", "head", None, None, None),
}
TEMPLATES = {
    "stem.conv": "stem.conv",
    "stem.conv0": "stem.conv{s}",
    "stem.norm1": "stem.norm{s}",
    "blocks.1.layers.20.conv2": "blocks.{b}.layers.{l}.conv2",
    "transitions.2.norm": "transitions.{t}.norm",
    "norm": "norm",
    "classifier": "classifier",
}


@pytest.mark.parametrize(("text", "name"), EXAMPLES.items())
def test_examples(text: str, name: Name) -> None:
    assert parse(text) == name


@pytest.mark.parametrize(("module", "template"), TEMPLATES.items())
def test_templates(module: str, template: str) -> None:
    assert parse(module).template == parse(f"{module}.weight").template == template


def kind_of(name: str, shape: tuple[int, ...]) -> str:
    """What a tensor's module is, told without taking its name apart."""
    if name.startswith("classifier.") or ".linear." in name:
        return "linear"
    return "conv" if len(shape) > 1 else "norm"


def filled(name: Name) -> str:
    """A template with the numbers of its name put back."""
    values = {"b": name.block, "l": name.layer, "t": name.block, "s": name.number, "h": name.number}
    return re.sub(r"\{(\w)\}", lambda m: str(values[m[1]]), name.template)


@given(any_configs())
def test_every_tensor_of_any_network(config: DenseNetConfig) -> None:
    for name, shape in config.tensors().items():
        found = parse(name)
        assert f"{found.module}.{found.leaf}" == name
        assert found.kind == kind_of(name, shape)
        assert filled(found) == found.module
        assert found.role == found.module.split(".")[-1]
        if found.part == "layer":
            assert (found.block or 0) < len(config.block_config)
            assert (found.layer or 0) < config.block_config[found.block or 0]
            assert found.ends_layer == found.role.endswith("2")
        else:
            assert found.layer is None
            assert not found.ends_layer


@given(any_configs())
def test_every_module_of_any_network(config: DenseNetConfig) -> None:
    for module in config.modules():
        place = module.place
        assert (place, place.module, place.leaf) == (parse(module.name), module.name, "")
        assert module.kind == place.kind
        leaves = {parse(name).leaf for name in module.tensors()}
        linear = {"weight", "bias"} if module.bias else {"weight"}
        assert leaves == {"norm": set(NORM_TENSORS), "conv": {"weight"}, "linear": linear}[module.kind]
        if module.kind == "norm":
            assert parse(f"{module.name}.{COUNTER}").module == module.name


JUNK = [
    "",
    ".",
    "weight",
    "features.conv0.weight",
    "stem",
    "stem.",
    "stem.pool",
    "stem.conv.",
    "stem.conv.weight.data",
    "blocks.0.layers.0",
    "blocks.0.norm1.weight",
    "blocks.x.layers.0.norm1.weight",
    "blocks.-1.layers.0.norm1.weight",
    "blocks..layers.0.norm1.weight",
    "transitions.norm.weight",
    "transitions.0.pool",
    "module.stem.conv.weight",
    "norm .weight",
    "norm.weight\n",
    "conv1x.weight",
    "classifier weight",
]


@pytest.mark.parametrize("text", JUNK)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no name of the library's"):
        parse(text)


@given(st.text(max_size=30))
def test_any_text_is_a_name_that_comes_back_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except ValueError:
        return
    assert text == (f"{found.module}.{found.leaf}" if found.leaf else found.module)
