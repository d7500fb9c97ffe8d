"""Layers, blocks and whole networks of one's own, as people write them over torchvision's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet as TorchvisionDenseNet
from torchvision.models.densenet import _DenseBlock, _DenseLayer

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

    def forward(self, input: list[Tensor]) -> Tensor:
        """Features so far to new ones."""
        x = torch.cat(input, 1)
        return 0.5 * self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(x))))))


class LateNormLayer(_DenseLayer):
    """Convolution, ReLU, norm: the other order in its second half."""

    def forward(self, input: list[Tensor]) -> Tensor:
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
