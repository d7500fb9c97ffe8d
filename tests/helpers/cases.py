"""Reference files: checkpoints that other frameworks wrote, with the logits those frameworks computed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from converter import load
from converter.engines.onnxruntime import onnx_engine
from converter.exporters.onnx import to_onnx

CASES = Path(__file__).parent.parent / "data"


def file_of(case: str) -> Path:
    """The checkpoint of a case."""
    return CASES / case / json.loads((CASES / case / "case.json").read_text())["file"]


LEGACY = CASES / "tv-legacy-old" / "densenet-legacy-old.pth"
"""A small network of torchvision's, in a file as torch wrote them before 1.6; 12 classes."""


def logits_of(path: Path, x: np.ndarray) -> np.ndarray:
    """Logits (N, classes) that ONNX Runtime computes from a checkpoint's exported graph for images (N, C, H, W)."""
    return onnx_engine(to_onnx(load(path)).SerializeToString())(x)
