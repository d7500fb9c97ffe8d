"""A network under names nobody knows."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from converter import load
from densenet import DenseNetConfig

CONFIG = DenseNetConfig(growth_rate=4, block_config=(2, 3, 1), init_features=8, num_classes=3)
RENAMES = [
    (r"stem\.conv", "entry.kern"),
    (r"stem\.norm", "entry.bn"),
    (r"blocks\.(\d+)\.layers\.(\d+)\.", lambda m: f"stage{m[1]}.unit{int(m[2]) + 1}."),
    (r"transitions\.(\d+)\.", lambda m: f"down{int(m[1]) + 10}."),
    (r"norm(?=[12]?\.)", "bn"),
    (r"running_mean", "moving_mean"),
    (r"running_var", "moving_variance"),
    (r"classifier", "species"),
]


def rename(name: str) -> str:
    for pattern, new in RENAMES:
        name = re.sub(pattern, new, name)
    return name


def save(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """npz keeps the order of its members, as a state dict does."""
    np.savez(path, **tensors)
    return path


def same(path: Path, tensors: dict[str, np.ndarray], **options: Any) -> None:
    found = load(path, **options)
    assert set(found.tensors) == set(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(found.tensors[name].read(), array, err_msg=name)
