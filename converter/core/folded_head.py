"""A model whose head has its norms and neighbouring linear layers folded: the same in real arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.model import Model
from densenet.config import DenseNetConfig
from densenet.head import Folded, HeadLayer, folded
from densenet.module import NORM_TENSORS

Affine = tuple[Array, Array]
"""What a layer multiplies by, a matrix (out, in) or a number per channel, and what it adds; float64."""


def folded_config(config: DenseNetConfig) -> DenseNetConfig:
    """The config of such a model."""
    return replace(config, head=tuple(map(str, _folded(config).layers)))


def _folded(config: DenseNetConfig) -> Folded:
    return folded(config.head_layers, config.classifier_features, config.num_classes)


def folded_head(model: Model) -> Model:
    """The model with its head folded, in float64; as it is where there is nothing to fold."""
    config = folded_config(model.config)
    if config.head == model.config.head:
        return model
    chain = list(_computed(model.config, model.tensors))
    for at in _folded(model.config).places:
        one, other = chain[at : at + 2]
        assert one is not None
        assert other is not None
        chain[at : at + 2] = [product(one, other)]
    tensors = {name: t for name, t in model.tensors.items() if not name.startswith(("head.", "classifier."))}
    for (name, layer), affine in zip(_named(config), chain):
        if layer.kind == "linear" and affine is not None:
            tensors |= {f"{name}.weight": Tensor.of(affine[0])}
            tensors |= {f"{name}.bias": Tensor.of(affine[1])} if layer.bias else {}
        elif affine is not None:  # a norm that could not be folded, as multiplication and addition
            variance = np.full(len(affine[0]), 1 - config.eps)
            values = (affine[0], affine[1], np.zeros(len(affine[0])), variance)
            tensors |= {f"{name}.{leaf}": Tensor.of(value) for leaf, value in zip(NORM_TENSORS, values)}
    return replace(model, config=config, tensors=tensors)


def _named(config: DenseNetConfig) -> list[tuple[str, HeadLayer]]:
    """The layers of a head and their names, the classifier last."""
    named = [(f"head.{i}.{layer.kind}", layer) for i, layer in enumerate(config.head_layers)]
    return [*named, ("classifier", HeadLayer("linear", config.num_classes))]


def product(first: Affine, second: Affine) -> Affine:
    """One layer behind another as one."""
    (scale, shift), (matrix, bias) = first, second
    if matrix.ndim == 1:
        return (matrix[:, None] * scale if scale.ndim == 2 else matrix * scale), matrix * shift + bias
    return (matrix @ scale if scale.ndim == 2 else matrix * scale), matrix @ shift + bias


def _computed(config: DenseNetConfig, tensors: Mapping[str, Tensor]) -> Iterator[Affine | None]:
    """What the layers of a head compute; nothing of activations."""

    def read(name: str) -> Array:
        return tensors[name].read().astype(np.float64)

    for name, layer in _named(config):
        if layer.kind == "linear":
            weight = read(f"{name}.weight")
            yield weight, read(f"{name}.bias") if layer.bias else np.zeros(len(weight))
        elif layer.kind == "norm":
            gamma, beta, mean, variance = (read(f"{name}.{leaf}") for leaf in NORM_TENSORS)
            scale = gamma / np.sqrt(variance + config.eps)
            yield scale, beta - mean * scale
        else:
            yield None
