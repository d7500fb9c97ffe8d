"""Accuracy on folders of images."""

from pathlib import Path

import pytest
from PIL import Image

from converter.core.errors import ConverterError
from converter.demo.demo import IMAGES, record
from converter.use.evaluate import evaluate


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_evaluation_counts_as_the_training_recorded(engine: str, digits: Path) -> None:
    if engine == "torch":
        pytest.importorskip("torch")
    result = evaluate(digits / "m.safetensors", IMAGES, engine=engine).to_dict()
    assert result["images"] == 100
    assert result["top1"] == 100 * record()["accuracy"]["shipped_images"]["accuracy"]
    assert result["top5"] == 100


def test_folders_that_do_not_fit(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match="no such folder"):
        evaluate(digits / "m.onnx", tmp_path / "nowhere")
    with pytest.raises(ConverterError, match="one subfolder"):
        evaluate(digits / "m.onnx", tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "a.png")
    with pytest.raises(ConverterError, match="2 subfolders for a model of 10 classes"):
        evaluate(digits / "m.onnx", tmp_path)
