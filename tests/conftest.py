"""What is expensive to make and used by many."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from converter import load
from converter.core.model import Images, Model
from converter.demo.demo import CHECKPOINT, IMAGES, record
from converter.use.calibrate import images_of
from densenet.preprocess import Preprocess


@pytest.fixture(scope="session")
def trained() -> Model:
    return load(CHECKPOINT).described(Images(Preprocess.from_dict(record()["preprocessing"])))


@pytest.fixture(scope="session")
def trained_images(trained: Model) -> list[np.ndarray]:
    return images_of(trained, IMAGES)


@pytest.fixture(scope="session")
def state() -> Any:
    """The state dict of a small network of torchvision's, with statistics unlike fresh ones."""
    torchvision = pytest.importorskip("torchvision")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torchvision.models.DenseNet(4, (2, 1), 8, num_classes=3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return OrderedDict(model.state_dict())
