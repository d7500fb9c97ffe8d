"""The architecture, read off the shapes of tensors with library names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from converter.core import bounds
from converter.core.errors import NotADenseNet
from densenet.config import DenseNetConfig
from densenet.head import HeadLayer
from densenet.names import parse

HEAD = re.compile(r"head\.\d+\.(norm|linear)\.weight")


def config_of(shapes: Mapping[str, tuple[int, ...]], network: Mapping[str, Any]) -> DenseNetConfig:
    """Read the architecture off the shapes of tensors with library names.

    Tolerates missing tensors as far as others tell the same; what is then not as the
    config says is for the caller to find.

    Raises:
        NotADenseNet: the shapes are not those of a DenseNet.
    """
    layers: dict[int, int] = {}
    for place in map(parse, shapes):
        if place.block is not None and place.layer is not None:
            layers[place.block] = max(layers.get(place.block, 0), place.layer + 1)
    if not layers or sorted(layers) != list(range(len(layers))):
        raise NotADenseNet("no complete row of dense blocks")
    blocks = tuple(layers[b] for b in range(len(layers)))
    if max(layers) > 64 or sum(blocks) > len(shapes):  # before anything is made of them
        raise NotADenseNet("more blocks or layers than any DenseNet has, or than there are tensors")

    def first(*endings: str) -> tuple[int, ...]:
        return next(
            (s for n, s in shapes.items() if parse(n).part == "layer" and n.endswith(endings) and len(s) > 2), ()
        )

    conv1, conv2 = first("conv1.weight"), first("conv2.weight")
    bottleneck = bool(conv2) or any(parse(n).role == "norm2" and parse(n).ends_layer for n in shapes)
    growth_of = conv2 if bottleneck else conv1
    deep = "stem.conv0.weight" in shapes
    stem = shapes.get("stem.conv0.weight" if deep else "stem.conv.weight", ())
    if not growth_of or not conv1 or len(stem) < 3:
        raise NotADenseNet("the stem or the layers lack their convolutions")
    growth = growth_of[0]
    values: dict[str, Any] = {
        "growth_rate": growth,
        "block_config": blocks,
        "bottleneck": bottleneck,
        "in_channels": stem[1],
        "spatial_dims": len(stem) - 2,
        "stem": "deep" if deep else "imagenet" if "stem.norm.weight" in shapes or stem[2] > 3 else "cifar",
        "stem_kernel": stem[2:],
    }
    if bottleneck:
        values["bn_size"] = max(conv1[0] // growth, 1)
    if deep:
        last = shapes.get("stem.conv2.weight", ())
        middle = shapes.get("stem.conv1.weight", ())
        if not last or not middle:
            raise NotADenseNet("a deep stem without its three convolutions")
        values["stem_widths"] = (stem[0], middle[0])
        values["init_features"] = last[0]
    else:
        values["init_features"] = stem[0]
    head = head_of(shapes)
    if head:
        values["head"] = head
    classifier = shapes.get("classifier.weight", ())
    values["num_classes"] = classifier[0] if len(classifier) == 2 else 0
    try:
        values["compression"] = _compression(shapes, values["init_features"], growth, blocks)
        config = DenseNetConfig(**{**values, **usual_stem(values["stem"], stem[2:]), **network})
    except ValueError as error:
        raise NotADenseNet(str(error)) from error
    taken = [shape[-1] for name, shape in shapes.items() if HEAD.match(name)] or classifier[1:]
    if taken and taken[0] == 2 * config.num_features and not config.global_pool.startswith("cat"):
        config = replace(config, global_pool="catavgmax")
    return config


def head_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """The layers of a head that has library names; where nothing has a tensor it is a ReLU."""
    found: dict[int, str] = {}
    for name, shape in shapes.items():
        if (place := parse(name)).part == "head" and place.number is not None and place.leaf == "weight":
            biased = f"{place.module}.bias" in shapes
            linear = HeadLayer("linear", shape[0], biased) if place.kind == "linear" and len(shape) == 2 else None
            found[place.number] = str(linear or HeadLayer("norm"))
    if not found or max(found) >= bounds.HEAD_LAYERS:
        return ()
    above = max(found) + 1 + (found[max(found)] != "norm")  # nothing without tensors is known behind a norm
    return tuple(found.get(i, "relu") for i in range(above))


def usual_stem(stem: str, kernel: tuple[int, ...]) -> dict[str, Any]:
    """Stride and pooling of a stem, which no shape shows, where they are taken to be others than torchvision's."""
    return {"stem_stride": 1, "stem_pool": "none"} if stem == "imagenet" and max(kernel) <= 3 else {}


def _compression(shapes: Mapping[str, tuple[int, ...]], start: int, growth: int, blocks: tuple[int, ...]) -> float:
    """The simplest fraction whose floor gives every transition's width."""
    pairs, width = [], start
    for t, (layers, _) in enumerate(pairwise(blocks)):
        end = width + layers * growth
        weight = shapes.get(f"transitions.{t}.conv.weight", ())
        width = weight[0] if weight else end // 2
        if weight:
            pairs.append((end, width))
    candidates = [0.5, 1.0, *(i / 10 for i in range(1, 10)), *(i / 100 for i in range(1, 100))]
    candidates += [i / 1000 for i in range(1, 1000)] + [out / end for end, out in pairs]
    for value in candidates:
        if 0 < value <= 1 and all(int(end * value) == out for end, out in pairs):
            return value
    raise NotADenseNet(f"transitions of widths {pairs}, which no one compression gives")
