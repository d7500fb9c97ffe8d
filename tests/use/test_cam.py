"""Class activation maps: exact, by derivatives, over the image they are of, and the page of them."""

from __future__ import annotations

import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import refused, run
from helpers.networks import SMALL, export_model, random_model, save
from PIL import Image

from converter.demo.demo import IMAGES
from converter.use.cam import class_activation, heat
from converter.use.overlay import overlay, shown_part
from converter.use.predict import predictor
from densenet.images import load
from densenet.preprocess import Preprocess

THREE = next(IMAGES.glob("3/*.png"))


@pytest.mark.parametrize("name", ["m.onnx", "m.safetensors"])
def test_the_mean_of_an_exact_map_is_the_logit(name: str, digits: Path) -> None:
    loaded = predictor(digits / name)
    logits, maps = loaded.network.start(("maps",))(loaded.prepare(THREE))
    activation = class_activation(loaded.network)
    assert "exact" in activation.how
    from converter import load as read

    bias = read(digits / "m.safetensors").tensors["classifier.bias"].read()
    for label in range(10):
        assert activation(maps[0], label).mean() + bias[label] == pytest.approx(logits[0, label], abs=1e-4)


@pytest.mark.parametrize(
    "changes", [{"global_pool": "max"}, {"global_pool": "catavgmax"}, {"head": ("linear:9", "tanh")}]
)
def test_other_networks_maps_are_grad_cam(changes: dict[str, Any], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from densenet import get_model

    model = random_model(replace(SMALL, **changes))
    save(model, tmp_path / "m.safetensors")
    module = get_model(tmp_path / "m.safetensors")
    loaded = predictor(tmp_path / "m.safetensors")
    batch = loaded.prepare(Image.open(THREE).resize((90, 70)))
    _, maps = loaded.network.start(("maps",))(batch)
    activation = class_activation(loaded.network)
    assert "Grad-CAM" in activation.how
    made = module.forward_features(torch.from_numpy(batch)).detach().requires_grad_()
    module.classifier(module.head(module.pool(made)))[0, 2].backward()
    expected = (made.grad[0].mean((1, 2))[:, None, None] * made[0]).sum(0).detach().numpy()
    np.testing.assert_allclose(activation(maps[0], 2), expected, atol=1e-4 * np.abs(expected).max())


def test_without_pytorch_grad_cam_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_model(random_model(replace(SMALL, global_pool="max")), tmp_path / "m.onnx")
    monkeypatch.setattr("converter.use.cam.has_torch", lambda: False)
    line = refused(2, "predict", tmp_path / "m.onnx", THREE, "--cam", tmp_path / "cam")
    assert "max pooling needs PyTorch" in line
    assert not (tmp_path / "cam").exists()


def test_heat_is_what_speaks_for_a_class() -> None:
    np.testing.assert_array_equal(heat(np.array([[-1.0, 0.5], [2.0, 0.0]])), [[0, 0.25], [1, 0]])
    assert not heat(np.array([[-1.0, -2.0]])).any()
    with pytest.raises(ValueError, match="not finite"):
        heat(np.array([[np.inf]]))


@pytest.mark.parametrize("crop", [(40, 40), (30, 60)])
@pytest.mark.parametrize("resize", [None, 48, 64, (64, 48), (40, 64)], ids=str)
@pytest.mark.parametrize(
    ("width", "height"), [(200, 100), (33, 400), (401, 35), (57, 91), (20, 20), (39, 41), (60, 30)]
)
def test_what_is_shown_is_what_is_cropped(
    width: int, height: int, resize: int | tuple[int, int] | None, crop: tuple[int, int]
) -> None:
    """An image whose colours are its coordinates tells where a prepared one was cut out."""
    steps = Preprocess(resize, crop, mean=(0, 0, 0), std=(1, 1, 1))
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    image = Image.fromarray(np.stack([x, y, np.full_like(x, 255)], -1).round().astype(np.uint8))
    prepared = load(image, steps)[0]
    left, top, right, bottom = shown_part(image.size, steps)
    for channel, start, end, size, values in (
        (0, left, right, width, prepared[0].max(0)),
        (1, top, bottom, height, prepared[1].max(1)),
    ):
        inside = prepared[2].max(channel) > 0.9  # not the black border
        at = start + (np.arange(len(values)) + 0.5) * (end - start) / len(values)
        expected = (at - 0.5) / (size - 1)
        close = np.abs(values - expected)[inside]
        assert close.max() < 1.5 * max((end - start) / len(values), 1) / (size - 1) + 0.01
        assert inside.sum() == min(len(values), round(size * len(values) / (end - start)))


def test_a_map_lies_on_the_part_that_was_shown() -> None:
    image, steps = Image.new("RGB", (200, 100), (200, 200, 200)), Preprocess(resize=50, crop=(50, 50))
    strength = np.zeros((5, 5), np.float32)
    strength[0, 4] = 1
    found = np.asarray(Image.open(io.BytesIO(overlay(image, strength, steps))), int)
    assert found.shape == (100, 200, 3)
    assert found[50, 20].tolist() == found[50, 180].tolist() == [70, 70, 70]  # dimmed: not shown
    assert found[80, 60].tolist() == [200, 200, 200]  # shown, and nothing speaks there
    red, green, blue = found[5, 144]  # the corner of the square in the middle
    assert red > green > blue + 50
    tiny = overlay(Image.new("L", (9, 7)), strength, Preprocess(resize=None, crop=(32, 32)))
    assert Image.open(io.BytesIO(tiny)).size == (9, 7)


class Page(HTMLParser):
    """What a page shows, and that its tags are closed in order."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            values = dict(attrs)
            assert values["alt"]
            self.images.append(values["src"] or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_of_all_pictures(digits: Path, tmp_path: Path) -> None:
    images = tmp_path / "images <b>"
    for place in ("a", "b"):
        (images / place).mkdir(parents=True)
        Image.open(THREE).resize((70, 50)).save(images / place / "three.png")
    (images / "bad.png").write_text("no")
    done = run("predict", digits / "m.onnx", images, "--cam", tmp_path / "out" / "cam")
    assert (done.returncode, "2 of 3 images" in done.stdout) == (1, True)
    folder = tmp_path / "out" / "cam"
    page = Page((folder / "index.html").read_text("utf-8"))
    assert page.images == ["000001_three.png", "000002_three.png"]
    assert sorted(path.name for path in folder.iterdir()) == [*page.images, "index.html"]
    assert Image.open(folder / page.images[0]).size == (70, 50)
    assert str(images / "b" / "three.png") in page.text
    assert "bad.png: not an image" in page.text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cam"]
    line = refused(2, "predict", digits / "m.onnx", images, "--cam", folder)
    assert "not empty" in line


def test_a_failing_run_leaves_no_pictures(digits: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.open(THREE).save(images / "a.png")
    (images / "b.png").write_text("no")
    refused(2, "predict", digits / "m.onnx", images, "--cam", tmp_path / "cam", "--fail-fast")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
