"""Networks saved as PyTorch's own graphs, and whether what is read computes the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from converter import load
from converter.core.model import Model
from converter.exporters.onnx import to_onnx
from helpers.surgery import network
from helpers.torchscript import torch
from helpers.variants import run

IMAGES = torch.from_numpy(np.random.default_rng(3).uniform(size=(2, 3, 64, 64)).astype(np.float32))


def exported(module: Any, x: Any, path: Path) -> None:
    torch.export.save(torch.export.export(module, (x,)), str(path))


def decomposed(module: Any, x: Any, path: Path) -> None:
    torch.export.save(torch.export.export(module, (x,)).run_decompositions(), str(path))


def scripted(module: Any, x: Any, path: Path) -> None:
    torch.jit.script(module).save(str(path))


def traced(module: Any, x: Any, path: Path) -> None:
    torch.jit.trace(module, x, check_trace=False, strict=False).save(str(path))


def frozen(module: Any, x: Any, path: Path) -> None:
    torch.jit.freeze(torch.jit.script(module)).save(str(path))


def graph_module(module: Any, x: Any, path: Path) -> None:
    torch.save(torch.fx.symbolic_trace(module), path)


Saver = Callable[[Any, Any, Path], None]
SAVERS = (exported, scripted, traced, graph_module)


def small(**changes: Any) -> Any:
    return network(block_config=(1, 1), growth_rate=2, num_init_features=4, **changes)


def read(path: Path, module: Any, x: Any = IMAGES, images: Any = None) -> Model:
    """What is read computes what the module does; ``images`` are prepared ones, where those differ."""
    found = load(path)
    given = x if images is None else images
    with torch.no_grad():
        wanted = module(x)
    wanted = (wanted[0] if isinstance(wanted, tuple) else wanted).numpy()
    (have,) = run(to_onnx(found), given.float().numpy())
    np.testing.assert_allclose(have, wanted, atol=1e-4 * np.abs(wanted).max())
    return found
