"""torchvision networks that people have changed, and whether what is read computes the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter import load
from converter.core.model import Model
from converter.exporters.onnx import to_onnx
from helpers.torch_files import save
from helpers.variants import run


def network(**changes: Any) -> Any:
    """A small network of torchvision's with statistics unlike fresh ones."""
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    given = {"growth_rate": 4, "block_config": (2, 1), "num_init_features": 8, "bn_size": 2, "num_classes": 3}
    return settled(models.DenseNet(**{**given, **changes}))


def settled(model: Any) -> Any:
    """The same module in evaluation, its norms with statistics unlike fresh ones."""
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model.eval()


def put(model: Any, name: str, module: Any) -> Any:
    """The model with another module in one place."""
    above, _, last = name.rpartition(".")
    setattr(model.get_submodule(above), last, module)
    return model.eval()


def computes_as(path: Path, model: Any, **reading: Any) -> Model:
    """What is read computes what the module computes; returns it."""
    import torch

    found = load(path, **reading)
    size = {1: (80,), 2: (72, 72), 3: (40, 40, 40)}[found.config.spatial_dims]
    x = np.random.default_rng(0).normal(size=(2, found.config.in_channels, *size)).astype(np.float32)
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    (have,) = run(to_onnx(found), x)
    np.testing.assert_allclose(have, wanted, atol=1e-4 * np.abs(wanted).max())
    return found


def saved_whole(model: Any, path: Path) -> Model:
    """A module saved whole is read and computes the same."""
    return computes_as(save(path, model), model)
