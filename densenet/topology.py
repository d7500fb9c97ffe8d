"""The network as steps: what is computed, from which values, in order.  FLOPs, graphs and traces derive from it.

The PyTorch module (``model.py``) is written by itself: it is what everything else is measured against.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from densenet.head import Head, HeadLayer, layers_of

if TYPE_CHECKING:
    from densenet.config import DenseNetConfig
    from densenet.module import Module

INPUT = "pixel_values"
FEATURES = "features"
LOGITS = "logits"
Op = Literal[
    "conv", "norm", "relu", "max_pool", "max_blur", "avg_pool", "blur", "concat", "global_pool", "linear", "function"
]
"""``max_blur`` is max pooling with stride 1 and a blur with stride 2; ``global_pool`` ends in a vector; ``function`` is
an activation of the head's, or the trunk's where that is no ReLU."""

STEM_POOLS: Mapping[str, Op] = {"blur": "max_blur", "avg": "avg_pool"}
TRANSITION_POOLS: Mapping[str, Op] = {"blur": "blur", "max": "max_pool"}


class Step(NamedTuple):
    """One operation.

    Attributes:
        op: what it does.
        name: of the value it makes: its module's; ``features`` of the global pooling, ``logits`` of the classifier,
            of one of several heads the head's name.
        inputs: names of the values it takes, ``pixel_values`` for the image.
        channels: of its first input.
        module: what owns its tensors, if it has any.
        layer: of a head's layers and of activations, what it is.
    """

    op: Op
    name: str
    inputs: tuple[str, ...]
    channels: int
    module: Module | None = None
    layer: HeadLayer | None = None

    @property
    def is_stem_pool(self) -> bool:
        """Whether it is the pooling behind the stem, whose window overlaps and has a border."""
        return self.name == "stem.pool"


def steps(config: DenseNetConfig) -> list[Step]:
    """Every step of a network in order of execution."""
    result: list[Step] = []
    modules = {module.name: module for module in config.modules()}
    widths = {INPUT: config.in_channels}

    def add(op: Op, name: str, *inputs: str, width: int = 0, module: Module | None = None) -> str:
        """A step that makes so many channels: as many as it takes, where nothing is said."""
        result.append(Step(op, name, inputs, widths[inputs[0]], module))
        widths[name] = width or widths[inputs[0]]
        return name

    def conv(name: str, x: str) -> str:
        return add("conv", name, x, width=modules[name].shape[0], module=modules[name])

    def norm(name: str, x: str, *, relu: bool = True) -> str:
        x = add("norm", name, x, module=modules[name])
        if not relu:
            return x
        layer = config.final_layer if name == "norm" else config.hidden_layer
        is_relu = layer.kind == "relu"
        x = add("relu" if is_relu else "function", name.replace("norm", "relu" if is_relu else "act"), x)
        result[-1] = result[-1]._replace(layer=layer)
        return x

    x = INPUT
    for name in (module.name for module in modules.values() if module.place.part == "stem"):
        x = conv(name, x) if modules[name].kind == "conv" else norm(name, x)
    if config.stem_halves:
        x = add(STEM_POOLS.get(config.stem_pool, "max_pool"), "stem.pool", x)
    for b, layers in enumerate(config.block_config):
        for layer in (f"blocks.{b}.layers.{i}" for i in range(layers)):
            new = conv(f"{layer}.conv1", norm(f"{layer}.norm1", x))
            if config.bottleneck:
                new = conv(f"{layer}.conv2", norm(f"{layer}.norm2", new))
            x = add("concat", layer, x, new, width=widths[x] + widths[new])
        if b + 1 < len(config.block_config):
            name = f"transitions.{b}"
            x = conv(f"{name}.conv", norm(f"{name}.norm", x, relu=config.transition_relu))
            x = add(TRANSITION_POOLS.get(config.transition_pool, "avg_pool"), f"{name}.pool", x)
    add("global_pool", FEATURES, norm("norm", x, relu=config.final_relu), width=config.classifier_features)
    for head in config.heads or (Head("", config.num_classes, config.head),):
        at, x = f"heads.{head.name}." if head.name else "", FEATURES
        for i, part in enumerate(layers_of(head.layers)):
            name = f"{at}head.{i}.{part.kind}"
            if part.is_activation:
                x = add("function", name, x)
                result[-1] = result[-1]._replace(layer=part)
            else:
                x = add("linear" if part.kind == "linear" else "norm", name, x, width=part.width, module=modules[name])
        if head.num_classes:
            add("linear", head.name or LOGITS, x, width=head.num_classes, module=modules[f"{at}classifier"])
    return result
