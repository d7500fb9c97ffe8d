"""What every engine is: a function from images to logits."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array

Run = Callable[[Array], Array]
"""float32 images (N, C, *space) to logits (N, num_classes)."""

Outputs = Callable[[Array], tuple[Array, ...]]
"""Images to logits, and after them what else was asked for: pooled features (N, C), feature maps (N, C, h, w)."""

INPUT_TYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
"""What an ONNX file may take, as ONNX Runtime names it."""


def called(source: str | Path | bytes) -> str:
    """How an error calls an ONNX file, or one in memory."""
    return "the model" if isinstance(source, bytes) else str(source)
