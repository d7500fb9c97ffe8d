"""fp16 and 8 bits: what they change, what they cost, and that their judge can say no."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from networks import CIFAR, SMALL, random_tensors
from onnx import TensorProto, numpy_helper

from converter import export_onnx, load
from converter.core.checkpoint import Tensor
from converter.core.errors import CannotExpress, ConverterError
from converter.core.model import Model
from converter.core.model import Origin as Source
from converter.demo.demo import CHECKPOINT, IMAGES, record
from converter.engines.onnxruntime import onnx_engine
from converter.exporters.fp16 import to_half
from converter.exporters.int8 import quantised, to_int8
from converter.exporters.onnx import to_onnx
from converter.parity.budget import BUDGETS
from converter.parity.judges import judged, judges
from converter.use.calibrate import calibration_inputs, check_range, images_of
from converter.use.inputs import Batch


def small(**changes: np.ndarray) -> Model:
    tensors = random_tensors(SMALL) | changes
    source = Source("small", "0" * 64, "none", "library")
    return Model(SMALL, {name: Tensor.of(array) for name, array in tensors.items()}, source)


@pytest.fixture(scope="module")
def digits() -> Model:
    return replace(load(CHECKPOINT), preprocess=record()["preprocessing"])


@pytest.fixture(scope="module")
def images(digits: Model) -> list[np.ndarray]:
    return images_of(digits, IMAGES)


def test_half_is_half_the_size_and_takes_and_gives_float32(digits: Model, images: list[np.ndarray]) -> None:
    whole = to_onnx(digits)
    half = to_half(whole)
    onnx.checker.check_model(half, full_check=True)
    kinds = {tensor.data_type for tensor in half.graph.initializer}
    assert kinds == {TensorProto.FLOAT16}
    assert half.ByteSize() < 0.56 * whole.ByteSize()
    for value in (*half.graph.input, *half.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert [value.name for value in half.graph.input] == ["pixel_values"]
    assert [value.name for value in half.graph.output] == ["logits"]
    x = np.concatenate(images)
    expected, found = onnx_engine(whole.SerializeToString())(x), onnx_engine(half.SerializeToString())(x)
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()
    assert (found.argmax(1) == expected.argmax(1)).all()


def test_making_half_leaves_the_original_alone(digits: Model) -> None:
    whole = to_onnx(digits)
    before = whole.SerializeToString()
    to_half(whole)
    to_int8(whole, calibration_inputs(digits)[:2])
    assert whole.SerializeToString() == before


def test_every_output_of_half_is_cast_back() -> None:
    proto = to_half(to_onnx(small(), features=True, probabilities=True))
    onnx.checker.check_model(proto, full_check=True)
    x = np.zeros((1, 3, 64, 64), np.float32)
    assert onnx_engine(proto.SerializeToString())(x).dtype == np.float32


def test_weights_too_large_for_half_are_refused() -> None:
    huge = np.full(SMALL.tensors()["norm.weight"], 1e5, np.float32)
    with pytest.raises(CannotExpress, match=r"norm\.weight has values beyond 65504"):
        to_half(to_onnx(small(**{"norm.weight": huge})))


def test_values_that_would_overflow_half_between_operators_are_refused() -> None:
    loud = np.full(SMALL.tensors()["stem.norm.bias"], 6e4, np.float32)
    proto = to_onnx(small(**{"stem.norm.bias": loud, "transitions.0.norm.bias": loud[:1].repeat(14)}))
    with pytest.raises(CannotExpress, match=r"reaches .*, beyond 65504"):
        check_range(proto, judges(small())[:1])


def test_bytes_as_input_are_refused() -> None:
    proto = to_onnx(small(), image_input=True)
    with pytest.raises(CannotExpress):
        to_half(proto)
    with pytest.raises(CannotExpress):
        to_int8(proto, [np.zeros((1, 3, 64, 64), np.float32)])


def test_eight_bits_hold_on_held_out_images(digits: Model, images: list[np.ndarray]) -> None:
    whole = to_onnx(digits)
    quantised = to_int8(whole, calibration_inputs(digits, images[::2]))
    onnx.checker.check_model(quantised, full_check=True)
    batches = [Batch("held out", np.concatenate(images[1::2]), "images")]
    truths = [onnx_engine(whole.SerializeToString())(batches[0].array)]
    verdict = judged("int8", onnx_engine(quantised.SerializeToString()), batches, truths)
    assert verdict.passed
    assert verdict.top1 == 1.0
    assert verdict.error < 0.03


def decoded(proto: onnx.ModelProto, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The integers behind a decoded constant, and their scales."""
    weights = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    (node,) = [node for node in proto.graph.node if name in node.output]
    assert node.op_type == "DequantizeLinear"
    return weights[node.input[0]], weights[node.input[1]]


