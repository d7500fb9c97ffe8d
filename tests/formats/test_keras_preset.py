"""KerasHub's presets: any of their files stands for the whole, and what is missing is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.cases import CASES

from converter import load
from converter.core.errors import UnreadableFile

PRESET = CASES / "kerashub-preset" / "preset"


@pytest.mark.parametrize("name", ["task.json", "config.json", "model.weights.h5", "task.weights.h5"])
def test_any_part_finds_the_rest(name: str) -> None:
    model, whole = load(PRESET / name), load(PRESET)
    assert model.config == whole.config
    assert model.config.num_classes == 4
    assert model.config.global_pool == "max"
    assert model.images.activation == "softmax"


def test_the_preprocessor_is_what_images_go_through() -> None:
    preprocess = load(PRESET).images.preprocess
    assert preprocess is not None
    assert preprocess.crop == (32, 32)
    assert preprocess.mean == pytest.approx((0.5, 0.4, 0.3))
    assert preprocess.std == pytest.approx((0.2, 0.25, 0.3))
    assert not preprocess.antialias


@pytest.mark.parametrize("gone", ["model.weights.h5", "task.weights.h5"])
def test_missing_weights_are_named(gone: str, tmp_path: Path) -> None:
    shutil.copytree(PRESET, tmp_path, dirs_exist_ok=True)
    (tmp_path / gone).unlink()
    with pytest.raises(UnreadableFile, match=f"{gone}, .* is missing beside it"):
        load(tmp_path)


def test_a_backbone_alone_is_a_network_without_a_head(tmp_path: Path) -> None:
    for name in ("config.json", "model.weights.h5"):
        shutil.copy(PRESET / name, tmp_path)
    config = load(tmp_path).config
    assert config.num_classes == 0
    assert config.padding == "same"
