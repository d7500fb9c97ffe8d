"""Files with an interface of their own: what we export verifies, and a fault in it is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.networks import random_model, save
from helpers.parity import edit, node
from onnx import numpy_helper

from converter import Verification, convert, export_onnx, load, verify
from converter.core.errors import ConverterError
from converter.use.predict import predictor
from densenet.config import DenseNetConfig
from densenet.head import Head
from densenet.preprocess import Preprocess

TINY = DenseNetConfig(growth_rate=4, block_config=(2, 2), init_features=8, num_classes=4, stem="cifar")
STEPS = Preprocess(resize=18, crop=(16, 16))
ALL = ("cam", "logits", "maps", "blocks.0", "transitions.0", "probabilities", "features")
OF_BLOCKS = ("blocks.1", "stem")
FILES: dict[str, dict[str, Any]] = {
    "lengths": {"batch": 2, "size": 16},
    "names": {"input_name": "x", "output_names": "abcdefg", "outputs": ALL},
    "features alone": {"outputs": ("features", "blocks.0"), "output_names": ("e", "b")},
    "maps alone": {"outputs": OF_BLOCKS, "io_layout": "nhwc"},
    "channels last": {"io_layout": "nhwc", "outputs": ALL},
    "float16": {"io_dtype": "fp16", "outputs": ALL, "io_layout": "nhwc", "batch": 3},
    "half": {"io_dtype": "fp16", "precision": "fp16", "features": True},
    "weights apart": {"external_data": True, "batch": 2},
    "images": {"image_input": True, "input_name": "x", "batch": 1, "outputs": ALL},
    "images of one size": {"image_input": True, "size": (30, 41), "io_dtype": "fp16"},
    "images, resized before": {"image_input": True, "opset": 13, "io_dtype": "fp16"},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch").set_num_threads(1)
    folder = tmp_path_factory.mktemp("interface")
    return save(random_model(TINY, scaled=True, preprocess=STEPS), folder / "a.safetensors")


def judged(source: Path, *files: Path) -> Verification:
    return verify(source, *files, engines=["onnxruntime@1"])


@pytest.fixture(scope="module")
def files(source: Path) -> dict[str, Path]:
    made = {name: source.with_name(f"{name}.onnx") for name in FILES}
    for name, path in made.items():
        export_onnx(source, path, **FILES[name])
    return made


def test_every_interface_verifies(source: Path, files: dict[str, Path]) -> None:
    verdict = judged(source, *files.values())
    wrong = [c.problem for found in verdict.results.values() for c in found if c.problem]
    wrong += [str(c) for found in verdict.checks.values() for c in found if c.ok is False]
    assert verdict.passed, wrong
    for name, path in files.items():
        outputs = {key.rpartition(", ")[2] for key in verdict.results if f", {path.name}" in key}
        given = {value.name for value in onnx.load(path).graph.output}
        assert len(outputs) == len(given), name  # each of them was compared
    assert {c.batch for c in verdict.results["ONNX Runtime 1 thread, lengths.onnx"]} <= {
        c.batch for c in verdict.results["PyTorch float32"]
    }


def swapped(proto: onnx.ModelProto) -> None:
    """The maps with height and width exchanged."""
    (turn,) = [n for n in proto.graph.node if n.op_type == "Transpose" and n.input[0] == proto.graph.input[0].name]
    turn.attribute[0].ints[:] = [0, 3, 2, 1]


def first_weight(proto: onnx.ModelProto) -> None:
    name = node(proto, "blocks.0.layers.0.conv2").input[1]
    (weight,) = [w for w in proto.graph.initializer if w.name == name]
    array = numpy_helper.to_array(weight).copy()
    array *= 2
    weight.CopyFrom(numpy_helper.from_array(array, name))


def said(change: Callable[[dict[str, Any]], None]) -> Callable[[onnx.ModelProto], None]:
    def edited(proto: onnx.ModelProto) -> None:
        (prop,) = [p for p in proto.metadata_props if p.key == "densenet.interface"]
        values = json.loads(prop.value)
        change(values)
        prop.value = json.dumps(values)

    return edited


def constant(name: str, factor: float) -> Callable[[onnx.ModelProto], None]:
    def edited(proto: onnx.ModelProto) -> None:
        (weight,) = [w for w in proto.graph.initializer if w.name == name]
        array = numpy_helper.to_array(weight)
        weight.CopyFrom(numpy_helper.from_array((array * factor).astype(array.dtype), name))

    return edited


def other_maps(proto: onnx.ModelProto) -> None:
    """The output that is the last block's maps is what is before its last layer."""
    last = next(n for n in proto.graph.node if n.output[0] == "b")
    last.input[0], last.input[1] = last.input[1], last.input[0]


