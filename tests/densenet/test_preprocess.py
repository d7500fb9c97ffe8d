"""Preprocessing as data: JSON, presets, timm's configs, values that make no sense."""

import json

import pytest
from helpers.presets import PRESETS, TIMM_288

from densenet.config import DenseNetConfig
from densenet.preprocess import FAMILIES, TIMM, TORCHVISION, Preprocess, family, from_timm


@pytest.mark.parametrize("preset", PRESETS)
def test_json(preset):
    values = json.loads(json.dumps(PRESETS[preset].to_dict()))
    assert Preprocess.from_dict(values) == PRESETS[preset]


def test_defaults():
    assert Preprocess.from_dict({}) == TORCHVISION == Preprocess()


@pytest.mark.parametrize(
    "values",
    [
        {"size": 224},
        {"resize": 0},
        {"resize": 2.5},
        {"resize": True},
        {"resize": [224]},
        {"resize": [224, 0]},
        {"resize": [224, 224, 3]},
        {"resize": [100_000, 100_000]},
        {"crop": 224},
        {"crop": [224]},
        {"crop": [224, -1]},
        {"crop": [224, "224"]},
        {"interpolation": "lanczos"},
        {"interpolation": ["bilinear"]},
        {"antialias": 1},
        {"antialias": False, "interpolation": "bicubic"},
        {"antialias": False, "interpolation": "nearest"},
        {"channels": 4},
        {"channels": [3]},
        {"mean": [0.5, 0.5, 0.5], "channels": 1},
        {"mean": 0.5},
        {"mean": [0.5, 0.5]},
        {"mean": [0.5, 0.5, float("nan")]},
        {"mean": [0.5, 0.5, None]},
        {"std": [0.5, 0.5, 0]},
        {"std": None},
        {"window": 255},
        {"window": [0, 0]},
        {"window": [0, float("inf")]},
        {"window": [0, 1, 2]},
        {"order": "gbr"},
        {"order": "bgr", "channels": 1, "mean": [0.5], "std": [0.5]},
    ],
    ids=str,
)
def test_bad_values(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Preprocess.from_dict(values)


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name):
    steps = family(name)
    assert Preprocess.from_dict(json.loads(json.dumps(steps.to_dict()))) == steps


def test_a_family_nobody_knows():
    with pytest.raises(ValueError, match="keras-tf"):
        family("inception")


def test_what_came_later_is_written_where_it_says_something():
    assert {"window", "order"}.isdisjoint(TORCHVISION.to_dict())
    steps = Preprocess(window=(-1000, 400), order="bgr")
    assert steps.to_dict()["window"] == [-1000, 400]
    assert Preprocess.from_dict(json.loads(json.dumps(steps.to_dict()))) == steps


def test_both_edges_are_two_numbers_in_json():
    steps = Preprocess(resize=[256, 320], crop=(224, 224))
    assert steps.resize == (256, 320)
    assert steps.to_dict()["resize"] == [256, 320]
    assert Preprocess.from_dict(json.loads(json.dumps(steps.to_dict()))) == steps
    assert steps.sizes == "both edges, to 256 x 320, centre 224 x 224"


def test_small_networks_are_given_cifars_images():
    for classes, mean in ((10, 0.4914), (100, 0.5071)):
        config = DenseNetConfig.named("densenet121", stem="cifar", num_classes=classes)
        assert Preprocess.usual(config).mean[0] == mean
        assert Preprocess.usual(config).crop == (32, 32)


def test_from_timm():
    from_hub = {"input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bicubic", "fixed_input_size": False}
    assert from_timm(from_hub) == TIMM
    assert from_timm({}) == TIMM  # timm's own defaults
    assert from_timm({**from_hub, "input_size": [3, 288, 288], "crop_pct": 0.95}) == TIMM_288
    grey = from_timm({"input_size": (1, 96, 96), "mean": (0.5,), "std": (0.5,), "crop_pct": 1.0})
    assert (grey.channels, grey.resize, grey.crop) == (1, 96, (96, 96))
    both = from_timm({**from_hub, "input_size": [3, 224, 192], "crop_mode": "squash"})
    assert (both.resize, both.crop) == ((256, 219), (224, 192))


@pytest.mark.parametrize(
    "cfg",
    [
        {"crop_mode": "border"},
        {"input_size": (3, 224, 256)},
        {"input_size": 224},
        {"crop_pct": 0},
        {"crop_pct": "0.9"},
        {"interpolation": "lanczos"},
        {"mean": (0.5,)},
    ],
    ids=str,
)
def test_from_timm_refuses(cfg):
    with pytest.raises(ValueError, match=next(iter(cfg))):
        from_timm(cfg)
