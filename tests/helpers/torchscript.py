"""A network of torchvision's as TorchScript, and archives changed in places."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
densenet = pytest.importorskip("torchvision.models.densenet")
IMAGES = np.random.default_rng(3).normal(size=(2, 3, 64, 64)).astype(np.float32)


def network(eps: float = 1e-5, **changes: Any) -> Any:
    torch.manual_seed(0)
    made = densenet.DenseNet(4, (2, 1, 2), 6, bn_size=2, num_classes=5)
    for name, tensor in made.state_dict().items():
        if "running" in name or ("norm" in name and tensor.dtype == torch.float32):
            tensor.uniform_(0.5, 1.5)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = eps
        for name, value in changes.items():
            if isinstance(module, torch.nn.MaxPool2d | torch.nn.AvgPool2d):
                setattr(module, name, value)
    return made.eval()


def logits(module: Any, x: np.ndarray = IMAGES) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def scripted(module: Any) -> Any:
    return torch.jit.script(module)


def traced(module: Any) -> Any:
    return torch.jit.trace(module, torch.from_numpy(IMAGES))


def frozen_script(module: Any) -> Any:
    return torch.jit.freeze(scripted(module))


def frozen_trace(module: Any) -> Any:
    return torch.jit.freeze(traced(module))


def frozen_unfolded(module: Any) -> Any:
    return torch.jit.freeze(scripted(module), optimize_numerics=False)


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The zip with some members changed, or left out."""
    result = path.with_name(f"changed{path.suffix}")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(result, "w") as target:
        for info in source.infolist():
            data = change(info.filename, source.read(info))
            if data is not None:
                target.writestr(zipfile.ZipInfo(info.filename), data)
    return result
