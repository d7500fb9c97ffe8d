"""A small real DenseNet of torchvision, timm or MONAI, where surgery finds its parts, and weights that make all of them matter."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

SIZES = ((64, 64), (70, 77), (66, 90), (72, 58))
"""Heights and widths: even and odd, so that padding and rounding show."""


@dataclass
class Patient:
    """A network on the table.

    Attributes:
        framework: whose class it is.
        net: the DenseNet itself.
        module: what people call: the network, or what is around it.
        rng: the surgeries' choices.
        channels, size: of the images.
        classes: of the classifier.
        width: feature maps after the last block.
        channels_last: whether it takes (N, H, W, C).
        trees: what is made of its state dict before it is saved, in order.
        exact: whether its own logits are computed in double precision after rounding (half-precision weights).
    """

    framework: str
    net: Any
    module: Any
    rng: random.Random
    size: tuple[int, int]
    classes: int
    width: int
    channels: int = 3
    channels_last: bool = False
    trees: list[Callable[[dict[str, Any]], Any]] = field(default_factory=list)
    exact: bool = False

    @property
    def features(self) -> Any:
        """Stem, blocks, transitions, last norm."""
        return self.net.features

    @property
    def head(self) -> Any:
        """What takes the pooled features."""
        return self.net.class_layers.out if self.framework == "monai" else self.net.classifier

    @head.setter
    def head(self, module: nn.Module) -> None:
        if self.framework == "monai":
            self.net.class_layers.out = module
        else:
            self.net.classifier = module

    def blocks(self) -> list[Any]:
        """Dense blocks."""
        return [child for name, child in self.features.named_children() if name.startswith("denseblock")]

    def transitions(self) -> list[Any]:
        """Transitions."""
        return [child for name, child in self.features.named_children() if name.startswith("transition")]

    def layers(self) -> list[Any]:
        """Dense layers: what has norm1 and conv1."""
        return [getattr(layer, "layers", layer) for block in self.blocks() for layer in block.children()]

    def norms(self) -> list[nn.Module]:
        """Batch norms of the network."""
        return [module for module in self.net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    def replace(self, wanted: Callable[[nn.Module], bool], made: Callable[[Any], nn.Module]) -> None:
        """Put another module in the place of each that is wanted.

        Raises:
            LookupError: there is none.
        """
        places = [(p, n, m) for p, n, m in self.places() if wanted(m)]
        if not places:
            raise LookupError("no such module")
        for parent, name, module in places:
            setattr(parent, name, made(module))

    def places(self) -> Iterator[tuple[nn.Module, str, nn.Module]]:
        """Every module of the network with its parent and its name there."""
        for parent in list(self.net.modules()):
            for name, module in list(parent.named_children()):
                yield parent, name, module

    def wrap(self, made: Callable[[Any], nn.Module]) -> None:
        """Put a module around everything."""
        self.module = made(self.module)

    def images(self, count: int, seed: int) -> torch.Tensor:
        """Random images in the form the module takes, some values outside [0, 1].  float32, (N, C, H, W) or channels last."""
        noise = torch.Generator().manual_seed(seed)
        coarse = torch.randn(count, self.channels, 9, 9, generator=noise)
        images = 0.5 + 0.6 * nn.functional.interpolate(coarse, self.size, mode="bicubic")
        images = images + 0.3 * torch.randn(images.shape, generator=noise)
        return images.permute(0, 2, 3, 1).contiguous() if self.channels_last else images


def admit(framework: str, rng: random.Random) -> Patient:
    """A small DenseNet of a framework, three or four blocks."""
    growth, blocks = rng.choice((4, 6, 8)), rng.choice(((2, 1, 2), (1, 2, 2), (2, 1, 2, 1), (1, 2, 1, 2)))
    classes, bottleneck = rng.choice((4, 5, 7)), rng.choice((2, 4))
    torch.manual_seed(rng.randrange(1 << 30))
    init = 2 * growth if framework == "timm" else rng.choice((8, 10, 12))
    if framework == "torchvision":
        from torchvision.models.densenet import DenseNet

        net: nn.Module = DenseNet(growth, blocks, init, bn_size=bottleneck, num_classes=classes)
    elif framework == "timm":
        from timm.models.densenet import DenseNet as TimmDenseNet

        net = TimmDenseNet(growth, blocks, num_classes=classes, bn_size=bottleneck)
    else:
        from monai.networks.nets.densenet import DenseNet as MonaiDenseNet

        net = MonaiDenseNet(2, 3, classes, init, growth, blocks, bn_size=bottleneck)
    return Patient(framework, net, net, rng, rng.choice(SIZES), classes, net.features.norm5.num_features)


def enliven(patient: Patient) -> None:
    """Weights under which every fact matters: statistics as images give them, then changed; scales and biases at random."""
    torch.manual_seed(patient.rng.randrange(1 << 30))
    norms = [m for m in patient.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = {norm: norm.momentum for norm in norms}
    with torch.no_grad():
        for module in patient.module.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm) and module.weight is not None:
                module.weight.uniform_(0.5, 1.6)
                module.bias.normal_(0.1, 0.3)
            elif isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                module.bias.normal_(0, 0.3)
        for norm in norms:
            norm.momentum = None
        patient.module.train()
        patient.module(patient.images(6, 1))
        patient.module.eval()
        for norm in norms:
            norm.momentum = kept[norm]
            if norm.running_var is not None:
                norm.running_mean += 0.2 * torch.randn_like(norm.running_mean) * norm.running_var.sqrt()
                norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.5, 1.5)
    for parameter in patient.module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())


def answer(patient: Patient) -> list[torch.Tensor]:
    """The original's own outputs on two images, float64 arrays' worth of float32 computation."""
    images = patient.images(2, 2)
    module = patient.module
    with torch.no_grad():
        if patient.exact:
            import copy

            module = copy.deepcopy(module).float()
        outputs = module(images)
    if isinstance(outputs, dict):
        outputs = tuple(outputs.values())
    return [value.detach() for value in (outputs if isinstance(outputs, tuple | list) else (outputs,))]
