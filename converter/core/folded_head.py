"""A model whose head has its norms and neighbouring linear layers folded: the same in real arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.model import Model
from densenet.config import DenseNetConfig
from densenet.head import HeadLayer, folded, folds
from densenet.module import NORM_TENSORS

Affine = tuple[Array, Array]
"""What a layer multiplies by, a matrix (out, in) or a number per channel, and what it adds; float64."""


def folded_config(config: DenseNetConfig) -> DenseNetConfig:
    """The config of such a model."""
    layers = folded(config.head_layers, config.classifier_features, config.num_classes) if config.head else ()
    return replace(config, head=tuple(map(str, layers)))


def folded_head(model: Model) -> Model:
    """The model with its head folded, in float64; as it is where there is nothing to fold."""
    config = folded_config(model.config)
    if config.head == model.config.head:
        return model
    tensors = {name: t for name, t in model.tensors.items() if not name.startswith(("head.", "classifier."))}
    for i, (layer, affine) in enumerate(_layers(model)):
        last = i == len(config.head)
        name = "classifier" if last else f"head.{i}.{layer.kind}"
        if layer.kind == "linear" and affine is not None:
            tensors |= {f"{name}.weight": Tensor.of(affine[0])}
            tensors |= {f"{name}.bias": Tensor.of(affine[1])} if layer.bias else {}
        elif affine is not None:  # a norm that could not be folded, as multiplication and addition
            variance = np.full(len(affine[0]), 1 - config.eps)
            values = (affine[0], affine[1], np.zeros(len(affine[0])), variance)
            tensors |= {f"{name}.{leaf}": Tensor.of(value) for leaf, value in zip(NORM_TENSORS, values)}
    return replace(model, config=config, tensors=tensors)


def _layers(model: Model) -> list[tuple[HeadLayer, Affine | None]]:
    """The folded layers, the classifier last, and what they compute; nothing of activations."""
    chain = list(_unfolded(model.config, model.tensors))
    at = 0
    while at + 1 < len(chain):
        (one, first), (other, second) = chain[at : at + 2]
        widths = [model.config.classifier_features, *(layer.width for layer, _ in chain[:at] if layer.width)]
        if first is None or second is None or not folds(one, other, widths[-1]):
            at += 1
            continue
        layer = HeadLayer("linear", other.width or one.width)
        chain[at : at + 2] = [(layer, product(first, second))]
        at = max(at - 1, 0)
    return chain


def product(first: Affine, second: Affine) -> Affine:
    """One layer behind another as one."""
    (scale, shift), (matrix, bias) = first, second
    if matrix.ndim == 1:
        return (matrix[:, None] * scale if scale.ndim == 2 else matrix * scale), matrix * shift + bias
    return (matrix @ scale if scale.ndim == 2 else matrix * scale), matrix @ shift + bias


def _unfolded(config: DenseNetConfig, tensors: Mapping[str, Tensor]) -> Iterator[tuple[HeadLayer, Affine | None]]:
    def read(name: str) -> Array:
        return tensors[name].read().astype(np.float64)

    for i, layer in enumerate((*config.head_layers, HeadLayer("linear", config.num_classes))):
        name = "classifier" if i == len(config.head) else f"head.{i}.{layer.kind}"
        if layer.kind == "linear":
            weight = read(f"{name}.weight")
            yield layer, (weight, read(f"{name}.bias") if layer.bias else np.zeros(len(weight)))
        elif layer.kind == "norm":
            gamma, beta, mean, variance = (read(f"{name}.{leaf}") for leaf in NORM_TENSORS)
            scale = gamma / np.sqrt(variance + config.eps)
            yield layer, (scale, beta - mean * scale)
        else:
            yield layer, None
