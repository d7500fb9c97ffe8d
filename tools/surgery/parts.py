"""Modules of the kinds that people write around and into a DenseNet: classes of their own, as in any repository.

They stand at module level, so that a whole network can be pickled, and are written so that
``torch.jit.script`` takes them where it can.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet as TorchvisionDenseNet
from torchvision.models.densenet import _DenseBlock, _DenseLayer

# -- one input, one output ---------------------------------------------------------------------


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

    def forward(self, x: Tensor):  # noqa: ANN201 (a tensor or two)
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


# -- layers and blocks of one's own ------------------------------------------------------------


class ReversedBlock(_DenseBlock):
    """New features first."""

    def forward(self, init_features: Tensor) -> Tensor:
        """(N, C, H, W)."""
        x = init_features
        for layer in self.values():
            x = torch.cat([layer([x]), x], 1)
        return x


class HalvedLayer(_DenseLayer):
    """Its new features weigh half."""

    def forward(self, input: list[Tensor]) -> Tensor:  # noqa: A002 (torchvision's name)
        """Features so far to new ones."""
        x = torch.cat(input, 1)
        return 0.5 * self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(x))))))


class LateNormLayer(_DenseLayer):
    """Convolution, ReLU, norm: the other order in its second half."""

    def forward(self, input: list[Tensor]) -> Tensor:  # noqa: A002 (torchvision's name)
        """Features so far to new ones."""
        x = torch.cat(input, 1)
        return self.conv2(self.norm2(self.relu2(self.conv1(self.relu1(self.norm1(x))))))


def double(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    """A forward hook that changes what a module gives."""
    return output * 2


# -- networks of one's own ---------------------------------------------------------------------


class Framed(TorchvisionDenseNet):
    """torchvision's DenseNet with a forward of its own: what comes between features and classifier is said by flags."""

    relu = True
    pool = "avg"

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to logits."""
        out = self.features(x)
        if self.relu:
            out = F.relu(out)
        out = F.adaptive_max_pool2d(out, 1) if self.pool == "max" else F.adaptive_avg_pool2d(out, 1)
        return self.classifier(torch.flatten(out, 1))


class NoFinalReLU(Framed):
    """Without the last ReLU."""

    relu = False


class GlobalMax(Framed):
    """With a global maximum."""

    pool = "max"


class Inside(TorchvisionDenseNet):
    """Normalises and applies a softmax in its own forward."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to probabilities."""
        out = self.features((x - 0.45) / 0.25)
        out = F.adaptive_avg_pool2d(F.relu(out), 1)
        return torch.softmax(self.classifier(torch.flatten(out, 1)), 1)


class Classifier(nn.Module):
    """A backbone under another name and a head: the most frequent network of one's own."""

    def __init__(self, backbone: nn.Module, head: nn.Module, relu: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = head
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to logits."""
        out = self.backbone(x)
        if self.relu:
            out = F.relu(out)
        return self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))


class Probabilities(nn.Module):
    """A network and a function behind it that no module shows."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Images to probabilities."""
        return torch.softmax(self.net(x), 1)


class FlipAveraged(nn.Module):
    """Test-time augmentation: an image and its mirror image."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        return (self.net(x) + self.net(torch.flip(x, [3]))) / 2


class TwoScales(nn.Module):
    """Test-time augmentation: an image and a smaller one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        return (self.net(x) + self.net(F.avg_pool2d(x, 2))) / 2


class Ensemble(nn.Module):
    """The mean of several networks."""

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        return torch.stack([net(x) for net in self.nets]).mean(0)


class WithFeatures(nn.Module):
    """Logits and the last feature maps."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images to both."""
        return self.net(x), self.net.features(x)


class Student(nn.Module):
    """A network that is trained, and another beside it that its forward does not run."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        return self.student(x)


class Trainer(nn.Module):
    """A network with a loss and its weights beside it, as LightningModules have."""

    def __init__(self, net: nn.Module, classes: int) -> None:
        super().__init__()
        self.model = net
        self.criterion = nn.CrossEntropyLoss(weight=torch.rand(classes))
        self.register_buffer("class_weights", torch.rand(classes))

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        return self.model(x)
