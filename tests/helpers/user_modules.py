"""Modules as people write them, in a module that pickles can name."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn


class Normalizer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.2]).view(1, 3, 1, 1))

    def forward(self, x: Any) -> Any:
        return (x - self.mean) / self.std


class Scaled(nn.Module):
    def forward(self, x: Any) -> Any:
        return x / 255


class Around(nn.Module):
    def __init__(self, net: Any, **more: Any) -> None:
        super().__init__()
        self.net = net
        for name, module in more.items():
            setattr(self, name, module)

    def forward(self, x: Any) -> Any:
        return self.net(x)


class Scale(nn.Module):
    def forward(self, x: Any) -> Any:
        return x * 2


class AdaptiveConcatPool2d(nn.Module):
    """fastai's, maximum first."""

    def __init__(self) -> None:
        super().__init__()
        self.ap, self.mp = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)

    def forward(self, x: Any) -> Any:
        return torch.cat([self.mp(x), self.ap(x)], 1)


class Turned(nn.Module):
    """A block of torchvision's layers that concatenates what is new first."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        for name, layer in block.items():
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        for layer in self.children():
            x = torch.cat([layer([x]), x], 1)
        return x


def hook(_: Any, __: Any, output: Any) -> Any:
    return output


class Framed(nn.Module):
    """torchvision's network with a forward of its own."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.features, self.classifier = net.features, net.classifier

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.relu(self.features(x)).mean((2, 3)))
