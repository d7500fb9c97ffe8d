"""Images prepared inside the graph."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.networks import random_model
from helpers.variants import SMALL, VARIANTS, run, torch_logits
from PIL import Image

from converter.core.errors import ConverterError
from converter.core.model import Images
from converter.exporters.onnx import to_onnx
from densenet.images import load as load_image
from densenet.preprocess import Preprocess


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


def test_preprocessing_in_the_graph_needs_what_it_needs() -> None:
    model = random_model(SMALL, scaled=True)
    with pytest.raises(ConverterError, match="opset 18"):
        to_onnx(model, image_input=True, opset=17)
    with pytest.raises(ConverterError, match="volumes"):
        to_onnx(random_model(VARIANTS["volumes"], scaled=True), image_input=True)
    with pytest.raises(ConverterError, match="pads"):
        to_onnx(replace(model, images=Images(Preprocess(resize=32, crop=(64, 64)))), image_input=True)
