"""Networks with several heads: what a config says of them, and what the module computes."""

import json
from dataclasses import replace

import pytest
import torch
from helpers.networks import SMALL, several_heads
from hypothesis import given, settings

from densenet.config import DenseNetConfig
from densenet.head import Head
from densenet.model import DenseNet, MultiHeadDenseNet
from densenet.names import parse

TINY = replace(SMALL, block_config=(1, 1), num_classes=0)
HEADS = (Head("age", 4, ("norm", "linear:7:no_bias", "gelu")), Head("sex", 1))


@given(several_heads())
@settings(max_examples=15)
def test_a_config_names_every_tensor_of_the_module(heads: tuple[Head, ...]) -> None:
    config = replace(TINY, heads=heads)
    module = MultiHeadDenseNet(config)
    state = {name: tuple(t.shape) for name, t in module.state_dict().items() if not name.endswith("tracked")}
    assert state == config.tensors()
    assert [parse(name).of for name in state if name.startswith("heads.")].count("") == 0
    assert sum(p.numel() for p in module.parameters()) == config.parameters()
    linears = sum(p.numel() for name, p in module.heads.named_parameters() if p.dim() == 2)
    assert config.macs(64) - TINY.macs(64) == linears
    assert config.flops(64) == TINY.flops(64)
    assert DenseNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_every_head_computes_what_its_plain_network_does() -> None:
    config = replace(TINY, heads=HEADS)
    module, x = MultiHeadDenseNet(config).eval(), torch.randn(2, 3, 33, 35)
    with torch.inference_mode():
        logits = module(x)
        assert list(logits) == ["age", "sex"]
        for name, values in logits.items():
            plain = DenseNet(config.branch(name)).eval()
            state = {key.removeprefix(f"heads.{name}."): value for key, value in module.state_dict().items()}
            plain.load_state_dict({key: state[key] for key in plain.state_dict()})
            torch.testing.assert_close(plain(x), values)


def test_a_plain_network_says_nothing_of_heads() -> None:
    assert "heads" not in SMALL.to_dict()
    assert SMALL.name == replace(SMALL, num_classes=0, heads=HEADS).name


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"heads": HEADS[:1]}, "2 to 64"),
        ({"heads": HEADS[:1] * 2}, "two heads of one name"),
        ({"heads": HEADS, "num_classes": 3}, "num_classes must be 0"),
        ({"heads": (Head("logits", 2), Head("b", 2))}, "called 'logits'"),
        ({"heads": (Head("act", 2), Head("b", 2))}, "called 'act'"),
        ({"heads": (Head("a.b", 2), Head("b", 2))}, r"called 'a\.b'"),
        ({"heads": (Head("a", 0), Head("b", 2))}, "positive"),
        ({"heads": {"a": {"num_classes": 2}, "b": {"classes": 2}}}, "head b is not said"),
        ({"heads": {"a": {"num_classes": 2}, "b": {"num_classes": 2, "head": ["swish"]}}}, "layers such as"),
    ],
)
def test_other_heads_are_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        DenseNetConfig.from_dict({**TINY.to_dict(), **changes})


def test_a_plain_module_is_not_made_of_several_heads() -> None:
    with pytest.raises(ValueError, match="MultiHeadDenseNet"):
        DenseNet(replace(TINY, heads=HEADS))
