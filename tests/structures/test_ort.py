"""ONNX Runtime's own form of ONNX: the same graph, optimised or not."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from helpers.cases import CASES, logits_of
from helpers.graphs import TINY, exported, images, run

from converter import load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile
from converter.formats import open_checkpoint

CASE = CASES / "ort-fixed"


def as_ort(onnx_path: Path, level: str) -> Path:
    """What ``onnxruntime.tools.convert_onnx_models_to_ort`` writes at a level of optimisation."""
    path, options = onnx_path.with_suffix(".ort"), onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    options.add_session_config_entry("session.save_model_format", "ORT")
    if level == "ENABLE_BASIC":  # as its style "Runtime" does
        options.add_session_config_entry("optimization.minimal_build_optimizations", "save")
    onnxruntime.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])
    return path


def test_a_reference_file_computes_what_its_producer_did() -> None:
    expected = np.load(CASE / "logits.npy")
    model = load(CASE / "model.ort")
    assert (model.origin.format, model.origin.layout) == ("ONNX Runtime", "onnx")
    assert np.abs(logits_of(CASE / "model.ort", np.load(CASE / "input.npy")) - expected).max() < 1e-5


@pytest.mark.parametrize("level", ["DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED"])
def test_there_and_back(tmp_path: Path, level: str) -> None:
    onnx_path, _ = exported(tmp_path)
    x, path = images(), as_ort(onnx_path, level)
    assert load(path).config == TINY
    np.testing.assert_allclose(logits_of(path, x), run(onnx_path, x), atol=1e-5)


def test_weights_in_blocks_are_refused(tmp_path: Path) -> None:
    """Which ONNX Runtime makes at its highest level on the processors that have instructions for them."""
    path = as_ort(exported(tmp_path)[0], "ENABLE_ALL")
    if any(node["domain"] == "com.microsoft.nchwc" for node in open_checkpoint(path).tree["nodes"]):
        with pytest.raises(NotADenseNet, match="optimised for one processor"):
            load(path)


def test_damage_is_one_line(tmp_path: Path) -> None:
    content, path = (CASE / "model.ort").read_bytes(), tmp_path / "m.ort"
    for part in (8, 100, len(content) // 2):
        path.write_bytes(content[:part])
        with pytest.raises(UnreadableFile) as error:
            load(path)
        assert "\n" not in str(error.value)
    for root in (0xFFFFFFF0, len(content) - 2, 0):
        path.write_bytes(struct.pack("<I", root) + content[4:])
        with pytest.raises(ConverterError):
            load(path)
