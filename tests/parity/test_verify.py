"""Verification: honest pairs pass, and what is broken fails for the right reason, at the right place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.networks import SMALL, random_model, save
from helpers.parity import PREPROCESS, changed, edit, network, node
from onnx import helper, numpy_helper

from converter import Bench, Images, Source, convert, export_onnx, load, verify, verify_against
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile
from converter.exporters.onnx import to_onnx
from converter.formats.torch.zip_writer import write_torch
from converter.layouts import layout_named
from converter.layouts.custom import layout_toml
from converter.use.inputs import synthetic

# -- whole verifications -----------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
def test_honest_artifacts_pass_in_every_engine(reference: Path, tmp_path: Path) -> None:
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
        (freeze, None, "batch is declared dynamic, but only 1 can be computed, not 2, 3"),
        (widen, None, "eps"),
        (fix_batch, None, "as many as images expected, 1"),
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
    model = load(reference)
    broken = changed(model, "transitions.1.conv.weight", lambda w: w[::-1].copy())
    verdict = verify(reference, save(broken, tmp_path / "broken.safetensors"))
    found = verdict.breaks["PyTorch float32, broken.safetensors"]
    assert found.module == "transitions.1.conv"
    assert "everything before agrees to" in str(found)
    assert found.steps[-1].name == "logits"


@pytest.mark.usefixtures("one_thread")
def test_a_model_that_always_says_the_same_proves_nothing(tmp_path: Path) -> None:
    dull = changed(network(), "classifier.weight", np.zeros_like)
    verdict = verify(save(dull, tmp_path / "dull.safetensors"))
    assert not verdict.passed
    assert "prove nothing" in verdict.problems[0]


@pytest.mark.usefixtures("one_thread")
def test_nan_in_the_reference_fails(tmp_path: Path) -> None:
    broken = changed(network(), "classifier.bias", lambda b: b * np.float32("nan"))
    verdict = verify(save(broken, tmp_path / "nan.safetensors"))
    assert not verdict.passed
    assert "the reference itself" in verdict.problems[0]


@pytest.mark.usefixtures("one_thread")
def test_a_foreign_file_of_one_batch_and_size_is_compared_on_such_inputs(reference: Path, tmp_path: Path) -> None:
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
    with pytest.raises(UnreadableFile, match="truncated"):
        verify_against(record, torn)
    with pytest.raises(ConverterError, match="export it first"):
        verify_against(record, reference)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("case", ["tv-legacy-old", "timm-hf-small", "timm-blur121d", "keras3-zip"])
def test_the_original_framework_agrees(case: str) -> None:
    from helpers.cases import CASES

    framework = {"tv": "torchvision"}.get(case.partition("-")[0], case.rstrip("3-zip").partition("-")[0])
    pytest.importorskip(framework)
    file = json.loads((CASES / case / "case.json").read_text())["file"]
    verdict = verify(CASES / case / file, engines=[framework])
    assert verdict.passed
    assert f"{framework}, its own model" in verdict.results


@pytest.mark.usefixtures("one_thread")
def test_openvino(reference: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "model.onnx"
    export_onnx(reference, path)
    assert verify(reference, path, engines=["openvino@1"]).passed


# -- reduced precision ---------------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
def test_half_precision_is_judged_by_its_budget(reference: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    convert(reference, half, dtype="fp16")
    verdict = verify(reference, half)
    name = "PyTorch float32, half.safetensors"
    assert verdict.budgets[name].precision == "fp16"
    assert verdict.budgets[name].images > 10
    assert any(check.name == "weights" and check.ok for check in verdict.checks["half.safetensors"])
    broken = changed(load(half), "norm.weight", lambda w: w[::-1].copy())
    assert not verify(reference, save(broken, tmp_path / "broken.safetensors")).passed


# -- candidates that say how they are read ------------------------------------------------------


@pytest.fixture
def two_sets(reference: Path, tmp_path: Path) -> Path:
    """A file with the reference's weights in one place and others in another."""
    tree = {
        "state_dict": load(reference).tensors,
        "state_dict_ema": random_model(SMALL, seed=1).tensors,
    }
    write_torch(tmp_path / "two.pth", tree)
    return tmp_path / "two.pth"


