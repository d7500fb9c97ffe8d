"""Core ML: programs with their weights beside, neural networks; compressed weights, damaged files."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import CASES, logits_of
from helpers.wire import data, fixed32, number

from converter import load
from converter.core.checkpoint import Tensor
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile, UnsafeFile
from converter.formats.coreml.neural_network import network_of

PACKAGE = CASES / "coreml-program" / "DenseNet.mlpackage"
INSIDE = Path("Data/com.apple.CoreML")
NETWORK = CASES / "coreml-network" / "DenseNet.mlmodel"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return shutil.copytree(PACKAGE, tmp_path / "m.mlpackage")


@pytest.mark.parametrize(
    "name", ["", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"]
)
def test_any_part_finds_the_rest(name: str) -> None:
    model = load(PACKAGE / name)
    assert model.images.labels == ("ash", "birch", "elm", "oak", "yew")
    assert model.images.activation == "softmax"
    assert model.config == load(PACKAGE).config


def test_a_neural_network_is_the_same_as_a_program() -> None:
    x = np.load(CASES / "coreml-network" / "input.npy")
    assert np.abs(logits_of(NETWORK, x) - logits_of(PACKAGE, x)).max() < 1e-5
    assert load(NETWORK).images.labels == load(PACKAGE).images.labels


@pytest.mark.parametrize(
    ("name", "key", "first"), [("normalised.mlmodel", "network", 0.485), ("reversed.mlpackage", "program", 0.406)]
)
def test_what_a_network_does_to_its_images_is_said(name: str, key: str, first: float) -> None:
    """Constants that are negated, channels gathered in reverse, and Hardswish as coremltools writes it."""
    path, results = CASES / "coreml-network" / name, np.load(CASES / "coreml-network" / "results.npz")
    preprocess = load(path).images.preprocess
    assert preprocess is not None
    assert preprocess.mean[0] == pytest.approx(first)
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (preprocess.mean, preprocess.std))
    computed = logits_of(path, ((results["images"] / 255 - mean) / std).astype(np.float32))
    np.testing.assert_allclose(computed, results[key], atol=1e-5)


@pytest.mark.parametrize(("space", "expected"), [(20, [3, 2, 1]), (30, [1, 2, 3])])
def test_what_is_added_to_an_image_is_in_the_order_of_the_channels_that_a_network_takes(
    space: int, expected: list[int]
) -> None:
    image = data(4, number(1, 32) + number(2, 32) + number(3, space))
    scaler = b"".join(fixed32(20 + i, struct.pack("<f", i + 1)) for i in range(3))  # of blue, green, red
    description = data(1, data(1, "image") + data(3, image))
    program = network_of(memoryview(data(2, data(1, "image") + data(10, scaler))), memoryview(description))
    (added,) = (op.inputs["y"][0] for op in program.operations if op.kind == "add")
    assert isinstance(added, Tensor)
    assert added.read().ravel().tolist() == expected


@pytest.mark.parametrize(("space", "order"), [(20, "rgb"), (30, "bgr")])
def test_an_input_that_is_an_image_is_of_pixels_in_its_order(tmp_path: Path, space: int, order: str) -> None:
    array = data(5, data(1, bytes([1, 3, 32, 32])) + number(2, 0x10020))
    image = data(4, number(1, 32) + number(2, 32) + number(3, space) + data(15, b"  "))  # of the same length
    whole = NETWORK.read_bytes()
    assert whole.count(array) == 1
    path = tmp_path / "image.mlmodel"
    path.write_bytes(whole.replace(array, image))
    model = load(path)
    steps = model.images.preprocess
    assert steps is not None
    assert (steps.order, steps.mean) == (order, (0, 0, 0))
    assert steps.std == pytest.approx([1 / 255] * 3)
    assert any("blue first" in note for note in model.notes) == (order == "bgr")


def test_a_network_of_volumes_computes_what_its_producer_did() -> None:
    case = CASES / "coreml-volumes"
    expected = np.load(case / "logits.npy")
    computed = logits_of(case / "DenseNet.mlpackage", np.load(case / "input.npy"))
    assert np.abs(computed - expected).max() < 1e-5 * np.abs(expected).max()
    said = load(case / "DenseNet.mlpackage")
    assert said.config.spatial_dims == 3
    assert said.images.labels == ("a", "b", "c")  # which this tool wrote


def test_missing_weights_are_named(package: Path) -> None:
    (package / INSIDE / "weights" / "weight.bin").unlink()
    with pytest.raises(UnreadableFile, match=r"weights/weight\.bin, which is missing beside it"):
        load(package)


def test_weights_of_another_model_are_refused(package: Path) -> None:
    weights = package / INSIDE / "weights" / "weight.bin"
    weights.write_bytes(weights.read_bytes()[64:])
    with pytest.raises(UnreadableFile, match="damaged or another model's"):
        load(package)


def swapped(path: Path, old: bytes, new: bytes, count: int = -1) -> None:
    """Bytes of a file for others of the same length."""
    assert len(old) == len(new)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, count))


@pytest.mark.parametrize(("old", "new"), [(b"\x04relu", b"\x04erf_"), (b"\x06concat", b"\x06stack_")])
def test_what_a_densenet_does_not_do_is_refused_by_name(old: bytes, new: bytes, package: Path) -> None:
    swapped(package / INSIDE / "model.mlmodel", old, new, 1)
    with pytest.raises(NotADenseNet, match=new[1:].decode()):
        load(package)


def test_weights_elsewhere_are_refused(package: Path) -> None:
    swapped(package / INSIDE / "model.mlmodel", b"@model_path/weights/weight.bin", b"@model_path/../../../weigh.bin")
    with pytest.raises(UnsafeFile, match="outside its own folder"):
        load(package)


def test_a_manifest_that_leads_elsewhere_is_not_followed(package: Path) -> None:
    manifest = package / "Manifest.json"
    values = json.loads(manifest.read_text())
    values["itemInfoEntries"][values["rootModelIdentifier"]]["path"] = "../../other.mlmodel"
    manifest.write_text(json.dumps(values))
    assert load(package).config == load(PACKAGE).config  # the one model in the package


def test_a_truncated_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.mlmodel"
    content = NETWORK.read_bytes()
    for cut in (600, len(content) // 2, len(content) - 9):
        path.write_bytes(content[:cut])
        with pytest.raises(ConverterError):
            load(path)


def test_what_is_no_network_is_named(tmp_path: Path) -> None:
    """{1: 4, 2: {1: {1: x}}, 402: a tree ensemble}."""
    path = tmp_path / "m.mlmodel"
    path.write_bytes(b"\x08\x04\x12\x05\x0a\x03\x0a\x01x" + bytes([0x92, 0x19, 2, 0x0A, 0]))
    with pytest.raises(UnreadableFile, match="no neural network"):
        load(path)


@pytest.mark.parametrize("kind", ["constexpr_lut_to_dense", "constexpr_affine_dequantize"])
def test_compressed_weights_are_refused_in_one_sentence(kind: str, tmp_path: Path) -> None:
    """A program whose first operation makes weights of smaller ones, as coremltools.optimize writes it."""
    operation = data(1, kind) + data(3, data(1, "conv0_weight"))
    block = data(3, operation)
    function = data(2, "CoreML5") + data(3, data(1, "CoreML5") + data(2, block))
    model = number(1, 6) + data(2, data(1, data(1, "x"))) + data(502, data(2, data(1, "main") + data(2, function)))
    path = tmp_path / "m.mlmodel"
    path.write_bytes(model)
    with pytest.raises(UnreadableFile, match=f"its weights are compressed \\({kind} of conv0_weight"):
        load(path)
