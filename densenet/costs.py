"""What a network costs: operations for one image, step by step."""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING

from densenet.topology import steps

if TYPE_CHECKING:
    from densenet.config import DenseNetConfig


def costs(config: DenseNetConfig, size: int | tuple[int, ...] | None) -> tuple[int, int]:
    """Multiply-adds of the convolutions; operations of norms, ReLUs and pools.

    Args:
        config: the network.
        size: input height and width in pixels; None for the usual.
    """
    size = config.usual_size if size is None else size
    space = (size,) * config.spatial_dims if isinstance(size, int) else tuple(size)
    macs = other = 0

    def divided(stride: tuple[int, ...], up: bool = True) -> tuple[int, ...]:
        return tuple(ceil(n / s) if up else n // s for n, s in zip(space, stride))

    for step in steps(config):
        if step.op == "global_pool":
            other += step.channels * prod(space)
            break  # what follows is a vector
        elements = step.channels * prod(space)
        if step.op == "conv" and step.module is not None:
            space = divided(step.module.stride)
            macs += prod(step.module.shape) * prod(space)
        elif step.op != "concat":
            other += elements * (2 if step.op == "norm" else 1)
        if step.op == "max_pool":
            strides = config.axes(config.stem_pool_stride)
            whole = tuple(ceil((n - 1) / s) + 1 for n, s in zip(space, strides))
            space = whole if config.stem_ceil else divided(strides)
        elif step.op in ("max_blur", "blur"):
            space = divided((2,) * config.spatial_dims)
        elif step.op == "avg_pool":
            space = divided(config.axes(config.transition_stride), up=config.transition_ceil)
    return macs, other
