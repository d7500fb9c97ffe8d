"""Convolutions in float64 with fewer numbers to move than PyTorch's own.

That writes every window out as a column, nine times the maps of a 3x3 kernel, and multiplies it
(aten/src/ATen/native/ConvolutionMM2d.cpp).  Here each position of a kernel is multiplied with the padded maps, all of
them in one product, and what it makes is moved to where it belongs and added up: the same sums in less time and memory
where there are fewer new maps than old ones, as in a DenseNet's layers (kn2row, arXiv 1709.03395).
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)


WORTH_IT = 1 << 15
"""Numbers in the old maps from which moving costs less than writing out; measured on 2 cores."""


class AsProducts(TorchFunctionMode):
    """While it is on, convolutions are computed so where that is worth it."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Any function of PyTorch's."""
        if func in CONVOLUTIONS and len(args) == len(ARGUMENTS) and suits(*args):
            x, weight, bias = args[:3]
            made = torch.stack([moved(maps, weight) for maps in x])
            return made if bias is None else made.add_(bias.reshape(-1, *[1] * (weight.ndim - 2)))
        return func(*args, **(kwargs or {}))


ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def suits(x: torch.Tensor, weight: torch.Tensor, _: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> bool:
    """Whether a convolution makes at most half as many maps of the same size, from enough numbers."""
    kernel, same = weight.shape[2:], [n // 2 for n in weight.shape[2:]]
    plain = groups == 1 and {*stride, *dilation} == {1} and [*padding] == same and all(n % 2 for n in kernel)
    return plain and prod(kernel) > 1 and 2 * len(weight) <= x.shape[1] and prod(x.shape[1:]) >= WORTH_IT


def moved(maps: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The convolution of maps (C, *space) with a weight (K, C, *kernel): new ones (K, *space)."""
    kernel, space = weight.shape[2:], maps.shape[1:]
    padded = F.pad(maps, [n // 2 for n in reversed(kernel) for _ in (0, 1)])
    steps = padded.stride()[1:]
    positions = weight.permute(*range(2, weight.ndim), 0, 1).reshape(-1, len(maps))
    made = torch.mm(positions, padded.reshape(len(maps), -1)).view(prod(kernel), len(weight), -1)
    length = sum((n - 1) * step for n, step in zip(space, steps)) + 1  # from the first place to the last
    total = made[0, :, :length]
    for part, at in zip(made[1:], list(product(*map(range, kernel)))[1:]):
        start = sum(i * step for i, step in zip(at, steps))
        total += part[:, start : start + length]
    return total.as_strided((len(weight), *space), (total.stride(0), *steps))
