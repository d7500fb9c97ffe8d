"""Engines by name."""

from __future__ import annotations

import pytest

from converter.core.errors import ConverterError
from converter.engines.specs import parse_specs


def test_engines_by_name() -> None:
    names = ["onnxruntime-basic@1", "openvino@2", "torch-channels-last", "torch", "timm"]
    labels = [spec.label for spec in parse_specs(names)]
    assert labels == [
        "ONNX Runtime basic 1 thread",
        "OpenVINO 2 threads",
        "PyTorch channels-last",
        "PyTorch float32",
        "timm",
    ]


@pytest.mark.parametrize("name", ["", "tensorrt", "onnxruntime-best", "torch@2", "openvino@0", "openvino-all"])
def test_no_such_engine(name: str) -> None:
    with pytest.raises(ConverterError, match="no engine is called"):
        parse_specs([name])
