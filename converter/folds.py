"""Differences that can be folded exactly into tensors a DenseNet has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converter.checkpoint import Tensor
from densenet.config import DenseNetConfig


def fold_conv_biases(config: DenseNetConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Move the biases of convolutions into the running means of the norms that see them.

    Every convolution's output reaches norms only (directly, or through concatenation and
    pooling, which keep a constant what it is), and a norm subtracts its mean:
    ``norm(x + b)`` with mean m is ``norm(x)`` with mean m - b.  Computed in float64.
    """
    biases = {
        n.removesuffix(".bias"): t for n, t in tensors.items() if n.endswith(".bias") and "conv" in n.split(".")[-2]
    }
    result = {name: tensor for name, tensor in tensors.items() if name.removesuffix(".bias") not in biases}
    if not biases:
        return result

    def bias(name: str, width: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return biases[name].read().astype(np.float64) if name in biases else np.zeros(width)

    carried = np.zeros(0)  # what the current feature maps have too much
    for module in config.modules():
        owner, _, leaf = module.name.rpartition(".")
        if module.kind == "conv":
            new = bias(module.name, module.shape[0])
            inner = config.bottleneck and leaf == "conv1" and owner.startswith("blocks")
            if inner:
                pending = new
            elif owner.startswith("blocks"):
                carried = np.concatenate([carried, new])
            else:
                carried = new
        elif module.kind == "norm":
            name = f"{module.name}.running_mean"
            inner = leaf == "norm2" and owner.startswith("blocks")
            mean = result[name]
            shift = pending if inner else carried
            if shift.any():
                result[name] = Tensor.of((mean.read().astype(np.float64) - shift).astype(mean.dtype))
            if owner == "stem":
                carried = np.zeros(module.shape[0])
    return result
