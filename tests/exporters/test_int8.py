"""8 bits: what they change, what they cost, what they refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers.networks import CIFAR, SMALL, random_model, random_tensors
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from converter.core.model import Model
from converter.engines.onnxruntime import onnx_engine
from converter.exporters.fp16 import to_half
from converter.exporters.moments import Moments
from converter.exporters.onnx import lazy_onnx
from converter.exporters.rounding import quantised, rounded
from converter.parity.budget import judged, judges
from converter.use.calibrate import calibrate, calibration_inputs


def test_making_half_leaves_the_original_alone(trained: Model) -> None:
    whole = lazy_onnx(trained)
    before = whole.whole()
    to_half(whole)
    calibrate(whole, calibration_inputs(trained)[:2])
    assert whole.whole() == before


def decoded(proto: onnx.ModelProto, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The integers behind a decoded constant, and their scales."""
    weights = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    (node,) = [node for node in proto.graph.node if name in node.output]
    assert node.op_type == "DequantizeLinear"
    return weights[node.input[0]], weights[node.input[1]]


def test_eight_bits_from_the_first_norm_to_the_last_concatenation(trained: Model) -> None:
    proto = calibrate(lazy_onnx(trained), calibration_inputs(trained)[:2]).whole()
    makers = {node.output[0]: node for node in proto.graph.node}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 3 * sum(trained.config.block_config)  # norms are convolutions, too
    for node in convolutions:
        assert makers[node.input[0]].op_type == "DequantizeLinear"
        values, scales = decoded(proto, node.input[1])
        assert (values.dtype, scales.shape) == (np.int8, (len(values),))
    features = [node for node in proto.graph.node if node.op_type == "Concat"]
    assert len(features) == sum(trained.config.block_config)
    assert all(makers[x].op_type in ("QuantizeLinear", "Concat", "MaxPool") for node in features for x in node.input)
    (classifier,) = [node for node in proto.graph.node if node.op_type == "Gemm"]
    assert makers[classifier.input[0]].op_type == "Flatten"
    constants = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert constants["classifier.weight.integer"] == TensorProto.INT8
    assert "classifier.weight" not in constants
    assert all(imported.domain == "" for imported in proto.opset_import)


def test_what_calibration_holds_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(SMALL)
    whole, images, lines = lazy_onnx(model), calibration_inputs(model)[:2], list[str]()
    at_once = calibrate(whole, images).whole()
    monkeypatch.setattr("converter.use.calibrate.HELD", 1)
    assert calibrate(whole, images, lines.append).whole() == at_once
    made = [node for node in at_once.graph.node if node.op_type == "Conv" and node.input[1].endswith(".weight.decoded")]
    once_each = len([line for line in lines if line.startswith("calibrating")])
    assert 2 < once_each / len(images) <= len(made)  # no convolution was looked at twice


@given(st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3)), st.integers(0, 99))
def test_two_products_of_neighbours_fit_in_sixteen_bits(shape: tuple[int, ...], seed: int) -> None:
    random, inputs = np.random.default_rng(seed), int(np.prod(shape[1:]))
    weight = random.standard_cauchy(shape)
    nearest, scale = quantised(weight)
    units = scale.astype(np.float64).reshape(-1, 1, 1, 1)
    assert np.all(np.abs(nearest * units - weight) <= units * 0.5001)
    moments = Moments(int(np.prod(shape[2:])), inputs)
    moments.add((random.random((8, inputs)) @ random.random((inputs, inputs))).astype(np.float32))
    for values in (nearest, rounded(weight, scale, moments, np.ones(inputs))):
        wide = values.astype(int)
        for order in (wide.reshape(len(wide), -1), np.moveaxis(wide, 1, -1).reshape(len(wide), -1)):
            sums = order[:, :-1] + order[:, 1:]
            assert 255 * np.abs(sums).max(initial=0) <= 32767
        assert np.abs(wide).max() <= 127


def test_weights_are_rounded_so_that_outputs_change_little() -> None:
    random = np.random.default_rng(0)
    inputs = (random.random((500, 12)) @ random.random((12, 54))).astype(np.float32)  # of six channels, 3x3
    weight = random.normal(size=(16, 6, 3, 3))
    nearest, scale = quantised(weight)
    moments = Moments(9, 54)
    moments.add(inputs)
    centred = inputs - inputs.mean(axis=0)
    errors = [
        np.std(centred @ (values * scale[:, None, None, None] - weight).reshape(16, -1).T)
        for values in (rounded(weight, scale, moments, np.ones(54)), nearest)
    ]
    assert errors[0] < errors[1] / 3


