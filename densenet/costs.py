"""What a network costs: operations for one image, step by step, and the size of its maps."""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING

from densenet.topology import steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from densenet.config import DenseNetConfig
    from densenet.topology import Step


def costs(config: DenseNetConfig, size: int | tuple[int, ...] | None) -> tuple[int, int]:
    """Multiply-adds of the convolutions; operations of norms, ReLUs and pools.

    Args:
        config: the network.
        size: input height and width in pixels; None for the usual.
    """
    size = config.usual_size if size is None else size
    macs = other = 0
    for step, before, after in spaces(config, (size,) * config.spatial_dims if isinstance(size, int) else tuple(size)):
        if step.op == "conv" and step.module is not None:
            macs += prod(step.module.shape) * prod(after)
        elif step.op != "concat":
            other += step.channels * prod(before) * (2 if step.op == "norm" else 1)
    return macs, other


def spaces(config: DenseNetConfig, size: tuple[int, ...]) -> Iterator[tuple[Step, tuple[int, ...], tuple[int, ...]]]:
    """Every step up to the global pooling with the size of the maps it takes, and of those it makes."""
    space = size

    def divided(stride: tuple[int, ...], up: bool = True) -> tuple[int, ...]:
        return tuple(ceil(n / s) if up else n // s for n, s in zip(space, stride))

    for step in steps(config):
        before = space
        if step.op == "global_pool":
            yield step, before, ()
            return  # what follows is a vector
        if step.op == "conv" and step.module is not None:
            space = divided(step.module.stride)
        elif step.op in ("max_pool", "avg_pool") and step.is_stem_pool:
            strides = config.axes(config.stem_pool_stride)
            whole = tuple(ceil((n - 1) / s) + 1 for n, s in zip(space, strides))
            space = whole if config.stem_ceil else divided(strides)
        elif step.op in ("max_blur", "blur"):
            space = divided((2,) * config.spatial_dims)
        elif step.op in ("max_pool", "avg_pool"):
            space = divided(config.axes(config.transition_stride), up=config.transition_ceil)
        yield step, before, space
