"""Networks with several heads, as people train them for several tasks."""

import torch
import torchvision
from torch import nn

F = 10
"""Features of the network."""


def features() -> nn.Module:
    """torchvision's, with norms that do something."""
    found: nn.Module = torchvision.models.DenseNet(4, (2, 1, 2, 1), 6, bn_size=2).features
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return found


class Tasks(nn.Module):
    """Two heads, of which one has layers of its own."""

    def __init__(self, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.backbone = features()
        age = nn.Sequential(nn.Linear(F, 9), activation(), nn.Linear(9, 4))
        self.heads = nn.ModuleDict({"age": age, "sex": nn.Linear(F, 2)})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits by head."""
        pooled = torch.relu(self.backbone(x)).mean((2, 3))
        return {name: head(pooled) for name, head in self.heads.items()}


class Shared(nn.Module):
    """Heads that share a layer behind the features."""

    def __init__(self) -> None:
        super().__init__()
        self.features = features()
        self.shared, self.age, self.sex = nn.Linear(F, 9), nn.Linear(9, 4), nn.Linear(9, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits by head."""
        pooled = torch.relu(self.shared(torch.relu(self.features(x)).mean((2, 3))))
        return {"age": self.age(pooled), "sex": self.sex(pooled)}


class Classifiers(nn.Module):
    """Two linear heads called alike, one without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.features = features()
        self.classifier_age, self.classifier_sex = nn.Linear(F, 4), nn.Linear(F, 2, bias=False)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits by head."""
        pooled = torch.relu(self.features(x)).mean((2, 3))
        return {"classifier_age": self.classifier_age(pooled), "classifier_sex": self.classifier_sex(pooled)}
