"""The oracle's intermediate results, one at a time, under the names they have in our ONNX graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from converter.core.checkpoint import Array
from converter.core.model import Model
from converter.engines.torch import torch_module
from densenet.config import DenseNetConfig
from densenet.topology import FEATURES, INPUT, LOGITS, steps

if TYPE_CHECKING:
    import torch

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
    import torch  # noqa: PLC0415 (slow to import)

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
    pads = config.padding == "same"
    takes = {"classifier": FEATURES}  # an Identity where there is none
    for step in steps(config):
        if step.op == "linear":
            takes["classifier" if step.name == LOGITS else step.name] = step.inputs[0]
        elif step.op in ("conv", "norm", "max_pool", "max_blur", "avg_pool", "blur"):
            first = step.is_stem_pool or step.inputs[0] == INPUT
            takes[step.name] = "" if pads and first else step.inputs[0]
    return takes
