"""What every engine is: a function from images to logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from converter.core.checkpoint import Array

if TYPE_CHECKING:
    from converter.exporters.lazy import LazyModel

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


Loadable: TypeAlias = "str | Path | bytes | LazyModel"
"""An ONNX file, its bytes, or a model that is none yet."""


def called(source: Loadable) -> str:
    """How an error calls an ONNX file, or one in memory."""
    return str(source) if isinstance(source, (str, Path)) else "the model"


@contextmanager
def loadable(source: Loadable) -> Iterator[str | bytes]:
    """What a runtime loads of it: a path, or bytes.

    Raises:
        CannotWrite: there is no room for temporary files.
    """
    if isinstance(source, (str, Path, bytes)):
        yield source if isinstance(source, bytes) else str(source)
        return
    with source.on_disk() as path:
        yield str(path)
