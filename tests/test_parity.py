"""Verification: honest pairs pass, and what is broken fails for the right reason, at the right place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import CIFAR, SMALL, random_tensors
from onnx import helper, numpy_helper

from converter import export_onnx, load
from converter.core.checkpoint import Tensor
from converter.core.errors import ConverterError, UnreadableFile
from converter.core.model import Model
from converter.core.model import Origin as Source
from converter.engines.specs import parse_specs
from converter.exporters.onnx import to_onnx
from converter.formats.safetensors import write_safetensors
from converter.parity import compare as yardstick
from converter.parity.budget import Budget, judge
from converter.parity.checks import config_checks, different_weights, model_checks
from converter.parity.onnx_checks import onnx_checks
from converter.parity.proto import precision_of
from converter.use.inputs import KINDS, awkward_size, pixels, standard, synthetic
from converter.writing.convert import convert
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess

PREPROCESS = Preprocess(resize=72, crop=(64, 64))


def network(config: DenseNetConfig = SMALL, seed: int = 0) -> Model:
    tensors = {name: Tensor.of(array) for name, array in random_tensors(config, seed).items()}
    labels = tuple(f"class {i}" for i in range(config.num_classes))
    return Model(config, tensors, Source("small", "0" * 64, "none", "library"), {}, (), PREPROCESS.to_dict(), labels)


def written(model: Model, path: Path) -> Path:
    write_safetensors(path, model.tensors, {**model.metadata(), "densenet.layout": "library"})
    return path


def changed(model: Model, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Model:
    return replace(model, tensors={**model.tensors, name: Tensor.of(change(model.tensors[name].read().copy()))})


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return written(network(), tmp_path / "reference.safetensors")


@pytest.fixture
def one_thread() -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)


# -- the yardstick -----------------------------------------------------------------------------


def test_the_limit_follows_pytorch_and_has_a_floor() -> None:
    assert yardstick.limits_for([0.0, 0.0]) == [8 * yardstick.ULP] * 2
    assert yardstick.limits_for([1e-6, 1e-6, 4e-6]) == pytest.approx([5e-6, 5e-6, 2e-5])
    assert yardstick.limits_for([1e-6, 1e-6, float("inf")])[2] == pytest.approx(5e-6)
    assert yardstick.limits_for([0.0, 0.0], [49, 4096]) == [(8 + 49 / 8) * yardstick.ULP, (8 + 512) * yardstick.ULP]


def test_errors_of_features_explain_an_error_of_logits_that_luck_hid() -> None:
    double = np.array([[3.0, 4.0]])
    single = np.array([[3.000003, 4.0]], np.float32)
    weight, logits = np.array([[2.0, 1.0]]), np.array([[10.0]])
    found = yardstick.explained_error(single, double, weight, logits)
    assert found == pytest.approx(6e-7, rel=0.1)
    assert yardstick.explained_error(single * np.float32(np.nan), double, weight, logits) == np.inf


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        (np.array([[1.0, np.nan]], np.float32), "1 of 2 logits are NaN"),
        (np.array([[1.0, np.inf]], np.float32), "NaN or infinite"),
        (np.array([[1.0, 2.0, 3.0]], np.float32), "shape [1, 3], [1, 2] expected"),
        (np.array([[1.0, 2.0]], np.float64), "float64, float32 expected"),
        (np.array([[1.0, 2.1]], np.float32), "exceeds"),
    ],
)
def test_what_no_tolerance_excuses(logits: np.ndarray, words: str) -> None:
    found = yardstick.compare("x", logits, np.array([[1.0, 2.0]]), 1e-6)
    assert words in found.problem
    assert not found.passed


def test_figures_of_a_comparison() -> None:
    oracle = np.array([[0.0, 2.0, 4.0], [4.0, 2.0, 0.0]])
    logits = np.array([[0.0, 2.0, 4.0], [4.0, 6.0, 0.0]], np.float32)
    found = yardstick.compare("x", logits, oracle, 2.0)
    assert (found.error, found.absolute, found.top1, found.top5) == (1.0, 4.0, 0.5, 1.0)
    assert found.ulps == 1 / yardstick.ULP
    assert found.kl > 1
    assert found.passed
    assert yardstick.compare("x", oracle.astype(np.float32), oracle, 0.0).kl == 0


def test_inputs_that_prove_nothing() -> None:
    same = np.ones((3, 4))
    assert yardstick.spread([same, 1000 * same]) == 0
    assert yardstick.spread([np.array([[1.0, 0.0], [0.0, 1.0]])]) == 0.5


# -- inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_synthetic_inputs_come_again_from_their_seeds(kind: str) -> None:
    a, b, c = (synthetic(kind, (2, 3, 16, 17), seed).array for seed in (1, 1, 2))
    assert a.shape == (2, 3, 16, 17)
    assert a.dtype == np.float32
    assert np.isfinite(a).all()
    assert np.array_equal(a, b)
    assert np.array_equal(a, c) == (kind == "zeros")


def test_permuted_is_the_same_image_with_its_channels_reversed() -> None:
    array = synthetic("permuted", (2, 3, 8, 8), 0).array
    assert np.array_equal(array[0, ::-1], array[1])


@pytest.mark.parametrize(("config", "size"), [(SMALL, 64), (DenseNetConfig(), 224), (CIFAR, 32)])
def test_awkward_sizes_show_rounding_up_at_every_pooling(config: DenseNetConfig, size: int) -> None:
    for length in awkward_size(config, (size, size)):
        assert abs(length - size) <= 32
        if config.stem != "cifar":
            length = (length - 1) // 2 + 1  # noqa: PLW2901
            assert length % 2 == 0
            length //= 2  # noqa: PLW2901
        for _ in config.block_config[1:]:
            assert length % 2 == 1
            length //= 2  # noqa: PLW2901


def test_the_usual_inputs_have_every_kind_and_batches_of_1_2_and_7() -> None:
    batches = standard(SMALL, PREPROCESS, (), seed=3)
    assert {batch.kind for batch in batches} == set(KINDS)
    assert {len(batch.array) for batch in batches} == {1, 2, 7}
    assert [batch.seed for batch in batches] == list(range(3, 3 + len(batches)))
    assert len({batch.name for batch in batches}) == len(batches)


def test_pixels_are_what_the_network_sees() -> None:
    for batch in pixels(PREPROCESS, 0):
        assert batch.pixels is not None
        assert batch.pixels.dtype == np.uint8
        top = (batch.pixels.shape[1] - 64) // 2
        left = round((batch.pixels.shape[2] - 64) / 2)
        crop = batch.pixels[:, top : top + 64, left : left + 64].transpose(0, 3, 1, 2) / 255.0
        mean, std = (np.reshape(v, (3, 1, 1)) for v in (PREPROCESS.mean, PREPROCESS.std))
        assert np.allclose(batch.array, (crop - mean) / std, atol=1e-5)


# -- engines by name ---------------------------------------------------------------------------


def test_engines_by_name() -> None:
    names = ["onnxruntime-basic@1", "openvino@2", "torch-channels-last", "torch", "timm"]
    labels = [spec.label for spec in parse_specs(names)]
    assert labels == [
        "ONNX Runtime basic 1 thread",
        "OpenVINO 2 threads",
        "PyTorch channels-last",
        "PyTorch float32",
        "timm",
    ]


@pytest.mark.parametrize("name", ["", "tensorrt", "onnxruntime-best", "torch@2", "openvino@0", "openvino-all"])
def test_no_such_engine(name: str) -> None:
    with pytest.raises(ConverterError, match="no engine is called"):
        parse_specs([name])


# -- static checks -----------------------------------------------------------------------------


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


@pytest.mark.parametrize("graph", ["exact", "fused"])
@pytest.mark.parametrize("config", [SMALL, CIFAR, replace(SMALL, stem="deep", stem_pool="blur", padding="same")])
def test_our_own_files_keep_what_they_promise(config: DenseNetConfig, graph: str, tmp_path: Path) -> None:
    model = network(config)
    path = tmp_path / "model.onnx"
    proto = to_onnx(model, graph=graph)
    path.write_bytes(proto.SerializeToString())
    checks = onnx_checks(proto, path, config, model, preprocess=model.preprocess, labels=model.labels)
    assert [check for check in checks if check.ok is not True] == []
    assert "weights" in [check.name for check in checks]
    assert precision_of(proto) == "fp32"


# -- whole verifications -----------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
def test_honest_artifacts_pass_in_every_engine(reference: Path, tmp_path: Path) -> None:
    from converter.parity.verify import verify

    files = []
    for graph in ("exact", "fused"):
        files.append(tmp_path / f"{graph}.onnx")
        export_onnx(reference, files[-1], graph=graph, features=True, probabilities=True)
    files.append(tmp_path / "image.onnx")
    export_onnx(reference, files[-1], image_input=True)
    files.append(tmp_path / "model.npz")
    convert(reference, files[-1])
    files[-1] = tmp_path / "model.pth"
    convert(reference, files[-1])
    engines = ["torch", "torch-channels-last", *(f"onnxruntime-{level}@1" for level in ("disabled", "basic", "all"))]
    verdict = verify(reference, *files, engines=engines)
    assert verdict.passed, [c for cs in verdict.results.values() for c in cs if c.problem]
    # yardstick, PyTorch's other form, ONNX files in 3 engines, 2 of them with 2 further outputs, checkpoint
    assert len(verdict.results) == 1 + 1 + 3 * 3 + 3 * 2 * 2 + 2
    assert any("8-bit" in c.batch for c in verdict.results["ONNX Runtime disabled 1 thread, image.onnx"])
    again = verify(reference, *files[:1], engines=["onnxruntime@1"])
    assert again.to_dict()["inputs"] == verify(reference, *files[:1], engines=["onnxruntime@1"]).to_dict()["inputs"]


def edit(source: Path, target: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    proto = onnx.load(source)
    change(proto)
    target.write_bytes(proto.SerializeToString())
    return target


def node(proto: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in proto.graph.node if n.output[0] == name)


def leak(proto: onnx.ModelProto) -> None:
    node(proto, "blocks.2.layers.1.relu1").op_type = "LeakyRelu"


def freeze(proto: onnx.ModelProto) -> None:
    flat = node(proto, "features")
    flat.op_type = "Reshape"
    flat.input.append("shape")
    del flat.attribute[:]
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, -1]), "shape"))


def stale(proto: onnx.ModelProto) -> None:
    for tensor in proto.graph.initializer:
        if tensor.name == "blocks.2.layers.1.norm1.running_var":
            array = numpy_helper.to_array(tensor).copy()
            array[1] *= 3
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def widen(proto: onnx.ModelProto) -> None:
    for attribute in node(proto, "norm").attribute:
        attribute.f = 1e-5 + 1e-8


def fix_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def rename(proto: onnx.ModelProto) -> None:
    node(proto, "logits").output[0] = proto.graph.output[0].name = "out"


def normalise(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.full((1, 3, 1, 1), 0.4, np.float32), "mean"))
    for each in proto.graph.node:
        for i, x in enumerate(each.input):
            if x == "pixel_values":
                each.input[i] = "centred"
    proto.graph.node.insert(0, helper.make_node("Sub", ["pixel_values", "mean"], ["centred"]))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("change", "module", "words"),
    [
        (leak, "blocks.2.layers.1.relu1", "is LeakyRelu, Relu expected"),
        (stale, "blocks.2.layers.1.norm1", "running_var differs in 1 of"),
        (freeze, None, "batch is declared dynamic, but only 1 can be computed, not 2, 7"),
        (widen, None, "eps"),
        (fix_batch, None, "batch and size are dynamic"),
        (rename, None, "one is called logits"),
        (normalise, "stem.conv", "centred"),
    ],
)
@pytest.mark.parametrize("graph", ["exact", "fused"])
def test_broken_graphs_fail_and_say_where(
    change: Callable[[onnx.ModelProto], None],
    module: str | None,
    words: str,
    graph: str,
    reference: Path,
    tmp_path: Path,
) -> None:
    from converter.parity.report import cases
    from converter.parity.verify import verify

    honest = tmp_path / "honest.onnx"
    export_onnx(reference, honest, graph=graph)
    broken = edit(honest, tmp_path / "broken.onnx", change)
    verdict = verify(reference, broken, honest, engines=["onnxruntime@1"])
    assert not verdict.passed
    name = "ONNX Runtime 1 thread, broken.onnx"
    said = " ".join([*(case.problem for case in cases(verdict)), *map(str, verdict.breaks.values())])
    assert words in said
    if module:
        found = verdict.breaks[name].module
        assert found == module or (graph == "fused" and found == "stem.conv+norm" and module == "stem.conv")
    other = verdict.results["ONNX Runtime 1 thread, honest.onnx"]
    assert all(c.passed for c in other)


@pytest.mark.usefixtures("one_thread")
def test_a_wrong_checkpoint_fails_and_says_where(reference: Path, tmp_path: Path) -> None:
    from converter.parity.verify import verify

    model = load(reference)
    broken = changed(model, "transitions.1.conv.weight", lambda w: w[::-1].copy())
    verdict = verify(reference, written(broken, tmp_path / "broken.safetensors"))
    found = verdict.breaks["PyTorch float32, broken.safetensors"]
    assert found.module == "transitions.1.conv"
    assert "everything before agrees to" in str(found)
    assert found.steps[-1].name == "logits"


@pytest.mark.usefixtures("one_thread")
def test_a_model_that_always_says_the_same_proves_nothing(tmp_path: Path) -> None:
    from converter.parity.verify import verify

    dull = changed(network(), "classifier.weight", np.zeros_like)
    verdict = verify(written(dull, tmp_path / "dull.safetensors"))
    assert not verdict.passed
    assert "prove nothing" in verdict.problems[0]


@pytest.mark.usefixtures("one_thread")
def test_nan_in_the_reference_fails(tmp_path: Path) -> None:
    from converter.parity.verify import verify

    broken = changed(network(), "classifier.bias", lambda b: b * np.float32("nan"))
    verdict = verify(written(broken, tmp_path / "nan.safetensors"))
    assert not verdict.passed
    assert "the reference itself" in verdict.problems[0]


@pytest.mark.usefixtures("one_thread")
def test_a_foreign_file_of_one_batch_and_size_is_compared_on_such_inputs(reference: Path, tmp_path: Path) -> None:
    from converter.parity.verify import verify

    proto = to_onnx(load(reference), graph="exact")
    del proto.metadata_props[:]
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value, dims[2].dim_value, dims[3].dim_value = 2, 96, 80
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
    path = tmp_path / "foreign.onnx"
    path.write_bytes(proto.SerializeToString())
    verdict = verify(reference, path, engines=["onnxruntime@1"])
    assert verdict.passed
    (compared,) = (cs for name, cs in verdict.results.items() if name.endswith("foreign.onnx"))
    assert len(compared) > 8
    assert all(c.batch.endswith("x96x80") for c in compared)


@pytest.mark.usefixtures("one_thread")
def test_inputs_of_the_users_own(reference: Path, tmp_path: Path) -> None:
    from converter.parity.verify import verify

    mine = tmp_path / "mine.npy"
    np.save(mine, synthetic("natural", (3, 3, 40, 48), 9).array)
    verdict = verify(reference, images=mine)
    assert verdict.passed
    assert verdict.inputs[-1]["kind"] == "array"
    np.save(mine, np.zeros((3, 40, 48), np.float32))
    with pytest.raises(ConverterError, match=r"float \(N, 3, height, width\) is needed"):
        verify(reference, images=mine)


@pytest.mark.usefixtures("one_thread")
def test_a_recorded_reference_replaces_pytorch(reference: Path, tmp_path: Path) -> None:
    from converter.parity.verify import verify, verify_against

    record, good = tmp_path / "record.npz", tmp_path / "good.onnx"
    export_onnx(reference, good)
    assert verify(reference, good, record=record).passed
    verdict = verify_against(record, good)
    assert verdict.passed
    assert verdict.oracle == "recorded: PyTorch float64"
    assert any(check.name == "preprocessing" and check.ok for check in verdict.checks["good.onnx"])
    bad = edit(good, tmp_path / "bad.onnx", leak)
    assert not verify_against(record, bad).passed
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(good.read_bytes()[:1000])
    with pytest.raises(UnreadableFile, match="cannot be read"):
        verify_against(record, torn)
    with pytest.raises(ConverterError, match="export it first"):
        verify_against(record, reference)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("case", ["tv-legacy-old", "timm-hf-small", "timm-blur121d", "keras3-zip"])
def test_the_original_framework_agrees(case: str) -> None:
    from cases import CASES

    from converter.parity.verify import verify

    framework = {"tv": "torchvision"}.get(case.partition("-")[0], case.rstrip("3-zip").partition("-")[0])
    pytest.importorskip(framework)
    file = json.loads((CASES / case / "case.json").read_text())["file"]
    verdict = verify(CASES / case / file, engines=[framework])
    assert verdict.passed
    assert f"{framework}, its own model" in verdict.results


@pytest.mark.usefixtures("one_thread")
def test_openvino(reference: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from converter.parity.verify import verify

    path = tmp_path / "model.onnx"
    export_onnx(reference, path)
    assert verify(reference, path, engines=["openvino@1"]).passed


# -- reduced precision ---------------------------------------------------------------------------


def test_the_budget_passes_rounding_and_fails_more() -> None:
    random = np.random.default_rng(0)
    expected = [random.standard_normal((40, 10))]
    rounded = [batch.astype(np.float16).astype(np.float32) for batch in expected]
    assert judge(rounded, expected, "fp16").passed
    noisy = [batch + random.normal(0, 0.05, batch.shape) for batch in expected]
    judgement = judge(noisy, expected, "fp16")
    assert "logit error" in judgement.problems[0]
    assert judge(noisy, expected, "int8").passed
    assert not judge([np.roll(batch, 1, 0) for batch in expected], expected, "int8").passed
    assert not judge([batch * np.nan for batch in expected], expected, "int8").passed
    assert not judge([batch[:, 1:] for batch in expected], expected, "int8").passed
    assert judge(noisy, expected, "fp16", budget=Budget(0.5, 0.5)).passed
    with pytest.raises(ConverterError, match="no budget for"):
        judge(noisy, expected, "fp8")


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_the_budget_of_a_single_class_knows_no_scale(scale: float) -> None:
    expected = [scale * np.random.default_rng(0).standard_normal((40, 1))]
    assert judge([batch * 1.001 for batch in expected], expected, "fp16").passed
    assert not judge([batch * 1.05 for batch in expected], expected, "fp16").passed
    assert judge(expected, expected, "fp16").decided > 20


@pytest.mark.usefixtures("one_thread")
def test_half_precision_is_judged_by_its_budget(reference: Path, tmp_path: Path) -> None:
    from converter.parity.verify import verify

    half = tmp_path / "half.safetensors"
    convert(reference, half, dtype="fp16")
    verdict = verify(reference, half)
    name = "PyTorch float32, half.safetensors"
    assert verdict.budgets[name].precision == "fp16"
    assert verdict.budgets[name].images > 10
    broken = changed(load(half), "norm.weight", lambda w: w[::-1].copy())
    assert not verify(reference, written(broken, tmp_path / "broken.safetensors")).passed
