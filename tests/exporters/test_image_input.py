"""Images prepared inside the graph."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.networks import CIFAR, random_model, save
from helpers.variants import SMALL, VARIANTS, run, torch_logits
from PIL import Image

from converter import export_onnx, verify
from converter.core.errors import ConverterError
from converter.core.model import Images
from converter.demo.demo import CHECKPOINT, IMAGES, record
from converter.exporters.onnx import to_onnx
from converter.use.predict import predictor
from densenet.config import DenseNetConfig
from densenet.images import load as load_image
from densenet.preprocess import FAMILIES, Preprocess

DIGITS = Preprocess.from_dict(record()["preprocessing"])


def photograph(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some edges and noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    planes = [np.sin(a * x + b * y) * 90 + 128 for a, b in random.uniform(2, 20, (3, 2))]
    pixels = np.stack(planes, -1) + random.normal(0, 6, (height, width, 3))
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (250, 30, 60)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(300, 400), (401, 283), (256, 256), (97, 640), (120, 90)])
def test_preprocessing_inside_the_graph(size: tuple[int, int], interpolation: Any) -> None:
    steps = Preprocess(resize=72, crop=(64, 64), interpolation=interpolation)
    model = random_model(SMALL, scaled=True, preprocess=steps)
    proto = to_onnx(model, image_input=True)
    onnx.checker.check_model(proto, full_check=True)
    image = photograph(*size)
    (logits,) = run(proto, np.asarray(image)[None])
    expected = torch_logits(model, load_image(image, steps))
    # ONNX Runtime resizes in fixed point as Pillow does, give or take one grey level here and there.
    assert np.abs(logits - expected).max() <= 0.01 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("steps", "tolerance"),
    [
        (Preprocess(resize=(72, 96), crop=(64, 96)), 0.01),
        (Preprocess(resize=(72, 96), crop=(64, 96), interpolation="nearest"), 1e-5),
        (Preprocess(resize=80, crop=(64, 64), interpolation="nearest"), 1e-5),
    ],
    ids=["both edges", "both edges, nearest", "short edge, nearest"],
)
@pytest.mark.parametrize("size", [(300, 401), (384, 64), (50, 90)])
def test_both_edges_and_the_nearest_pixel_inside_the_graph(
    size: tuple[int, int], steps: Preprocess, tolerance: float
) -> None:
    model, image = random_model(SMALL, scaled=True, preprocess=steps), photograph(*size)
    (logits,) = run(to_onnx(model, image_input=True), np.asarray(image)[None])
    expected = torch_logits(model, load_image(image, steps))
    assert np.abs(logits - expected).max() <= tolerance * np.abs(expected).max()


def test_blue_first_inside_the_graph() -> None:
    steps = replace(FAMILIES["keras-caffe"], resize=(64, 64), crop=(64, 64))
    image = photograph(300, 400)
    model = random_model(SMALL, scaled=True, preprocess=steps)
    (logits,) = run(to_onnx(model, image_input=True), np.asarray(image)[None])
    expected = torch_logits(model, load_image(image, steps))
    swapped = torch_logits(model, load_image(Image.merge("RGB", image.split()[::-1]), steps))
    assert np.abs(logits - expected).max() <= 0.1 * np.abs(swapped - expected).max()


def test_preprocessing_in_the_graph_needs_what_it_needs() -> None:
    model = random_model(SMALL, scaled=True)
    with pytest.raises(ConverterError, match="opset 17 cannot resize"):
        to_onnx(model, image_input=True, opset=17, size=(300, 400))
    with pytest.raises(ConverterError, match="volumes"):
        to_onnx(random_model(VARIANTS["volumes"], scaled=True), image_input=True)
    with pytest.raises(ConverterError, match="pads"):
        to_onnx(replace(model, images=Images(Preprocess(resize=32, crop=(64, 64)))), image_input=True)


@pytest.mark.parametrize("opset", [11, 17])
def test_what_an_older_opset_cannot_resize_is_given_resized(opset: int, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    steps = Preprocess(resize=36, crop=(32, 32))
    model = random_model(replace(CIFAR, block_config=(2, 2)), scaled=True, preprocess=steps)
    source = save(model, tmp_path / "a.safetensors")
    done = export_onnx(source, tmp_path / "a.onnx", image_input=True, opset=opset)
    (note,) = [note for note in done.notes if "opset 18" in note]
    assert "resized and cropped to 32x32" in note
    image = photograph(32, 32)
    (logits,) = run(onnx.load(tmp_path / "a.onnx"), np.asarray(image)[None])
    expected = torch_logits(model, load_image(image, replace(steps, resize=None)))
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
    assert verify(source, tmp_path / "a.onnx", engines=["onnxruntime@1"]).passed
    photo, found = photograph(90, 70), predictor(tmp_path / "a.onnx")  # which resizes it itself
    expected = torch_logits(model, load_image(photo, steps))
    assert np.abs(found.logits([photo]) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_files_take_images_too(precision: Any, tmp_path: Path) -> None:
    done = export_onnx(CHECKPOINT, tmp_path / "a.onnx", image_input=True, precision=precision, preprocess=DIGITS)
    plain = export_onnx(CHECKPOINT, tmp_path / "b.onnx", precision=precision, preprocess=DIGITS)
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(IMAGES.rglob("*.*"))[:3]]
    assert done.inputs == ("image",)
    for image in images:
        (found,) = run(onnx.load(done.path), image[None])
        (expected,) = run(onnx.load(plain.path), load_image(image, DIGITS))
        assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()


UNRECORDED = {
    "CIFAR": (CIFAR, "short edge 32, centre 32 x 32", "RGB"),
    "CIFAR, grey": (replace(CIFAR, in_channels=1), "centre 32 x 32", "L"),
    "ImageNet, grey": (replace(SMALL, in_channels=1), "short edge 256, centre 224 x 224", "L"),
}
"""Networks of which nobody says how their images are prepared, and what is assumed then."""


@pytest.mark.parametrize(("config", "said", "mode"), UNRECORDED.values(), ids=UNRECORDED)
def test_images_of_a_network_without_recorded_preprocessing(
    config: DenseNetConfig, said: str, mode: str, tmp_path: Path
) -> None:
    model = random_model(config, scaled=True)
    source = save(model, tmp_path / "a.safetensors")
    done = export_onnx(source, tmp_path / "a.onnx", image_input=True)
    (note,) = [note for note in done.notes if "is not recorded" in note]
    assert said in note
    image = np.asarray(photograph(300, 260).convert(mode))
    (logits,) = run(onnx.load(tmp_path / "a.onnx"), image.reshape(1, 300, 260, config.in_channels))
    expected = torch_logits(model, load_image(image, Preprocess.usual(config)))
    assert np.abs(logits - expected).max() <= 0.01 * np.abs(expected).max()


def test_a_graph_that_resizes_both_edges_verifies(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    steps = Preprocess(resize=(72, 80), crop=(64, 64), interpolation="nearest")
    source = save(random_model(SMALL, scaled=True, preprocess=steps), tmp_path / "a.safetensors")
    export_onnx(source, tmp_path / "a.onnx", image_input=True)
    verdict = verify(source, tmp_path / "a.onnx", engines=["onnxruntime@1"])
    assert verdict.passed, verdict.problems
    assert any("8-bit" in c.batch for name, found in verdict.results.items() if "a.onnx" in name for c in found)
    other = replace(steps, resize=72)
    save(random_model(SMALL, scaled=True, preprocess=other), tmp_path / "b.safetensors")
    assert not verify(tmp_path / "b.safetensors", tmp_path / "a.onnx", engines=["onnxruntime@1"]).passed


@pytest.mark.parametrize("config", [CIFAR, replace(CIFAR, in_channels=1)], ids=["colours", "grey"])
def test_a_graph_without_recorded_preprocessing_verifies(config: DenseNetConfig, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = save(random_model(config, scaled=True), tmp_path / "a.safetensors")
    export_onnx(source, tmp_path / "a.onnx", image_input=True)
    verdict = verify(source, tmp_path / "a.onnx", engines=["onnxruntime@1"])
    assert verdict.passed, verdict.problems
    (compared,) = (found for name, found in verdict.results.items() if "a.onnx" in name)
    assert any("8-bit" in comparison.batch for comparison in compared)
    (check,) = [check for check in verdict.checks["a.onnx"] if check.name == "image preparation"]
    assert check.ok


def test_no_images_are_made_up_for_networks_that_take_none(tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match="channels"):
        to_onnx(random_model(replace(SMALL, in_channels=5)), image_input=True)
