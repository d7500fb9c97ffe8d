"""Reference files: checkpoints that other frameworks wrote, with the logits those frameworks computed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from networks import export_model

from converter.reading.load import load

CASES = Path(__file__).parent / "data"


def logits_of(path: Path, x: np.ndarray) -> np.ndarray:
    """Logits (N, classes) that ONNX Runtime computes from a checkpoint's exported graph for images (N, C, H, W)."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "model.onnx")
        export_model(load(path), target)
        session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: x})[0]
