"""Random networks in files, to be packaged and published by tests."""

from __future__ import annotations

from pathlib import Path

from networks import random_tensors

from converter.core.checkpoint import Tensor
from converter.core.model import Model
from converter.core.model import Origin as Source
from converter.layouts import layout_named
from converter.writing.convert import write
from converter.writing.in_layout import in_layout
from densenet.config import DenseNetConfig

TIMM = DenseNetConfig(growth_rate=8, block_config=(2, 1, 2), init_features=16, num_classes=5)
"""A network timm can build."""


def save(config: DenseNetConfig, path: Path) -> Path:
    """A random network in a file of the library's."""
    tensors = {name: Tensor.of(array) for name, array in random_tensors(config).items()}
    model = Model(config, tensors, Source(path.name, "0" * 64, "none", "library"))
    layout = layout_named("library")
    write(path, in_layout(model, layout)[0], model, layout)
    return path