@pytest.mark.parametrize(("mean", "spread", "same"), [(1e4, 1.0, False), (0.0, 1e25, True), (1.0, 0.0, True)])
def test_rounding_by_covariances_that_float32_hardly_holds(mean: float, spread: float, same: bool) -> None:
    random = np.random.default_rng(0)
    rows = mean + spread * (random.random((500, 6)) @ random.random((6, 12)))
    weight = random.normal(size=(8, 12, 1, 1))
    nearest, scale = quantised(weight)
    moments = Moments(1, 12)
    for part in np.array_split(rows.astype(np.float32), 5):
        moments.add(part)
    values = rounded(weight, scale, moments, np.ones(12))
    assert (values == nearest).all() == same
    errors = [
        np.std((rows - rows.mean(axis=0)) @ (w * scale[:, None, None, None] - weight)[..., 0, 0].T)
        for w in (values, nearest)
    ]
    assert same or errors[0] < errors[1] / 1.5


def test_equal_weights_as_of_average_pooling_are_exact() -> None:
    weight = np.full((3, 1, 2, 2), 0.25) * np.array([1, 0.37, 1e-6]).reshape(3, 1, 1, 1)
    values, scale = quantised(weight)
    np.testing.assert_allclose(values * scale[:, None, None, None], weight, rtol=1e-6)


VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "deep stem, blur": {"stem": "deep", "stem_widths": (4, 4), "stem_pool": "blur", "transition_pool": "blur"},
    "rounding up": {"stem_ceil": True, "transition_ceil": True},
    "no ReLU in transitions, TensorFlow's padding": {"transition_relu": False, "padding": "same"},
    "two pools": {"global_pool": "catavgmax", "final_relu": False},
    "three dimensions, no classifier": {"spatial_dims": 3, "in_channels": 1, "num_classes": 0},
    "cifar": {**CIFAR.to_dict(), "block_config": CIFAR.block_config},
}


@pytest.mark.parametrize("graph", ["fused", "exact"])
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_every_architecture_can_be_eight_bit(changes: dict[str, object], graph: str) -> None:
    config = replace(SMALL, **changes)  # type: ignore[arg-type]
    model = random_model(config)
    whole = lazy_onnx(model, graph=graph)  # type: ignore[arg-type]
    made = calibrate(whole, calibration_inputs(model)[:8])
    onnx.checker.check_model(made.whole(), full_check=True)
    batches = judges(model)[:2]
    run = onnx_engine(whole)
    verdict = judged("int8", onnx_engine(made), batches, [run(b.array) for b in batches], config)
    assert verdict.error < 0.1, verdict
    plain = onnx_engine(made, level="disabled")  # where nothing is fused, floats compute the same
    assert judged("int8", plain, batches, [run(b.array) for b in batches], config).error < 0.1


@pytest.mark.parametrize("gamma", [1e-3, 1e-5, 1e-6, 1e-12, 1e-38, 0.0])
def test_a_bias_outlives_a_weight_that_is_almost_zero(gamma: float) -> None:
    tensors = random_tensors(SMALL)
    for name in [name for name in tensors if name.endswith(("norm1.weight", "norm2.weight"))]:
        tensors[name][::2] = gamma
    model = random_model(changes=tensors)
    whole, batches = lazy_onnx(model), judges(model)[:2]
    made = calibrate(whole, calibration_inputs(model)[:8])
    run = onnx_engine(whole)
    truths = [run(batch.array) for batch in batches]
    for level in ("disabled", "all"):  # in floats, and in integers
        assert judged("int8", onnx_engine(made, level=level), batches, truths, SMALL).error < 0.01


def test_the_same_input_gives_the_same_bytes(trained: Model, trained_images: list[np.ndarray]) -> None:
    made = [calibrate(lazy_onnx(trained), calibration_inputs(trained, trained_images[:4])).whole() for _ in range(2)]
    assert made[0] == made[1]


def test_metadata_names_the_precision_and_keeps_the_rest(trained: Model) -> None:
    whole = lazy_onnx(trained)
    before = {p.key: p.value for p in whole.proto.metadata_props}
    for precision, made in (("fp16", to_half(whole)), ("int8", calibrate(whole, calibration_inputs(trained)[:2]))):
        proto = made.proto
        assert {p.key: p.value for p in proto.metadata_props} == before | {"densenet.precision": precision}
        assert proto.producer_name == "densenet-converter"