FAULTS: list[tuple[str, Callable[[onnx.ModelProto], None], str]] = [
    ("names", said(lambda v: v["outputs"].update(b="features", g="logits")), ""),
    ("names", said(lambda v: v.update(input="y")), "its input is called y"),
    ("names", said(lambda v: v["outputs"].update(c="stem")), ""),
    ("features alone", other_maps, ""),
    ("maps alone", first_weight, ""),
    ("maps alone", swapped, "has no Transpose of it"),
    ("channels last", said(lambda v: v.pop("layout")), ""),
    ("float16", first_weight, ""),
    ("half", constant("norm.weight", 1.1), ""),
    ("images", constant("preprocess.mean", 1.3), "image preparation"),
    ("images of one size", constant("preprocess.resize", 1.1), "image preparation"),
    ("images, resized before", constant("preprocess.std", 1.1), "image preparation"),
]


@pytest.mark.parametrize(("name", "change", "words"), FAULTS)
def test_a_fault_is_found(
    name: str,
    change: Callable[[onnx.ModelProto], None],
    words: str,
    source: Path,
    files: dict[str, Path],
    tmp_path: Path,
) -> None:
    verdict = judged(source, edit(files[name], tmp_path / "broken.onnx", change))
    assert not verdict.passed
    failing = [c for found in verdict.checks.values() for c in found if c.ok is False]
    assert words in " ".join(f"{check.name}: {check.detail}" for check in failing)


def test_damaged_weights_in_a_file_of_their_own_are_found(source: Path, tmp_path: Path) -> None:
    done = export_onnx(source, tmp_path / "a.onnx", external_data=True)
    assert done.data is not None
    whole = bytearray(done.data.read_bytes())
    whole[400:800] = bytes(400)
    done.data.write_bytes(whole)
    assert not judged(source, done.path).passed
    done.data.write_bytes(whole[:1000])
    with pytest.raises(ConverterError, match=r"a\.onnx"):
        judged(source, done.path)
    done.data.unlink()
    with pytest.raises(ConverterError, match=r"a\.onnx"):
        judged(source, done.path)


def test_they_are_read_back(source: Path, files: dict[str, Path], tmp_path: Path) -> None:
    for name, path in files.items():
        if name == "maps alone":
            with pytest.raises(ConverterError, match=r"gives blocks\.1, stem alone"):
                load(path)
            continue
        convert(path, tmp_path / "b.safetensors")
        verdict = verify(tmp_path / "b.safetensors", path, engines=["onnxruntime@1"])
        assert verdict.passed, name
        assert load(path).config.num_classes == (0 if name == "features alone" else 4)


def test_they_predict_the_same(source: Path, files: dict[str, Path]) -> None:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (30, 41, 3), np.uint8) for _ in range(5)]
    expected = predictor(source).logits(pictures)
    for name, path in files.items():
        if name.endswith("alone"):
            with pytest.raises(ConverterError, match=r"gives .* are needed|has no classifier"):
                predictor(path)
            continue
        found = predictor(path)
        near = 0.02 if "half" in name or "images" in name else 1e-3
        assert np.abs(found.logits(pictures) - expected).max() <= near * np.abs(expected).max(), name
    with pytest.raises(ConverterError, match=r"takes? images of 41x30 alone"):
        predictor(files["images of one size"]).logits([pictures[0][:20]])


@pytest.mark.parametrize(
    "how",
    [
        {"output_names": ("a", "b"), "io_dtype": "fp16", "io_layout": "nhwc"},
        {"output_names": ("kind", "age")},
        {"outputs": ("blocks.0", "age", "kind", "age.probabilities", "features")},
        {"outputs": ("features", "maps")},
    ],
    ids=str,
)
def test_several_heads(how: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("torch").set_num_threads(1)
    config = replace(TINY, num_classes=0, heads=(Head("age", 3), Head("kind", 2)))
    source = save(random_model(config, scaled=True, preprocess=STEPS), tmp_path / "a.safetensors")
    path = export_onnx(source, tmp_path / "a.onnx", **how).path
    verdict = judged(source, path)
    assert verdict.passed, [c.problem for found in verdict.results.values() for c in found if c.problem]
    if how.get("outputs") != ("features", "maps"):
        assert [head.name for head in load(path).config.heads] == ["age", "kind"]
        picture = np.zeros((20, 20, 3), np.uint8)
        expected = predictor(source).logits([picture])
        assert np.abs(predictor(path).logits([picture]) - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("dims", [1, 3])
def test_signals_and_volumes_with_their_channels_last(dims: int, tmp_path: Path) -> None:
    pytest.importorskip("torch").set_num_threads(1)
    config = replace(TINY, spatial_dims=dims, in_channels=2)
    source = save(random_model(config, scaled=True), tmp_path / "a.safetensors")
    done = export_onnx(source, tmp_path / "a.onnx", layout="nhwc", size=16, outputs=("logits", "maps", "cam"))
    assert load(done.path).config == config
    if dims == 1:  # volumes are slow
        assert judged(source, done.path).passed