def test_eight_bits_from_the_first_norm_to_the_last_concatenation(digits: Model) -> None:
    proto = to_int8(to_onnx(digits), calibration_inputs(digits)[:2])
    makers = {node.output[0]: node for node in proto.graph.node}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 3 * sum(digits.config.block_config)  # norms are convolutions, too
    for node in convolutions:
        assert makers[node.input[0]].op_type == "DequantizeLinear"
        values, scales = decoded(proto, node.input[1])
        assert (values.dtype, scales.shape) == (np.int8, (len(values),))
    features = [node for node in proto.graph.node if node.op_type == "Concat"]
    assert len(features) == sum(digits.config.block_config)
    assert all(makers[x].op_type in ("QuantizeLinear", "Concat", "MaxPool") for node in features for x in node.input)
    (classifier,) = [node for node in proto.graph.node if node.op_type == "Gemm"]
    assert makers[classifier.input[0]].op_type == "Flatten"
    constants = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert constants["classifier.weight.integer"] == TensorProto.INT8
    assert "classifier.weight" not in constants
    assert all(imported.domain == "" for imported in proto.opset_import)


@given(
    st.integers(1, 5).flatmap(
        lambda m: arrays(np.float64, st.tuples(st.just(m), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3)),
                         elements=st.floats(-1e3, 1e3, allow_subnormal=False))
    )
)  # fmt: skip
def test_two_products_of_neighbours_fit_in_sixteen_bits(weight: np.ndarray) -> None:
    values, scale = quantised(weight)
    wide = values.astype(int)
    for order in (wide.reshape(len(wide), -1), np.moveaxis(wide, 1, -1).reshape(len(wide), -1)):
        sums = order[:, :-1] + order[:, 1:]
        assert 255 * np.abs(sums).max(initial=0) <= 32767
    units = scale.astype(np.float64).reshape(-1, 1, 1, 1)
    assert np.all(np.abs(values * units - weight) <= units * 0.5001)


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
    tensors = {name: Tensor.of(array) for name, array in random_tensors(config).items()}
    model = Model(config, tensors, Source("small", "0" * 64, "none", "library"))
    whole = to_onnx(model, graph=graph)  # type: ignore[arg-type]
    proto = to_int8(whole, calibration_inputs(model)[:8])
    onnx.checker.check_model(proto, full_check=True)
    batches = judges(model)[:2]
    run = onnx_engine(whole.SerializeToString())
    verdict = judged("int8", onnx_engine(proto.SerializeToString()), batches, [run(b.array) for b in batches])
    assert verdict.error < 0.1, verdict
    plain = onnx_engine(proto.SerializeToString(), level="disabled")  # where nothing is fused, floats compute the same
    assert judged("int8", plain, batches, [run(b.array) for b in batches]).error < 0.1


@pytest.mark.parametrize("gamma", [1e-3, 1e-5, 1e-6, 1e-12, 1e-38, 0.0])
def test_a_bias_outlives_a_weight_that_is_almost_zero(gamma: float) -> None:
    tensors = random_tensors(SMALL)
    for name in [name for name in tensors if name.endswith(("norm1.weight", "norm2.weight"))]:
        tensors[name][::2] = gamma
    model = small(**tensors)
    whole, batches = to_onnx(model), judges(model)[:2]
    proto = to_int8(whole, calibration_inputs(model)[:8]).SerializeToString()
    run = onnx_engine(whole.SerializeToString())
    truths = [run(batch.array) for batch in batches]
    for level in ("disabled", "all"):  # in floats, and in integers
        assert judged("int8", onnx_engine(proto, level=level), batches, truths).error < 0.01


