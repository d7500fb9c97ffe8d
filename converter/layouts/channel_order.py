"""Layouts that put new feature maps first: where each of our channels is."""

from collections.abc import Callable

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.layouts.layout import Layout
from densenet.config import DenseNetConfig
from densenet.module import COUNTER
from densenet.names import Name, parse

OTHER_ORDER = (
    "the original joins feature maps in another order: pooled features are the same numbers, the oldest maps' first"
)
"""What is to be said of a network without a classifier, which would take them in their order."""


def reordered(tensor: Tensor, name: str, config: DenseNetConfig, layout: Layout, *, inverse: bool) -> Tensor:
    """Turn new-features-first channels into ours (or back), where a layout concatenates that way."""
    order = channel_order(name, config) if layout.new_first else None
    if order is None:
        return tensor
    index = np.argsort(order) if inverse else order
    axis = 1 if len(tensor.shape) > 1 else 0
    apply: Callable[[], Array] = lambda: np.take(tensor.read(), index, axis)  # noqa: E731
    return Tensor(tensor.shape, tensor.dtype, apply)


def channel_order(name: str, config: DenseNetConfig) -> Array | None:
    """For a tensor that sees a block's concatenation: where each of our channels is in new-first order."""
    place, widths, growth = parse(name), config.block_widths(), config.growth_rate
    if place.leaf == COUNTER:
        return None
    if place.part == "layer" and place.number == 1:
        assert place.block is not None and place.layer is not None
        start, layers = widths[place.block][0], place.layer
    elif place.part == "transition":
        assert place.block is not None
        start, layers = widths[place.block][0], config.block_config[place.block]
    elif place.part == "head" and _takes_features(place, config):
        start, layers = widths[-1][0], config.block_config[-1]
    else:
        return None
    news = [(layers - i) * growth + np.arange(growth) for i in range(1, layers + 1)]
    return np.concatenate([layers * growth + np.arange(start), *news])


def _takes_features(place: Name, config: DenseNetConfig) -> bool:
    """Whether a tensor of the last norm, the head or the classifier has a value for each of the feature maps."""
    if place.kind == "linear" and place.leaf != "weight":
        return False
    before = config.head if place.role == "classifier" else config.head[: place.number or 0]
    return not any(layer.startswith("linear") for layer in before)
