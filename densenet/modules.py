"""The modules of a network, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from densenet.fields import Axes
from densenet.head import Head
from densenet.module import Module

if TYPE_CHECKING:
    from densenet.config import DenseNetConfig


@lru_cache(maxsize=64)
def modules_of(config: DenseNetConfig) -> tuple[Module, ...]:
    """Every module that owns tensors, in the order the network applies them."""
    return tuple(_in_order(config))


@lru_cache(maxsize=64)
def tensors_of(config: DenseNetConfig) -> Mapping[str, tuple[int, ...]]:
    """Name and shape of every tensor, in that order."""
    return {name: shape for module in modules_of(config) for name, shape in module.tensors().items()}


def _in_order(config: DenseNetConfig) -> Iterator[Module]:

    def conv(name: str, cin: int, cout: int, size: Axes, stride: Axes = 1) -> Module:
        return Module(name, (cout, cin, *config.axes(size)), config.axes(stride))

    def norm(name: str, width: int) -> Module:
        return Module(name, (width,))

    if config.stem == "deep":
        widths = (config.in_channels, *config.stem_widths, config.init_features)
        for i in range(3):
            first = i == 0
            size, stride = (config.first_kernel, config.first_stride) if first else (3, 1)
            yield conv(f"stem.conv{i}", widths[i], widths[i + 1], size, stride)
            yield norm(f"stem.norm{i}", widths[i + 1])
    else:
        yield conv("stem.conv", config.in_channels, config.init_features, config.first_kernel, config.first_stride)
        if config.stem == "imagenet":
            yield norm("stem.norm", config.init_features)
    widths_of_blocks = config.block_widths()
    for b, layers in enumerate(config.block_config):
        start, end = widths_of_blocks[b]
        for i in range(layers):
            layer, width = f"blocks.{b}.layers.{i}", start + i * config.growth_rate
            yield norm(f"{layer}.norm1", width)
            if config.bottleneck:
                inner = config.bn_size * config.growth_rate
                yield conv(f"{layer}.conv1", width, inner, 1)
                yield norm(f"{layer}.norm2", inner)
                yield conv(f"{layer}.conv2", inner, config.growth_rate, 3)
            else:
                yield conv(f"{layer}.conv1", width, config.growth_rate, 3)
        if b + 1 < len(config.block_config):
            yield norm(f"transitions.{b}.norm", end)
            yield conv(f"transitions.{b}.conv", end, widths_of_blocks[b + 1][0], 1)
    yield norm("norm", config.num_features)
    heads = config.heads or (Head("", config.num_classes, config.head),)
    for head in heads:
        yield from head.modules(config.classifier_features)
