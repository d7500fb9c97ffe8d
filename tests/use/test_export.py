"""export_onnx: files of every precision, their metadata, targets that cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.cases import CASES

from converter import export_onnx, load
from converter.core.errors import ConverterError
from converter.demo.demo import CHECKPOINT, IMAGES
from converter.engines.onnxruntime import onnx_engine
from converter.exporters.onnx import DEFAULT_OPSET
from densenet import DenseNetConfig


def test_the_file_describes_itself_and_is_the_same_every_time(tmp_path: Path) -> None:
    source = CASES / "tv-legacy-old/densenet-legacy-old.pth"
    done = [export_onnx(source, tmp_path / f"{name}.onnx") for name in ("a", "b")]
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    proto = onnx.load(tmp_path / "a.onnx")
    metadata = {p.key: p.value for p in proto.metadata_props}
    assert DenseNetConfig.from_dict(json.loads(metadata["densenet.config"])) == load(source).config
    assert json.loads(metadata["densenet.source"])["sha256"] == load(source).origin.sha256
    assert done[0].opset == DEFAULT_OPSET
    dims = [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch_size", 3, "height", "width"]


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    source = CASES / "tv-legacy-old/densenet-legacy-old.pth"
    with pytest.raises(ConverterError, match=r"\.onnx"):
        export_onnx(source, tmp_path / "a.safetensors")
    with pytest.raises(ConverterError, match="cannot be written"):
        export_onnx(source, tmp_path / "no" / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_export_writes_each_precision(precision: str, tmp_path: Path) -> None:
    done = export_onnx(CHECKPOINT, tmp_path / "model.onnx", precision=precision)  # type: ignore[arg-type]
    assert (done.inputs, done.outputs) == (("pixel_values",), ("logits",))
    assert onnx_engine(done.path)(np.zeros((2, 3, 32, 40), np.float32)).shape == (2, 10)
    assert any("synthetic images only" in note for note in done.notes) == (precision == "int8")


def test_how_calibration_prepares_images_is_said_where_it_is_assumed(tmp_path: Path) -> None:
    said: list[str] = []
    done = export_onnx(CHECKPOINT, tmp_path / "a.onnx", precision="int8", calibration=IMAGES, progress=said.append)
    assert (
        [note for note in done.notes if "mean" in note or "synthetic" in note]
        == [note for note in done.notes if "are assumed" in note]
        != []
    )
    assert said[0].startswith("calibrating int8: image 1 of ")


def test_export_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match="no precision is called 'fp8'; there are fp32, fp16, int8"):
        export_onnx(CHECKPOINT, tmp_path / "a.onnx", precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(ConverterError, match="only int8 is calibrated"):
        export_onnx(CHECKPOINT, tmp_path / "a.onnx", precision="fp16", calibration=IMAGES)
    assert not list(tmp_path.iterdir())
