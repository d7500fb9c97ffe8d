"""What stands beside the tensors: metadata, and a config.json in the folder."""

import json
from pathlib import Path

import safetensors
import safetensors.numpy
from helpers.cases import CASES

from converter import convert, inspect, load


def test_blur_pooling_shows_in_metadata_or_config_json_or_is_asked_for(tmp_path: Path) -> None:
    folder = CASES / "timm-blur121d"
    assert load(folder / "model.pth").config.stem_pool == "blur"
    convert(folder / "model.pth", tmp_path / "a.safetensors", to="timm")
    assert load(tmp_path / "a.safetensors").config.stem_pool == "blur"  # recorded by us
    bare = dict(safetensors.numpy.load_file(tmp_path / "a.safetensors").items())
    safetensors.numpy.save_file(bare, tmp_path / "bare.safetensors")
    unknown = load(tmp_path / "bare.safetensors")
    assert unknown.config.stem_pool == "max"
    assert any("--set stem_pool=blur" in note for note in unknown.notes)
    assert load(tmp_path / "bare.safetensors", settings={"stem_pool": "blur"}).config.stem_pool == "blur"
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "densenetblur121d", "num_classes": 12}))
    assert load(tmp_path / "bare.safetensors").config.stem_pool == "blur"


def test_a_hub_repository_of_timm_is_recognised_by_its_config_json() -> None:
    found = inspect(CASES / "timm-hf-small/model.safetensors")
    assert found.chosen.layout.name == "timm"
    config = json.loads((CASES / "timm-hf-small/config.json").read_text())["pretrained_cfg"]
    assert found.model.images.preprocess is not None
    assert list(found.model.images.preprocess.crop) == config["input_size"][1:]
    assert found.model.images.preprocess.mean == tuple(config["mean"])
