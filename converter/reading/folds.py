"""Differences that can be folded exactly into tensors a DenseNet has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.core.checkpoint import Tensor
from densenet.config import DenseNetConfig
from densenet.names import parse


def unfolded_norm(module: str, bias: Tensor, eps: float) -> dict[str, Tensor]:
    """The norm that was folded into a convolution: with mean 0 and variance 1 - eps it adds the convolution's bias."""
    constants = {"weight": 1.0, "running_mean": 0.0, "running_var": 1.0 - eps}
    tensors = {leaf: Tensor.of(np.full(bias.shape, value, bias.dtype)) for leaf, value in constants.items()}
    return {f"{module}.{leaf}": tensor for leaf, tensor in {**tensors, "bias": bias}.items()}


def fold_conv_biases(config: DenseNetConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Move the biases of convolutions into the running means of the norms that see them.

    Every convolution's output reaches norms only (directly, or through concatenation and
    pooling, which keep a constant what it is), and a norm subtracts its mean:
    ``norm(x + b)`` with mean m is ``norm(x)`` with mean m - b.  Computed in float64.
    """
    biases = {parse(n).module: t for n, t in tensors.items() if n.endswith(".bias") and parse(n).kind == "conv"}
    result = {name: tensor for name, tensor in tensors.items() if name.removesuffix(".bias") not in biases}
    if not biases:
        return result

    def bias(name: str, width: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return biases[name].read().astype(np.float64) if name in biases else np.zeros(width)

    carried = np.zeros(0)  # what the current feature maps have too much
    pending = carried
    for module in config.modules():
        place = module.place
        if module.kind == "conv":
            new = bias(module.name, module.shape[0])
            if place.part == "layer" and config.bottleneck and place.number == 1:
                pending = new
            else:
                carried = np.concatenate([carried, new]) if place.part == "layer" else new
        elif module.kind == "norm":
            name = f"{module.name}.running_mean"
            mean, shift = result[name], pending if place.ends_layer else carried
            if shift.any():
                result[name] = Tensor.of((mean.read().astype(np.float64) - shift).astype(mean.dtype))
            if place.part == "stem":
                carried = np.zeros(module.shape[0])
    return result
