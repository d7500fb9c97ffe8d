"""TensorFlow Lite's models as a source: what its converter folded, fused and turned, and what it quantised."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import CASES, logits_of
from helpers.command import run as densenet

from converter import Source, load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile
from converter.engines.onnxruntime import onnx_engine
from converter.exporters.onnx import to_onnx
from converter.formats import open_checkpoint
from converter.formats.flatbuffer import Buffer


def test_half_precision_is_read_as_the_interpreter_reads_it() -> None:
    case = CASES / "tflite-f16"
    model, expected = load(case / "model.tflite"), np.load(case / "logits.npy")
    assert (model.origin.format, model.origin.layout) == ("TensorFlow Lite", "tflite")
    assert (model.config.padding, model.config.block_config) == ("same", (1, 1))
    computed = logits_of(case / "model.tflite", np.load(case / "input.npy"))
    assert np.abs(computed - expected).max() < 1e-5 * np.abs(expected).max()


def test_norms_that_are_made_of_scales_do_not_depend_on_what_eps_the_network_had() -> None:
    """The file has no eps: what it says of the network beside, or a user, does not change what it computes."""
    case = CASES / "tflite-litert"
    model, expected = load(Source(case / "densenet.tflite", settings={"eps": 1e-3})), np.load(case / "logits.npy")
    computed = onnx_engine(to_onnx(model).SerializeToString())(np.load(case / "input.npy"))
    assert model.config.eps == 1e-3
    assert np.abs(computed - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_normalisation_before_and_a_softmax_behind_are_said() -> None:
    case = CASES / "tflite-softmax"
    model = load(case / "model.tflite")
    assert model.images.activation == "softmax"
    preprocess = model.images.preprocess
    assert preprocess is not None
    np.testing.assert_allclose(preprocess.mean, np.array([100, 110, 120]) / 255, rtol=1e-5)
    np.testing.assert_allclose(preprocess.std, np.array([50, 60, 70]) / 255, rtol=1e-5)
    mean, std = (np.reshape(values, (3, 1, 1)) * 255 for values in (preprocess.mean, preprocess.std))
    x = ((np.load(case / "input.npy") - mean) / std).astype(np.float32)
    powers = np.exp(logits_of(case / "model.tflite", x))
    np.testing.assert_allclose(powers / powers.sum(1, keepdims=True), np.load(case / "probabilities.npy"), atol=1e-5)


def test_a_network_of_pytorch_is_read_between_its_turns() -> None:
    case = CASES / "tflite-litert"
    found, expected = load(case / "densenet.tflite"), np.load(case / "logits.npy")
    assert (found.config.block_config, found.config.padding, found.notes) == ((2, 1), "symmetric", ())
    computed = logits_of(case / "densenet.tflite", np.load(case / "input.npy"))
    assert np.abs(computed - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_normalisation_before_the_turn_is_said() -> None:
    path, results = CASES / "tflite-litert" / "normalised.tflite", np.load(CASES / "tflite-litert" / "results.npz")
    images = load(path).images
    assert images.activation == "softmax"
    assert images.preprocess is not None
    np.testing.assert_allclose(images.preprocess.mean, (0.485, 0.456, 0.406), rtol=1e-5)
    np.testing.assert_allclose(images.preprocess.std, (0.229, 0.224, 0.225), rtol=1e-5)
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (images.preprocess.mean, images.preprocess.std))
    powers = np.exp(logits_of(path, ((results["normalised_images"] / 255 - mean) / std).astype(np.float32)))
    np.testing.assert_allclose(powers / powers.sum(1, keepdims=True), results["normalised_result"], atol=1e-5)


def test_grey_images_have_another_convolution_and_another_turn() -> None:
    """Of one channel the first convolution is depthwise, and the turn is a change of shape."""
    path, results = CASES / "tflite-litert" / "grey.tflite", np.load(CASES / "tflite-litert" / "results.npz")
    computed, expected = logits_of(path, results["grey_images"].astype(np.float32)), results["grey_result"]
    assert np.abs(computed - expected).max() < 1e-5 * np.abs(expected).max()


def test_files_of_8_bits_are_refused() -> None:
    with pytest.raises(NotADenseNet, match="it is quantised; convert the float file it was made from"):
        load(CASES / "tflite-int8" / "model.tflite")


@pytest.mark.parametrize(("code", "named"), [(21, "Relu6"), (23, "operator 23"), (114, "operator 114")])
def test_an_operator_that_no_densenet_has_is_named(tmp_path: Path, code: int, named: str) -> None:
    """The kinds of operators stand in one table: every max pooling becomes another operator."""
    content, path = bytearray((CASES / "tflite-f16" / "model.tflite").read_bytes()), tmp_path / "m.tflite"
    found = [table for table in Buffer(CASES / "tflite-f16" / "model.tflite").root().tables(1) if table.number(3) == 17]
    assert len(found) == 1
    for field, size in ((0, 1), (3, 4)):
        at = found[0].place(field)
        content[at : at + size] = code.to_bytes(size, "little")
    path.write_bytes(content)
    with pytest.raises(NotADenseNet, match=named):
        load(path)


def test_the_command_says_what_was_read(tmp_path: Path) -> None:
    said = densenet("convert", CASES / "tflite-f16" / "model.tflite", tmp_path / "m.safetensors")
    assert said.returncode == 0
    assert "tflite (TensorFlow Lite)" in said.stdout + said.stderr


def test_damage_is_one_line(tmp_path: Path) -> None:
    content, path = (CASES / "tflite-f16" / "model.tflite").read_bytes(), tmp_path / "m.tflite"
    for part in (8, 40, 200, len(content) // 2, len(content) - 5):
        path.write_bytes(content[:part])
        with pytest.raises(UnreadableFile) as error:
            load(path)
        assert "\n" not in str(error.value)
    for root in (0xFFFFFFF0, len(content) - 2, 0):
        path.write_bytes(struct.pack("<I", root) + content[4:])
        with pytest.raises(ConverterError):
            load(path)


def test_its_name_does_not_matter(tmp_path: Path) -> None:
    shutil.copy(CASES / "tflite-f16" / "model.tflite", tmp_path / "densenet.bin")
    assert open_checkpoint(tmp_path / "densenet.bin").format == "TensorFlow Lite"
