"""Modules with one input and one output, as people write them around and into a DenseNet.

Classes of their own, as in any repository. They stand at module level, so that a whole network can be pickled, and are written so that
``torch.jit.script`` takes them where it can.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Normalize(nn.Module):
    """(x - mean) / std, both buffers."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Images to normalised images."""
        return (x - self.mean) / self.std


class Standardise(nn.Module):
    """The same with plain attributes, and another name."""

    def __init__(self, shift: float, scale: float) -> None:
        super().__init__()
        self.shift = shift
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Images to standardised images."""
        return (x - self.shift) / self.scale


class Scale(nn.Module):
    """x * factor + offset."""

    def __init__(self, factor: float, offset: float = 0.0) -> None:
        super().__init__()
        self.factor = factor
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * self.factor + self.offset


class FlipChannels(nn.Module):
    """RGB to BGR."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W)."""
        return torch.flip(x, [1])


class FromChannelsLast(nn.Module):
    """(N, H, W, C) to (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C)."""
        return x.permute(0, 3, 1, 2)


class GrayToRGB(nn.Module):
    """One channel three times."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W)."""
        return x.repeat(1, 3, 1, 1)


class Crop(nn.Module):
    """Without a border of three pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W)."""
        return x[:, :, 3:-3, 3:-3]


class Resize(nn.Module):
    """Bilinear, to a size or by a factor."""

    def __init__(self, size: int = 0, factor: float = 0.0) -> None:
        super().__init__()
        self.size = size
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W)."""
        if self.size:
            return F.interpolate(x, size=[self.size, self.size], mode="bilinear", align_corners=False)
        return F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False)


class Clamp(nn.Module):
    """To a range."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return torch.clamp(x, 0.0, 1.0)


class L2Normalize(nn.Module):
    """To length one."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C)."""
        return F.normalize(x, dim=1)


class ArgMax(nn.Module):
    """The best class, as a number."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) to (N, 1)."""
        return torch.argmax(x, dim=1, keepdim=True).float()


class First(nn.Module):
    """The first classes alone."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        """(N, C)."""
        return x[:, : self.count]


class GeM(nn.Module):
    """Generalised mean pooling (Radenovic et al., arXiv 1711.02512)."""

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * p)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 1, 1)."""
        return x.clamp(min=1e-6).pow(self.p).mean((2, 3), keepdim=True).pow(1.0 / self.p)


class AdaptiveConcatPool2d(nn.Module):
    """fastai's: maximum first, then average."""

    def __init__(self) -> None:
        super().__init__()
        self.ap = nn.AdaptiveAvgPool2d(1)
        self.mp = nn.AdaptiveMaxPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 2C, 1, 1)."""
        return torch.cat([self.mp(x), self.ap(x)], 1)


class MeanPool(nn.Module):
    """x.mean((2, 3))."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C)."""
        return x.mean([2, 3])


class LogSumExpPool(nn.Module):
    """A soft maximum."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C)."""
        return torch.logsumexp(x, dim=[2, 3])


class SumPool(nn.Module):
    """Average plus maximum."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 1, 1)."""
        return F.adaptive_avg_pool2d(x, 1) + F.adaptive_max_pool2d(x, 1)


class CosineLinear(nn.Module):
    """Cosines of angles between features and class vectors."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, features))

    def forward(self, x: Tensor) -> Tensor:
        """(N, F) to (N, C)."""
        return F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))


class ScaledLinear(nn.Linear):
    """A linear layer whose output a temperature divides."""

    temperature = 2.5

    def forward(self, x: Tensor) -> Tensor:
        """(N, F) to (N, C)."""
        return F.linear(x, self.weight, self.bias) / self.temperature


class TwoHeads(nn.Module):
    """Two linear layers on the same features, joined or apart."""

    def __init__(self, features: int, classes: int, joined: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, classes)
        self.fc2 = nn.Linear(features, 2)
        self.joined = joined

    def forward(self, x: Tensor):
        """(N, F) to (N, C + 2), or to both apart."""
        return torch.cat([self.fc1(x), self.fc2(x)], 1) if self.joined else (self.fc1(x), self.fc2(x))


class SqueezeExcite(nn.Module):
    """Channels weighted by what is in them (Hu et al., arXiv 1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, 4, 1)
        self.fc2 = nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W)."""
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class BlurPool(nn.Module):
    """A binomial filter with stride 2, with zeros around."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        kernel = torch.outer(row, row) / 16
        self.register_buffer("kernel", kernel[None, None].repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W)."""
        return F.conv2d(x, self.kernel, stride=2, padding=1, groups=x.shape[1])


class StandardisedConv2d(nn.Conv2d):
    """Weight standardisation (Qiao et al., arXiv 1903.10520)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W)."""
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class SameConv2d(nn.Conv2d):
    """TensorFlow's padding: more at the bottom and right."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W)."""
        return F.conv2d(F.pad(x, [2, 3, 2, 3]), self.weight, self.bias, self.stride)


class Symmetric(nn.Module):
    """A parametrisation: rows centred."""

    def forward(self, weight: Tensor) -> Tensor:
        """Any matrix."""
        return weight - weight.mean(-1, keepdim=True)
