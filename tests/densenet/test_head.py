"""Heads of several layers: what a config says of them, and what the module and the graph compute."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from helpers.networks import SMALL, heads, random_model
from hypothesis import given, settings

from converter.core.folded_head import folded_head
from converter.engines.torch import torch_module
from converter.exporters.onnx import to_onnx
from densenet.config import DenseNetConfig
from densenet.head import ACTIVATIONS, HeadLayer
from densenet.model import DenseNet

TINY = replace(SMALL, block_config=(1, 1))
MLP = ("norm", "linear:7:no_bias", "leaky_relu:0.2", "norm", "linear:6", "gelu")


def test_a_config_names_every_tensor_of_the_module() -> None:
    config = replace(TINY, head=MLP)
    module = DenseNet(config)
    state = {name: tuple(t.shape) for name, t in module.state_dict().items() if not name.endswith("tracked")}
    assert state == config.tensors()
    assert sum(p.numel() for p in module.parameters()) == config.parameters()
    assert [m.name for m in config.modules()][-5:] == [
        *("head.0.norm", "head.1.linear", "head.3.norm", "head.4.linear"),
        "classifier",
    ]


def test_a_head_adds_its_multiplications() -> None:
    config = replace(TINY, head=("linear:7", "relu"))
    features = config.classifier_features
    without = TINY.num_classes * features
    assert config.macs(64) - TINY.macs(64) == 7 * features + 7 * TINY.num_classes - without
    assert config.flops(64) == TINY.flops(64)  # mmpretrain's table does not count what follows pooling


@given(heads())
def test_a_head_survives_its_words_and_json(head: tuple[str, ...]) -> None:
    config = replace(TINY, head=head)
    assert tuple(str(HeadLayer.parse(word)) for word in config.head) == config.head
    assert DenseNetConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("word", ["linear", "linear:0", "linear:x", "norm:1", "relu:2", "swish", "leaky_relu:x", ""])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="a head has layers such as"):
        replace(TINY, head=(word,))


def test_a_head_needs_a_classifier() -> None:
    with pytest.raises(ValueError, match="ends in a classifier"):
        replace(TINY, head=("relu",), num_classes=0)


@pytest.mark.parametrize("word", [*ACTIVATIONS, "leaky_relu:0.3", "elu:0.5", "celu:0.7"])
def test_graphs_compute_every_activation_as_pytorch_does(word: str) -> None:
    same(replace(TINY, head=("linear:9", word)))


@given(heads())
@settings(max_examples=12)
def test_graphs_and_folded_heads_compute_what_the_module_does(head: tuple[str, ...]) -> None:
    same(replace(TINY, head=head))


def same(config: DenseNetConfig) -> None:
    """Both graphs, and the folded model, give the module's logits."""
    model = random_model(config, seed=3, scaled=True)
    x = np.random.default_rng(0).normal(size=(3, 3, 33, 35)).astype(np.float32)
    module = torch_module(model)
    with torch.inference_mode():
        expected = module(torch.from_numpy(x)).numpy()
        folded = torch_module(folded_head(model))(torch.from_numpy(x)).numpy()
    scale = max(np.abs(expected).max(), 1e-3)
    assert np.abs(folded - expected).max() / scale < 1e-4
    for graph in ("exact", "fused"):
        proto = to_onnx(model, graph=graph, opset=13).SerializeToString()
        session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
        (found,) = session.run(["logits"], {"pixel_values": x})
        assert np.abs(found - expected).max() / scale < 1e-4, graph


def test_a_fused_graph_has_no_norm_in_its_head() -> None:
    model = random_model(replace(TINY, head=("norm", "linear:7", "norm", "relu", "linear:2", "linear:9", "norm")))
    ops = [node.op_type for node in to_onnx(model).graph.node]
    assert ops.index("Flatten") == len(ops) - 5
    assert ops[-4:] == ["Gemm", "Relu", "Gemm", "Gemm"]  # the narrow layer stays: together they would be larger
