"""The ONNX graph, written from tensors, against the PyTorch module."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.networks import random_model
from helpers.variants import SMALL, VARIANTS, run, torch_logits

from converter.core.checkpoint import Tensor
from converter.core.errors import ConverterError
from converter.exporters.onnx import DEFAULT_OPSET, LOWEST_OPSET, to_onnx
from converter.exporters.passes import PASSES
from densenet import DenseNetConfig


def images(config: DenseNetConfig, batch: int, size: int) -> np.ndarray:
    space = (size, size + 6) if config.spatial_dims == 2 else (size // 2, size // 2 + 3, size // 2)
    return np.random.default_rng(1).standard_normal((batch, config.in_channels, *space), np.float32)


@pytest.mark.parametrize("graph", ["exact", "fused"])
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_logits_equal_pytorchs_at_any_batch_and_size(config: DenseNetConfig, graph: Any) -> None:
    model = random_model(config, scaled=True)
    proto = to_onnx(model, graph=graph)
    onnx.checker.check_model(proto, full_check=True)
    for batch, size in ((1, 64), (3, 75), (2, 97)):
        x = images(config, batch, size)
        expected, (got,) = torch_logits(model, x), run(proto, x)
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= 5e-6 * np.abs(expected).max(), (batch, size)


@pytest.mark.parametrize("name", PASSES)
def test_each_rewrite_alone_changes_the_graph_but_not_its_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(replace(SMALL, head=("norm", "linear:9", "relu")), scaled=True)
    monkeypatch.setattr("converter.exporters.onnx.PASSES", {name: PASSES[name]})
    plain, changed = to_onnx(model, graph="exact"), to_onnx(model, graph="fused")
    assert list(changed.graph.node) != list(plain.graph.node)
    x = images(SMALL, 2, 75)
    before, after = (run(proto, x)[0] for proto in (plain, changed))
    np.testing.assert_allclose(after, before, rtol=0, atol=5e-6 * np.abs(before).max())


def test_the_fused_graph_says_what_it_did() -> None:
    model = random_model(SMALL, scaled=True)
    ops = [[n.op_type for n in to_onnx(model, graph=g).graph.node] for g in ("exact", "fused")]
    norms = [o.count("BatchNormalization") for o in ops]
    assert norms == [1 + 2 * 6 + 2 + 1, 6 + 2 + 1]  # stem's and every norm2 are folded
    fused = to_onnx(model).graph
    nodes = {n.name: i for i, n in enumerate(fused.node)}
    assert nodes["transitions.0.pooled"] < nodes["transitions.0.pool"]
    weights = {i.name for i in fused.initializer}
    assert "stem.conv.weight" not in weights  # no plain name on folded values
    assert "stem.conv+norm.weight" in weights


def test_values_carry_library_names() -> None:
    exact = to_onnx(random_model(SMALL, scaled=True), graph="exact").graph
    made = {output for node in exact.node for output in node.output}
    assert {module.name for module in SMALL.modules() if module.kind != "linear"} <= made
    assert {i.name for i in exact.initializer} == set(SMALL.tensors())


@pytest.mark.parametrize("opset", [LOWEST_OPSET, 13, 17, 18, DEFAULT_OPSET, onnx.defs.onnx_opset_version()])
@pytest.mark.parametrize("config", ["imagenet", "deep, blurred", "rounded up", "volumes"])
def test_every_opset_computes_the_same(config: str, opset: int) -> None:
    model = random_model(VARIANTS[config], scaled=True)
    proto = to_onnx(model, opset=opset)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == opset
    x = images(model.config, 2, 75)
    np.testing.assert_allclose(run(proto, x)[0], torch_logits(model, x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("opset", [LOWEST_OPSET - 1, onnx.defs.onnx_opset_version() + 1])
def test_opsets_that_cannot_be_written(opset: int) -> None:
    with pytest.raises(ConverterError, match=f"opset {opset}"):
        to_onnx(random_model(SMALL, scaled=True), opset=opset)


def test_optional_outputs() -> None:
    model = random_model(SMALL, scaled=True)
    x = images(SMALL, 2, 64)
    proto = to_onnx(model, features=True, probabilities=True)
    onnx.checker.check_model(proto, full_check=True)
    assert [o.name for o in proto.graph.output] == ["logits", "features", "probabilities"]
    logits, features, probabilities = run(proto, x)
    assert features.shape == (2, SMALL.num_features)
    weight, bias = (model.tensors[f"classifier.{leaf}"].read() for leaf in ("weight", "bias"))
    np.testing.assert_allclose(features @ weight.T + bias, logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), rtol=1e-4)
    with pytest.raises(ConverterError, match="no probabilities"):
        to_onnx(random_model(replace(SMALL, num_classes=0), scaled=True), probabilities=True)
    with pytest.raises(ConverterError, match="fused and exact"):
        to_onnx(model, graph="fast")  # type: ignore[arg-type]


def test_weights_stored_in_half_precision_compute_in_float32() -> None:
    model = random_model(SMALL, scaled=True)
    half = {name: Tensor.of(tensor.read().astype(np.float16)) for name, tensor in model.tensors.items()}
    proto = to_onnx(replace(model, tensors=half))
    assert {i.data_type for i in proto.graph.initializer} == {onnx.TensorProto.FLOAT}
    x = images(SMALL, 1, 64)
    expected = torch_logits(replace(model, tensors=half), x)
    np.testing.assert_allclose(run(proto, x)[0], expected, rtol=0, atol=5e-6 * np.abs(expected).max())
