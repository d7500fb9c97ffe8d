"""What timm can build, and that it computes the same from the folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import ok
from helpers.networks import CIFAR, TIMM, random_model, save
from helpers.packages import read, save_described, small_images
from helpers.presets import PRESETS
from PIL import Image

from converter import load
from converter.engines.onnxruntime import onnx_engine
from converter.exporters.onnx import to_onnx
from converter.publish.claims import json_checks, published_model
from converter.publish.expectations import crop_fraction, unlike_timm
from converter.publish.package import package
from converter.publish.repository import verify_repository
from densenet.images import load as load_image
from densenet.preprocess import Preprocess

VARIANTS = {
    "plain": {},
    "wider bottleneck": {"bn_size": 2},
    "deep": {"stem": "deep"},
    "tiered": {"stem": "deep", "stem_widths": (6, 12)},
    "blur": {"stem": "deep", "stem_pool": "blur"},
    "blur everywhere": {"stem": "deep", "stem_pool": "blur", "transition_pool": "blur"},
    "shallow blur": {"stem_pool": "blur"},
    "max": {"global_pool": "max"},
    "both": {"global_pool": "catavgmax"},
    "grey": {"in_channels": 1},
    "headless": {"num_classes": 0},
    "eps": {"eps": 1e-3},
}


@pytest.mark.torch
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_timm_computes_the_same_from_the_folder(changes: dict[str, Any], tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    import torch

    config = replace(TIMM, **changes)
    source = save_described(config, tmp_path / "source.safetensors")
    done = package(source, tmp_path / "out", onnx=["fp32"])
    assert (done.layout, done.why_not_timm) == ("timm", "")
    assert ("`pipeline` fails on it" in (tmp_path / "out" / "README.md").read_text()) is (config.in_channels == 1)
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    x = np.random.default_rng(1).normal(size=(2, config.in_channels, 64, 64)).astype(np.float32)
    expected = onnx_engine(to_onnx(load(source), graph="exact").SerializeToString())(x)
    with torch.inference_mode():
        found = model(torch.from_numpy(x)).numpy()
    assert np.abs(found - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    again = onnx_engine(to_onnx(load(tmp_path / "out" / "model.safetensors"), graph="exact").SerializeToString())(x)
    assert np.abs(again - expected).max() < 1e-5 * max(1, np.abs(expected).max())


def test_a_network_timm_lacks_is_published_in_the_library_layout(tmp_path: Path) -> None:
    source = save(CIFAR, tmp_path / "cifar.safetensors")
    done = package(source, tmp_path / "out")
    assert (done.layout, "CIFAR stem" in done.why_not_timm) == ("library", True)
    config = read(tmp_path / "out" / "config.json")
    assert "pretrained_cfg" not in config
    assert "architecture" not in config
    card = (tmp_path / "out" / "README.md").read_text()
    assert "timm cannot load this network: timm has no DenseNet with a CIFAR stem" in card
    assert "library_name: densenet-converter" in card
    assert load(tmp_path / "out" / "model.safetensors").config == CIFAR


@pytest.mark.torch
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"head": ("linear:6", "relu")}, "a head of several layers (linear:6, relu)"),
        ({"global_pool": "catmaxavg"}, "maxima before averages"),
    ],
    ids=["head", "pool"],
)
def test_a_head_timm_lacks_is_published_in_the_library_layout_and_proved_again(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    source = save_described(replace(TIMM, **changes), tmp_path / "source.safetensors")
    done = package(source, tmp_path / "out", onnx=["fp32"])
    assert (done.layout, done.why_not_timm) == ("library", f"timm has no DenseNet with {why}")
    assert verify_repository(tmp_path / "out").passed


BOTH_EDGES = (
    Preprocess(resize=(72, 72), crop=(64, 64)),
    Preprocess(resize=(64, 96), crop=(64, 96), interpolation="nearest"),
)


@pytest.mark.torch
@pytest.mark.parametrize("steps", BOTH_EDGES, ids=["cropped", "whole"])
def test_timm_and_transformers_prepare_images_the_same_where_both_edges_are_resized(
    steps: Preprocess, tmp_path: Path
) -> None:
    data = pytest.importorskip("timm.data")
    source = save(random_model(TIMM, preprocess=steps), tmp_path / "source.safetensors")
    package(source, tmp_path / "out", onnx=["fp32"])
    assert verify_repository(tmp_path / "out").passed
    assert load(tmp_path / "out" / "model.safetensors").images.preprocess == steps
    pretrained = read(tmp_path / "out" / "config.json")["pretrained_cfg"]
    transform = data.create_transform(**data.resolve_data_config(pretrained_cfg=pretrained), is_training=False)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 210, 3), np.uint8))
    expected = load_image(image, steps)
    np.testing.assert_array_equal(transform(image).numpy()[None], expected)
    said = read(tmp_path / "out" / "preprocessor_config.json")
    assert said["size"] == dict(zip(("height", "width"), steps.resize))
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"Resize both edges, to {steps.resize[0]} × {steps.resize[1]} px" in card
    assert "cannot do it exactly" not in card


def test_shares_timm_cannot_say_are_said() -> None:
    (said,) = unlike_timm(Preprocess(resize=(100, 64), crop=(64, 64)))
    assert "edges" in said
    assert not unlike_timm(Preprocess(resize=(256, 219), crop=(224, 192)))


@pytest.mark.parametrize(
    "preprocess", [*PRESETS.values(), Preprocess(resize=303, crop=(288, 288), interpolation="bicubic")]
)
def test_crop_fraction_gives_the_resize_back(preprocess: Preprocess) -> None:
    assert preprocess.resize == int(np.floor(preprocess.crop[0] / crop_fraction(preprocess)))


def test_all_crops_and_sizes_survive_timms_fraction() -> None:
    for crop in range(8, 300, 7):
        for resize in range(crop, 400, 11):
            p = Preprocess(resize=resize, crop=(crop, crop))
            assert int(np.floor(crop / crop_fraction(p))) == resize


def test_what_timm_s_label_names_mean_is_kept(tmp_path: Path) -> None:
    names = ["n02085620", "n02085782", "n02085936", "n02086079", "cat"]
    means = {
        "n02085620": "Chihuahua",
        "n02085782": "Japanese spaniel",
        "n02085936": "Maltese dog",
        "n02086079": "Pekinese",
    }
    given = {"architecture": "densenet121", "num_classes": 5, "label_names": names, "label_descriptions": means}
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "config.json").write_text(json.dumps(given))
    save(random_model(TIMM, preprocess=small_images(TIMM)), tmp_path / "hub" / "model.safetensors", "timm")
    # What this tool writes into a file beats what stands beside it; here it wrote no labels.
    package(tmp_path / "hub" / "model.safetensors", tmp_path / "out", onnx=["fp32"])
    said = read(tmp_path / "out" / "config.json")
    assert said["label_names"] == names
    assert said["label_descriptions"] == {**means, "cat": "cat"}
    Image.new("RGB", (70, 70), (200, 30, 90)).save(tmp_path / "image.png")
    for source in (tmp_path / "out", tmp_path / "out" / "onnx" / "model.onnx"):
        shown = ok("predict", source, tmp_path / "image.png")
        assert "n02085620: Chihuahua" in shown
        assert "cat: cat" not in shown
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    other = ok("predict", tmp_path / "out", tmp_path / "image.png", "--labels", tmp_path / "labels.txt")
    assert "Chihuahua" not in other
    said["label_descriptions"]["n02085620"] = "Maltese dog"
    (tmp_path / "out" / "config.json").write_text(json.dumps(said))
    model = published_model(tmp_path / "out" / "model.safetensors")
    (wrong,) = [check for check in json_checks(tmp_path / "out", ["config.json"], model)["config.json"] if not check.ok]
    assert wrong.name == "label_descriptions"
