"""What is compared without computing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.networks import CIFAR, SMALL, export_model
from helpers.parity import changed, network

from converter.layouts import layout_named
from converter.parity.artifact import Artifact
from converter.parity.checks import ROUNDINGS, config_checks, different_weights, model_checks
from converter.parity.onnx_checks import onnx_checks
from converter.parity.proto import precision_of
from densenet.config import DenseNetConfig


def test_an_eps_that_no_logit_shows_is_a_wrong_contract() -> None:
    model = network()
    other = replace(model, config=replace(SMALL, eps=1e-5 + 1e-8))
    failed = [check for check in model_checks(model, other) if check.ok is False]
    assert [check.name for check in failed] == ["eps"]


def test_an_eps_folded_into_the_variances_is_right() -> None:
    model = network()
    other = replace(model, config=replace(SMALL, eps=1e-3))
    for name in model.tensors:
        if name.endswith("running_var"):
            other = changed(other, name, lambda v: (v.astype(np.float64) + (1e-5 - 1e-3)).astype(np.float32))
    checks = {check.name: check for check in model_checks(model, other)}
    assert all(check.ok is not False for check in checks.values())
    assert "folded" in checks["eps"].detail


@pytest.mark.parametrize(("layout", "right"), [("keras", True), ("torchvision", False), ("timm", False)])
def test_an_eps_that_the_layout_fixes_is_right_where_variances_are_too_large_to_show_it(
    layout: str, right: bool
) -> None:
    model = network()
    for name in model.tensors:
        if name.endswith("running_var"):
            model = changed(model, name, lambda v: v + np.float32(1))
    eps = layout_named("keras").eps
    other = replace(model, config=replace(SMALL, eps=eps), origin=replace(model.origin, layout=layout))
    failed = [check.name for check in model_checks(model, other) if check.ok is False]
    assert failed == ([] if right else ["eps"])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"stem_ceil": True}, "pooling"),
        ({"global_pool": "max"}, "pooling"),
        ({"padding": "same"}, "padding"),
        ({"final_relu": False}, "activations"),
        ({"num_classes": 6}, "classes"),
        ({"growth_rate": 5}, "architecture"),
    ],
)
def test_settings_that_differ(change: dict[str, object], name: str) -> None:
    failed = [check.name for check in config_checks(SMALL, replace(SMALL, **change)) if not check.ok]
    assert name in failed
    assert all(check.ok for check in config_checks(SMALL, SMALL))


def test_weights_are_compared_as_they_act() -> None:
    model = network()
    # A scale moved from a norm into the statistics behind it changes nothing.
    moved = changed(
        model, "blocks.0.layers.1.norm1.running_var", lambda v: (v + np.float32(1e-5)) * 4 - np.float32(1e-5)
    )
    moved = changed(moved, "blocks.0.layers.1.norm1.weight", lambda v: v * 2)
    assert not list(different_weights(model, moved))
    broken = changed(model, "blocks.2.layers.0.conv2.weight", lambda w: w * np.float32(1.0001))
    assert [name for name, _ in different_weights(model, broken)] == ["blocks.2.layers.0.conv2"]
    broken = changed(model, "norm.running_mean", lambda v: v + np.eye(1, len(v), 2, dtype=np.float32)[0])
    ((name, problem),) = different_weights(model, broken)
    assert name == "norm"
    assert "shift differs in 1 of" in problem
    assert "[2]" in problem
    nan = changed(model, "classifier.bias", lambda v: v * np.float32("nan"))
    assert [name for name, _ in different_weights(model, nan)] == ["classifier"]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_weights_in_half_precision_differ_by_their_rounding_alone(precision: str) -> None:
    model = network()
    rounding, half = ROUNDINGS[precision], model
    for name in model.tensors:
        half = changed(half, name, lambda w: stored(w, precision))
    assert not list(different_weights(model, half, rounding))
    assert list(different_weights(model, half))
    for name in ("blocks.1.layers.0.conv1.weight", "classifier.bias", "norm.bias"):
        broken = changed(half, name, lambda w: w + np.eye(1, w.size, 1, dtype=w.dtype).reshape(w.shape) / 50)
        ((module, problem),) = different_weights(model, broken, rounding)
        assert module == name.rpartition(".")[0]
        assert "in 1 of" in problem


def stored(array: np.ndarray, precision: str) -> np.ndarray:
    """The nearest numbers of a precision, as float32."""
    if precision == "fp16":
        return array.astype(np.float16).astype(np.float32)
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize("graph", ["exact", "fused"])
@pytest.mark.parametrize("config", [SMALL, CIFAR, replace(SMALL, stem="deep", stem_pool="blur", padding="same")])
def test_our_own_files_keep_what_they_promise(config: DenseNetConfig, graph: str, tmp_path: Path) -> None:
    model = network(config)
    proto = export_model(model, tmp_path / "model.onnx", graph=graph)
    file = Artifact.open(tmp_path / "model.onnx")
    checks = onnx_checks(file, config, model.images, model)
    assert [check for check in checks if check.ok is not True] == []
    assert "weights" in [check.name for check in checks]
    assert precision_of(proto) == "fp32"
