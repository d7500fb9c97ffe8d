"""What a package says its outputs are, and what others make of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.networks import TIMM
from helpers.packages import LABELS, read, save_described
from PIL import Image

from converter.core.model import Images
from converter.publish.claims import json_checks, published_model
from converter.publish.package import package
from converter.use.activation import activated
from converter.use.predict import predictor


@pytest.fixture(scope="module")
def multilabel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multilabel")
    source = save_described(TIMM, folder / "source.safetensors")
    said = Images(labels=tuple(LABELS), activation="sigmoid", thresholds=(0.25, None, 0.5, 0.75, 0.125))
    package(source, folder / "out", onnx=["fp32"], images=said)
    pixels = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    return folder


def test_every_file_says_that_classes_are_questions_of_their_own(multilabel: Path) -> None:
    out = multilabel / "out"
    assert read(out / "config.json")["problem_type"] == "multi_label_classification"
    card = (out / "README.md").read_text()
    assert "its logit's sigmoid is its probability" in card
    assert "| class 0 | 0.25 |" in card
    assert "| class 1 |  |" in card
    assert 'classify("image.png", top_k=5)' in card
    assert "probabilities = output.sigmoid()" in card
    for file in ("model.safetensors", "onnx/model.onnx"):
        loaded = predictor(out / file)
        image = multilabel / "image.png"
        expected = activated(loaded.logits([image]), "sigmoid")[0]
        np.testing.assert_allclose(loaded.results([image])[0]["pred_scores"], expected, atol=1e-6)
        assert loaded.thresholds == (0.25, None, 0.5, 0.75, 0.125)


@pytest.mark.torch
def test_transformers_pipeline_gives_the_same_probabilities(multilabel: Path) -> None:
    for needed in ("timm", "torchvision"):
        pytest.importorskip(needed)
    transformers = pytest.importorskip("transformers")
    classify = transformers.pipeline("image-classification", model=str(multilabel / "out"))
    found = {each["label"]: each["score"] for each in classify(str(multilabel / "image.png"), top_k=5)}
    expected = predictor(multilabel / "out" / "model.safetensors").results([multilabel / "image.png"])[0]["pred_scores"]
    assert np.abs(np.array([found[label] for label in LABELS]) - expected).max() < 1e-5


def test_a_config_that_says_otherwise_than_the_weights_is_found(multilabel: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    package(save_described(TIMM, tmp_path / "a.safetensors"), out, onnx=[], activation="none")
    assert "no activation makes probabilities" in (out / "README.md").read_text()
    assert 'classify("image.png", function_to_apply="none")' in (out / "README.md").read_text()
    config = read(out / "config.json")
    assert config["problem_type"] == "regression"
    (out / "config.json").write_text(json.dumps({**config, "problem_type": "multi_label_classification"}))
    checks = json_checks(out, ["config.json"], published_model(out / "model.safetensors"))["config.json"]
    assert [check.name for check in checks if not check.ok] == ["problem_type"]
