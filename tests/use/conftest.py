"""The trained model in files."""

from pathlib import Path

import pytest

from converter import convert, export_onnx
from converter.demo.demo import CHECKPOINT, record


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    trained = record()
    convert(CHECKPOINT, folder / "m.safetensors", preprocess=trained["preprocessing"], labels=trained["class_names"])
    export_onnx(folder / "m.safetensors", folder / "m.onnx")
    return folder
