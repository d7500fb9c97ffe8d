"""The oracle's intermediate results, one at a time, under the names they have in our ONNX graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.core.model import Model
from converter.engines.torch import torch_module
from converter.exporters.graph import FEATURES, INPUT, LOGITS
from densenet.config import DenseNetConfig

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]
Visit = Callable[[str, Array, float], None]
"""Takes a value's name, the oracle's float64 array, and the error PyTorch's float32 has there.

That error is of the one module alone, given exact inputs; relative to the largest element.
"""


def trace(model: Model, x: Array, cut: frozenset[str], visit: Visit) -> None:
    """Run a model in PyTorch float64 and show every named value as it comes into being.

    Nothing is kept here: memory is that of one forward pass in float64, of one module in
    float32, and of the weights in both.

    Args:
        model: the reference.
        x: float32 (N, C, *space).
        cut: the values at which exact inputs are at hand; between them PyTorch's float32
            goes on from its own results, as an engine does that folds norms into convolutions.
        visit: called for each value, in order of execution, ``pixel_values`` first.

    Raises:
        Unavailable: PyTorch is not installed.
    """
    double, single = torch_module(model).double(), dict(torch_module(model).named_modules())
    import torch  # noqa: PLC0415

    takes = inputs_of_modules(model.config)
    seen = {INPUT}
    rounded: tuple[str, torch.Tensor] | None = None  # a value that is not cut at, as float32 has it

    def show(name: str, value: torch.Tensor, error: float) -> None:
        if name and name not in seen:
            seen.add(name)
            visit(name, value.numpy(), error)

    def before(name: str) -> Callable[..., None]:
        # What no module makes (ReLU, concatenation, pooled features) is seen where a module takes it.
        return lambda _, inputs: show(takes[name], inputs[0], 0.0)

    def after(name: str) -> Callable[..., None]:
        value = LOGITS if name == "classifier" else name

        def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            nonlocal rounded
            start = rounded[1] if rounded is not None and rounded[0] == takes[name] else inputs[0].float()
            found = single[name](start)
            scale = float(output.abs().max())
            rounded = None if value in cut else (value, found)
            show(value, output, float((found.double() - output).abs().max()) / scale if scale else 0.0)

        return hook

    for name, module in double.named_modules():
        if name in takes:
            module.register_forward_pre_hook(before(name))
            if not isinstance(module, torch.nn.Identity):
                module.register_forward_hook(after(name))
    visit(INPUT, x.astype(np.float64), 0.0)
    with torch.inference_mode():
        double(torch.from_numpy(x).double())


def inputs_of_modules(config: DenseNetConfig) -> dict[str, str]:
    """For each module the value it takes, as our exact graph calls it; empty where the module pads that first."""
    same = config.padding == "same"
    takes: dict[str, str] = {"stem.conv": INPUT}
    x = "stem.conv"
    if config.stem == "imagenet":
        takes = {"stem.conv": "" if same else INPUT, "stem.norm": "stem.conv", "stem.pool": "" if same else "stem.relu"}
        x = "stem.pool"
    elif config.stem == "deep":
        takes = {"stem.conv0": "" if same else INPUT}
        for i in range(3):
            takes[f"stem.norm{i}"] = f"stem.conv{i}"
            takes[f"stem.conv{i + 1}" if i < 2 else "stem.pool"] = "" if same and i == 2 else f"stem.relu{i}"
        x = "stem.pool"
    for b, layers in enumerate(config.block_config):
        for i in range(layers):
            layer = f"blocks.{b}.layers.{i}"
            takes |= {f"{layer}.norm1": x, f"{layer}.conv1": f"{layer}.relu1"}
            if config.bottleneck:
                takes |= {f"{layer}.norm2": f"{layer}.conv1", f"{layer}.conv2": f"{layer}.relu2"}
            x = layer
        if b + 1 < len(config.block_config):
            name = f"transitions.{b}"
            relu = f"{name}.relu" if config.transition_relu else f"{name}.norm"
            takes |= {f"{name}.norm": x, f"{name}.conv": relu, f"{name}.pool": f"{name}.conv"}
            x = f"{name}.pool"
    return takes | {"norm": x, "classifier": FEATURES}
