"""Small random DenseNets in the library layout, for tests that write them the way others do."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from densenet.config import DenseNetConfig

SMALL = DenseNetConfig(growth_rate=4, block_config=(2, 1, 2, 1), init_features=6, bn_size=2, num_classes=5)
CIFAR = DenseNetConfig(
    growth_rate=4, block_config=(2, 2, 2), init_features=6, bottleneck=False, stem="cifar", compression=1, num_classes=5
)


@st.composite
def imagenet_configs(draw: st.DrawFn) -> DenseNetConfig:
    """Bottleneck networks with the 7x7 stem, small enough to make hundreds of them."""
    return DenseNetConfig(
        growth_rate=draw(st.integers(2, 5)),
        block_config=tuple(draw(st.lists(st.integers(1, 3), min_size=2, max_size=5))),
        init_features=draw(st.integers(4, 9)),
        bn_size=draw(st.integers(1, 4)),
        num_classes=draw(st.integers(1, 7)),
        in_channels=draw(st.sampled_from((1, 3))),
    )


def random_tensors(config: DenseNetConfig, seed: int = 0, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """Distinct values for every tensor of a network; variances are positive."""
    random = np.random.default_rng(seed)
    return {
        name: (
            random.uniform(0.5, 1.5, shape) if name.endswith("running_var") else random.normal(0, 0.3, shape)
        ).astype(dtype)
        for name, shape in config.tensors().items()
    }