@pytest.mark.usefixtures("one_thread")
def test_candidates_with_weights_of_their_own(reference: Path, two_sets: Path) -> None:
    assert not verify(reference, two_sets).passed  # the average is what trainers mean
    assert verify(reference, Source(two_sets, weights="state_dict")).passed
    assert verify(Source(two_sets, weights="state_dict"), reference).passed
    assert verify(two_sets, reference, weights="state_dict").passed
    # what is said of the reference is not said of the candidates
    assert not verify(two_sets, two_sets, weights="state_dict").passed


@pytest.mark.usefixtures("one_thread")
def test_one_file_read_in_two_ways_is_two_candidates(reference: Path, two_sets: Path) -> None:
    """Equal addresses are not equal sources: neither is judged in the other's place."""
    first, second = Source(two_sets, weights="state_dict"), Source(two_sets, weights="state_dict_ema")
    verdict = verify(reference, first, second)
    assert not verdict.passed
    assert len(verdict.checks) == 2
    verdict = verify(reference, second, first)
    assert not verdict.passed
    assert len(verdict.checks) == 2


@pytest.mark.usefixtures("one_thread")
def test_candidates_with_a_layout_and_keys_to_leave_out(reference: Path, tmp_path: Path) -> None:
    path, table = tmp_path / "a.npz", tmp_path / "mine.toml"
    arrays = {f"x.{name}": tensor.read() for name, tensor in load(reference).tensors.items()}
    np.savez(path, **arrays, beside=np.ones(3, np.float32))
    table.write_text(layout_toml(layout_named("library")).replace('"library"', '"mine"'))
    with pytest.raises(NotADenseNet, match="beside"):
        verify(reference, path)
    assert verify(reference, Source(path, drop=("beside",))).passed
    assert verify(reference, Source(path, str(table), drop=("beside",))).passed
    with pytest.raises(ConverterError, match="not a DenseNet in the keras layout"):
        verify(reference, Source(path, "keras", drop=("beside",)))
    with pytest.raises(ConverterError, match="no key matches"):
        verify(reference, Source(path, drop=("nothing*",)))


@pytest.mark.usefixtures("one_thread")
def test_candidates_with_settings(reference: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{name: tensor.read() for name, tensor in load(reference).tensors.items()})
    assert verify(reference, tmp_path / "a.npz").passed
    verdict = verify(reference, Source(tmp_path / "a.npz", settings={"final_relu": False}))
    assert not verdict.passed
    assert "activations" in [check.name for check in verdict.checks["a.npz"] if check.ok is False]


@pytest.mark.usefixtures("one_thread")
def test_records_and_keywords_say_the_same(reference: Path, tmp_path: Path) -> None:
    export_onnx(reference, tmp_path / "a.onnx")
    names = ("PyTorch float32", "ONNX Runtime 1 thread, a.onnx")
    by_record = verify(reference, tmp_path / "a.onnx", bench=Bench(seed=3, engines=["onnxruntime@1"]))
    by_keyword = verify(reference, tmp_path / "a.onnx", seed=3, engines=["onnxruntime@1"])
    assert tuple(by_record.results) == tuple(by_keyword.results) == names
    assert by_record.inputs == by_keyword.inputs
    assert by_record.seed == by_keyword.seed == 3
    # a keyword beats the record's field
    assert verify(reference, tmp_path / "a.onnx", bench=Bench(engines=["torch"]), engines=["onnxruntime@1"]).seed == 0


@pytest.mark.usefixtures("one_thread")
def test_what_is_said_about_the_references_images(tmp_path: Path) -> None:
    """A reference that records nothing is compared with what the user says of it."""
    bare, described = save(SMALL, tmp_path / "bare.safetensors"), tmp_path / "described.safetensors"
    convert(bare, described, preprocess=PREPROCESS.to_dict(), labels="abcde")
    unsaid = {check.name: check.ok for check in verify(bare, described).checks["described.safetensors"]}
    assert (unsaid["preprocessing"], unsaid["labels"]) == (None, None)
    about = Images(PREPROCESS, ("a", "b", "c", "d", "x"))
    verdict = verify(bare, described, about=about)
    said = {check.name: check.ok for check in verdict.checks["described.safetensors"]}
    assert (said["preprocessing"], said["labels"]) == (True, False)
    assert verify(bare, described, preprocess=PREPROCESS.to_dict(), labels="abcde").passed
