"""export_onnx: files of every precision, their metadata, targets that cannot be written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.cases import CASES
from helpers.networks import SMALL, save

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
    (tmp_path / "no").write_text("a file")
    with pytest.raises(ConverterError, match="cannot be written"):
        export_onnx(source, tmp_path / "no" / "a.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["no"]


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


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    inside = export_onnx(CHECKPOINT, tmp_path / "inside.onnx")
    done = export_onnx(CHECKPOINT, tmp_path / "a.onnx", external_data=True)
    assert done.data == tmp_path / "a.onnx_data"
    assert done.data.stat().st_size > 0.8 * inside.path.stat().st_size > 5 * done.path.stat().st_size
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    np.testing.assert_array_equal(onnx_engine(done.path)(x), onnx_engine(inside.path)(x))
    before = [done.path.read_bytes(), done.data.read_bytes()]
    export_onnx(CHECKPOINT, tmp_path / "a.onnx", external_data=True)  # what we wrote may be replaced
    assert [done.path.read_bytes(), done.data.read_bytes()] == before
    for name, tensor in load(inside.path).tensors.items():
        np.testing.assert_array_equal(tensor.read(), load(done.path).tensors[name].read())


def test_weights_of_others_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.onnx_data").write_bytes(b"mine")
    with pytest.raises(ConverterError, match="does not belong to a file of this tool"):
        export_onnx(CHECKPOINT, tmp_path / "a.onnx", external_data=True)
    export_onnx(CHECKPOINT, tmp_path / "a.onnx")
    with pytest.raises(ConverterError, match="does not belong"):
        export_onnx(CHECKPOINT, tmp_path / "a.onnx", external_data=True)
    assert (tmp_path / "a.onnx_data").read_bytes() == b"mine"
    export_onnx(CHECKPOINT, tmp_path / "a.onnx", external_data=True, force=True)
    with pytest.raises(ConverterError, match="is what is read"):
        export_onnx(tmp_path / "a.onnx", tmp_path / "a.onnx", external_data=True)


def test_the_order_of_axes_is_no_project(tmp_path: Path) -> None:
    done = export_onnx(CHECKPOINT, tmp_path / "a.onnx", layout="nhwc", batch=1, size=32)
    proto = onnx.load(done.path)
    assert [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == [1, 32, 32, 3]


# -- for other runtimes ------------------------------------------------------------------------


def written_for(runtime: str, folder: Path, **options: Any) -> tuple[Path, np.ndarray, np.ndarray]:
    """A file for a runtime, an input, and what ONNX Runtime makes of it."""
    done = export_onnx(CHECKPOINT, folder / "a.onnx", runtime=runtime, size=32, **options)
    assert any(note.startswith("for ") for note in done.notes)
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    return done.path, x, onnx_engine(done.path)(x)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_opencv_computes_the_same(precision: Any, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path, x, expected = written_for("opencv", tmp_path, precision=precision)
    network = cv2.dnn.readNetFromONNX(str(path))
    network.setInput(x)
    assert np.abs(network.forward() - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_onnx2torch_computes_the_same(precision: Any, tmp_path: Path) -> None:
    onnx2torch, torch = pytest.importorskip("onnx2torch"), pytest.importorskip("torch")
    path, x, expected = written_for("onnx2torch", tmp_path, precision=precision)
    with torch.no_grad():
        found = onnx2torch.convert(str(path)).eval()(torch.from_numpy(x)).numpy()
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("runtime", "config", "how", "words"),
    [
        ("opencv", {"padding": "same"}, {}, "SAME_UPPER"),
        ("opencv", {"spatial_dims": 3}, {}, "images alone"),
        ("opencv", {}, {"opset": 23}, "opset 22 at most"),
        ("onnx2torch", {"global_pool": "max"}, {}, "GlobalMaxPool"),
        ("onnx2torch", {}, {"outputs": ("logits", "cam")}, "cam"),
        ("opencv", {}, {"precision": "int8"}, "does not take our int8; it takes fp32 and fp16: the engine that 5.0"),
        ("onnx2torch", {}, {"precision": "int8"}, "does not take our int8"),
        ("tensorrt", {}, {"precision": "int8"}, "does not take our int8"),
        ("tensorrt", {"spatial_dims": 1}, {}, "2 and 3 dimensions"),
        ("ncnn", {}, {}, "no runtime is called 'ncnn'; there are opencv, tensorrt, onnx2torch, web"),
    ],
)
def test_what_a_runtime_does_not_take_is_refused(
    runtime: str, config: dict[str, Any], how: dict[str, Any], words: str, tmp_path: Path
) -> None:
    source = save(replace(SMALL, **config), tmp_path / "a.safetensors")
    with pytest.raises(ConverterError, match=words):
        export_onnx(source, tmp_path / "a.onnx", runtime=runtime, **how)


def test_what_a_runtime_takes_is_the_default_alone(tmp_path: Path) -> None:
    source = save(SMALL, tmp_path / "a.safetensors")
    dims = {}
    for name, how in (("usual", {}), ("said", {"batch": 3, "size": (64, 96), "opset": 13})):
        done = export_onnx(source, tmp_path / f"{name}.onnx", runtime="opencv", **how)  # type: ignore[arg-type]
        shape = onnx.load(done.path).graph.input[0].type.tensor_type.shape.dim
        dims[name] = [done.opset, *(d.dim_value for d in shape)]
    assert dims == {"usual": [17, 1, 3, 224, 224], "said": [13, 3, 3, 64, 96]}
    done = export_onnx(source, tmp_path / "image.onnx", runtime="opencv", image_input=True)
    assert any("resized and cropped to 224x224" in note for note in done.notes)