def test_the_same_input_gives_the_same_bytes(digits: Model, images: list[np.ndarray]) -> None:
    made = [to_int8(to_onnx(digits), calibration_inputs(digits, images[:4])).SerializeToString() for _ in range(2)]
    assert made[0] == made[1]


def test_metadata_names_the_precision_and_keeps_the_rest(digits: Model) -> None:
    whole = to_onnx(digits)
    before = {p.key: p.value for p in whole.metadata_props}
    for precision, proto in (("fp16", to_half(whole)), ("int8", to_int8(whole, calibration_inputs(digits)[:2]))):
        assert {p.key: p.value for p in proto.metadata_props} == before | {"densenet.precision": precision}
        assert proto.producer_name == "densenet-converter"


def test_old_opsets_and_missing_calibration_are_refused(digits: Model) -> None:
    with pytest.raises(CannotExpress, match="13 or newer"):
        to_int8(to_onnx(digits, opset=12), calibration_inputs(digits)[:1])
    with pytest.raises(ConverterError, match="at least one input"):
        to_int8(to_onnx(digits), [])


def test_calibration_never_judges(digits: Model, images: list[np.ndarray]) -> None:
    calibrating = {array.tobytes() for array in calibration_inputs(digits, images[::2])}
    judging = {
        batch.array[i : i + 1].tobytes() for batch in judges(digits, images[1::2]) for i in range(len(batch.array))
    }
    assert not calibrating & judging
    assert len(calibration_inputs(digits, images * 3)) <= 64 + 16


LOGITS = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda x: x, ""),
        (lambda x: x + np.float32(1e-4), ""),
        (lambda x: x * np.nan, "NaN or infinite"),
        (lambda x: x * 1.5, "logit error"),
        (lambda x: x[:, ::-1], "decided images keep their class"),
    ],
)
def test_the_judge(change: object, problem: str) -> None:
    batches = [Batch("all", np.zeros((40, 3, 8, 8), np.float32), "noise")]
    verdict = judged("fp16", lambda _: change(LOGITS), batches, [LOGITS])  # type: ignore[operator]
    assert problem in "; ".join(verdict.problems)
    assert verdict.passed == (not problem)
    assert set(verdict.to_dict()) >= {"passed", "error", "top1", "top1_decided", "images", "budget"}


def test_near_ties_do_not_count_as_disagreement_but_are_reported() -> None:
    truth = np.array([[1.0, 0.0, -5.0], [1.0, 0.99, -5.0]], np.float32)
    found = truth + np.array([[0, 0, 0], [-0.02, 0.02, 0]], np.float32)
    verdict = judged("int8", lambda _: found, [Batch("two", np.zeros((2, 3, 8, 8), np.float32), "noise")], [truth])
    assert (verdict.top1, verdict.top1_decided, verdict.decided) == (0.5, 1.0, 1)
    assert verdict.passed
    assert BUDGETS["int8"].error == 0.10


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_export_writes_each_precision(precision: str, tmp_path: Path) -> None:
    done = export_onnx(CHECKPOINT, tmp_path / "model.onnx", precision=precision)  # type: ignore[arg-type]
    assert (done.inputs, done.outputs) == (("pixel_values",), ("logits",))
    assert onnx_engine(done.path)(np.zeros((2, 3, 32, 40), np.float32)).shape == (2, 10)


def test_export_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match="no precision is called 'fp8'; there are fp32, fp16, int8"):
        export_onnx(CHECKPOINT, tmp_path / "a.onnx", precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(ConverterError, match="only int8 is calibrated"):
        export_onnx(CHECKPOINT, tmp_path / "a.onnx", precision="fp16", calibration=IMAGES)
    assert not list(tmp_path.iterdir())
