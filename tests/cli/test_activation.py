"""--activation and --labels, from the command line to the file and the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from helpers.command import ok, run
from helpers.networks import SMALL, random_model, save
from PIL import Image

from converter import load, verify


@pytest.fixture
def source(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "i.png")
    return save(random_model(SMALL), tmp_path / "m.safetensors")


def test_it_is_recorded_in_what_is_written_and_gives_probabilities(tmp_path: Path, source: Path) -> None:
    ok("convert", source, tmp_path / "c.npz", "--activation", "sigmoid")
    assert load(tmp_path / "c.npz").images.activation == "sigmoid"
    ok("export", source, tmp_path / "e.onnx", "--activation", "sigmoid")
    session = onnxruntime.InferenceSession(tmp_path / "e.onnx")
    logits, probabilities = session.run(None, {"pixel_values": np.ones((1, 3, 64, 64), np.float32)})
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert verify(source, tmp_path / "e.onnx").passed
    done = run("export", source, tmp_path / "n.onnx", "--activation", "none", "--probabilities")
    assert (done.returncode, "has no probabilities" in done.stderr) == (2, True)
    done = run("convert", source, tmp_path / "d.npz", "--activation", "sigmod")
    assert (done.returncode, "softmax, sigmoid, none" in done.stderr) == (2, True)


def test_predict_obeys_it_and_names_what_it_is_told(tmp_path: Path, source: Path) -> None:
    (tmp_path / "l.json").write_text(json.dumps({"id2label": {str(i): f"kind {i}" for i in range(5)}}))
    labels = ("--labels", tmp_path / "l.json")
    found = {}
    for name in ("softmax", "sigmoid", "none"):
        done = ok("predict", source, tmp_path / "i.png", "--json", "--activation", name, *labels)
        top = json.loads(done)[0]["top"]
        assert all(rank["class"] == f"kind {rank['label']}" for rank in top)
        found[name] = np.array([rank["score"] for rank in sorted(top, key=lambda rank: rank["label"])])
    np.testing.assert_allclose(found["sigmoid"], 1 / (1 + np.exp(-found["none"])), atol=1e-6)
    powers = np.exp(found["none"] - found["none"].max())
    np.testing.assert_allclose(found["softmax"], powers / powers.sum(), atol=1e-6)


def test_candidates_of_another_activation_fail(tmp_path: Path, source: Path) -> None:
    ok("convert", source, tmp_path / "a.safetensors", "--activation", "sigmoid")
    ok("export", source, tmp_path / "b.onnx", "--activation", "softmax")
    checks = verify(tmp_path / "a.safetensors", tmp_path / "b.onnx").checks["b.onnx"]
    assert [check.detail for check in checks if check.name == "activation"] == ["softmax, sigmoid expected"]
