"""A model under another layout's names, in its orientation, with its eps."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import CannotExpress
from converter.core.model import Model
from converter.core.norms import with_eps
from converter.layouts.channel_order import reordered
from converter.layouts.layout import Layout, Leaf
from converter.reading.shapes import usual_stem
from densenet.config import DenseNetConfig

IMPLICIT = frozenset("growth_rate block_config init_features bn_size num_classes in_channels".split())
"""Config fields that every layout expresses by its shapes."""


@dataclass(frozen=True)
class Arranged:
    """A model's tensors as another layout has them.

    Attributes:
        model: what the tensors now compute: the same network, its eps the layout's.
        layout: whose names these are.
        tensors: by those names, in network order.
        notes: what was folded.
    """

    model: Model
    layout: Layout
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


def in_layout(model: Model, layout: Layout, *, metadata: bool = True) -> Arranged:
    """A model in another layout; ``metadata`` is whether what is written next holds the config beside the tensors.

    Raises:
        CannotExpress: the layout cannot say what this network does.
    """
    config = model.config
    if not layout.writable:
        raise CannotExpress(f"the {layout.name} layout can be read, not written")
    beyond = _beyond(config, layout, frozenset() if metadata else layout.in_metadata)
    refused = [f"{name}={value!r}" for name, value in beyond]
    refused += [f"{name} (no name for it)" for name in layout.lacks(config)]
    if refused:
        raise CannotExpress(f"the {layout.name} layout cannot express {', '.join(refused)}")
    tensors, notes = dict(model.tensors), []
    free = "eps" in layout.expresses and (metadata or "eps" not in layout.in_metadata)
    eps = config.eps if free else layout.eps
    if eps != config.eps:
        for module in config.modules():
            if module.kind == "norm":
                _with_eps(tensors, module.name, config.eps, eps)
        notes.append(f"eps {config.eps:g} folded into the norms: {layout.name} has eps {eps:g}")
    if config.head and not metadata:
        notes.append(_head_note(config, layout, eps))
    result: dict[str, Tensor] = {}
    for name, (leaf, keys) in layout.expand(config).items():
        if name not in tensors:
            continue  # an optional tensor the source does not have
        tensor = reordered(tensors[name], name, config, layout, inverse=True)
        result |= dict(zip(keys, _split(leaf, tensor)))
    return Arranged(replace(model, config=replace(config, eps=eps)), layout, result, tuple(notes))


def _head_note(config: DenseNetConfig, layout: Layout, eps: float) -> str:
    """How to build the head that the tensors are of, where the file does not say it."""
    dot = layout.leaves["linear.bias"].names[0][0]
    names = {name.rpartition(".")[0]: keys[0].rpartition(dot)[0] for name, (_, keys) in layout.expand(config).items()}
    layers: list[str] = []
    for i, layer in enumerate(config.head_layers):
        name = names.get(f"head.{i}.{layer.kind}")
        said = f"{layer} (eps {eps:g})" if layer.kind == "norm" else str(layer)
        layers.append(said if name is None else f"{said} called {name}")
    return f"the file has no activations; its head is {', '.join(layers)}, and the classifier"


def _beyond(config: DenseNetConfig, layout: Layout, unsaid: frozenset[str]) -> list[tuple[str, Any]]:
    """Config fields at a value the layout's own networks cannot have, or that nothing could say (``unsaid``)."""
    plain = {**asdict(DenseNetConfig()), **layout.network}
    values = asdict(config)
    if "stem_stride" in unsaid and (usual := usual_stem(config.stem, config.axes(config.first_kernel))):
        plain, values = {**plain, **usual}, {**values, "stem_stride": config.first_stride}
    result = []
    for name, value in values.items():
        allowed = None if name in unsaid else layout.expresses.get(name)
        if name in IMPLICIT or name == "eps" or value == plain[name]:
            continue
        if allowed is None or (allowed and value not in allowed):
            result.append((name, value))
    return result


def _split(leaf: Leaf, tensor: Tensor) -> list[Tensor]:
    """The arrays a target stores one library tensor as; each is made when it is read."""
    plain, write = Leaf(leaf.names), leaf.write
    if write is plain.write:
        return [tensor]
    assert write is not None
    like = write(np.broadcast_to(np.ones((), tensor.dtype), tensor.shape))

    def part(i: int) -> Callable[[], Array]:
        return lambda: write(tensor.read())[i]

    return [Tensor(array.shape, array.dtype, part(i)) for i, array in enumerate(like)]


def _with_eps(tensors: dict[str, Tensor], norm: str, have: float, want: float) -> None:
    """Give a norm another eps."""
    weight, variance = f"{norm}.weight", f"{norm}.running_var"
    tensors[weight], tensors[variance] = with_eps(norm, tensors[weight], tensors[variance], have, want)
