"""PyTorch: as an engine, and in float64 as the oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import Unavailable
from converter.core.model import Model, several
from converter.engines.run import Outputs, Run
from densenet.module import COUNTER

if TYPE_CHECKING:
    import torch

    from densenet.model import DenseNet, MultiHeadDenseNet

TorchForm = Literal["eager", "compiled", "channels_last"]


def has_torch() -> bool:
    """Whether PyTorch is installed (without importing it)."""
    return find_spec("torch") is not None


def torch_module(model: Model) -> DenseNet:
    """The model as our PyTorch module, in float32 and evaluation mode.

    Raises:
        CannotExpress: it has several heads.
        Unavailable: PyTorch is not installed.
    """
    if model.config.heads:
        raise several(model.config, "this is for one head")
    module: Any = any_module(model)
    result: DenseNet = module
    return result


def any_module(model: Model) -> DenseNet | MultiHeadDenseNet:
    """The same of a model that may have several heads, whose module gives a dict of logits.

    Raises:
        Unavailable: PyTorch is not installed.
    """
    if not has_torch():
        raise Unavailable("PyTorch is not installed; pip install 'densenet-converter[torch]'")
    import torch  # noqa: PLC0415 (slow to import)

    from densenet.model import DenseNet, MultiHeadDenseNet  # noqa: PLC0415 (slow to import)

    module = (MultiHeadDenseNet if model.config.heads else DenseNet)(model.config)
    state = {}
    for name, tensor in model.tensors.items():
        dtype = np.int64 if name.endswith(COUNTER) else np.float32
        state[name] = torch.from_numpy(np.array(tensor.read(), dtype, order="C"))
    missing, unexpected = module.load_state_dict(state, strict=False, assign=True)  # without another copy
    wrong = [*unexpected, *(name for name in missing if not name.endswith(COUNTER))]
    assert not wrong, wrong  # recognition has accounted for every tensor
    return module.eval()


def named_module(model: Model, output: str) -> torch.nn.Module:
    """The module as converters take it over: it takes ``pixel_values`` and gives a dict with one name.

    Raises:
        CannotExpress: it has several heads.
        Unavailable: PyTorch is not installed.
    """
    module = torch_module(model)
    import torch  # noqa: PLC0415 (loaded by now)

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
            return {output: self.network(pixel_values)}

    return Named().eval()


def behind_pooling(module: DenseNet) -> torch.nn.Module:
    """The layers of a module that take pooled features: head and classifier."""
    import torch  # noqa: PLC0415 (slow to import)

    return torch.nn.Sequential(module.head, module.classifier)


def carried(module: DenseNet, features: Array, errors: Array) -> Array:
    """What errors of pooled features come to in logits (N, classes) if they add up as noise does.

    Args:
        module: in float64, with a classifier.
        features: as pooled, (N, F) float64.
        errors: of these, of the same shape.
    """
    import torch  # noqa: PLC0415 (slow to import)

    parts: Any = module
    squares = torch.from_numpy(errors) ** 2
    if not module.config.head:
        found: Array = (squares @ parts.classifier.weight.detach().T ** 2).sqrt().numpy()
        return found
    behind, slopes = torch.nn.Sequential(*parts.head, parts.classifier), cast(Any, torch.autograd.functional.jacobian)
    result = np.empty((len(features), module.config.num_classes))
    for i, (at, square) in enumerate(zip(torch.from_numpy(features), squares)):  # all images' derivatives are too many
        slope = slopes(behind, at[None], vectorize=True)[0, :, 0]
        result[i] = (slope**2 @ square).sqrt().numpy()
    return result


def windowed_engine(model: Model, usual: Array) -> Run:
    """The model in float64 as many authors write it: its last pooling has the size of the maps of a usual image.

    Of larger maps such a pooling takes the first window alone, where it does not fail.

    Raises:
        Unavailable: PyTorch is not installed.
    """
    module = torch_module(model)
    sizes: list[tuple[int, ...]] = []

    def cut(_: torch.nn.Module, _inputs: tuple[torch.Tensor, ...], maps: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(maps.shape[2:]))
        for axis, length in enumerate(sizes[0], 2):
            maps = maps.narrow(axis, 0, min(length, maps.shape[axis]))
        return maps

    module.norm.register_forward_hook(cut)
    run = torch_engine(module, double=True)
    run(usual)
    return run


def torch_engine(module: torch.nn.Module, *, double: bool = False, form: TorchForm = "eager") -> Run:
    """PyTorch on the CPU, in float32, or in float64 as the oracle.

    Args:
        module: moved to that precision and, for ``channels_last``, to that memory format.
        double: compute in float64.
        form: ``eager``, ``compiled`` (torch.compile) or ``channels_last``.
    """
    call = _called(module, double=double, form=form)

    def run(x: Array) -> Array:
        logits: Array = call(x).numpy()
        return logits

    return run


def torch_heads(module: torch.nn.Module, *, form: TorchForm = "eager") -> Outputs:
    """The same in float32 of a module of several heads: the logits of each."""
    call = _called(module, form=form)
    return lambda x: tuple(logits.numpy() for logits in call(x).values())


def _called(module: torch.nn.Module, *, double: bool = False, form: TorchForm = "eager") -> Callable[[Array], Any]:
    import torch  # noqa: PLC0415 (slow to import)

    dtype = torch.float64 if double else torch.float32
    module = module.to(dtype)
    last = form == "channels_last"
    if last:
        module = module.to(memory_format=torch.channels_last)
    call = torch.compile(module, dynamic=True) if form == "compiled" else module

    def run(x: Array) -> Any:
        with torch.inference_mode():
            tensor = torch.from_numpy(x).to(dtype)
            return call(tensor.contiguous(memory_format=torch.channels_last) if last else tensor)

    return run


def torch_outputs(module: DenseNet | MultiHeadDenseNet, more: Sequence[Literal["features", "maps"]] = ()) -> Outputs:
    """PyTorch in float32 on the CPU: logits and more of a module, one batch at a time whoever calls.

    The logits of several heads stand side by side.
    """
    import torch  # noqa: PLC0415 (slow to import)

    turn = Lock()

    def run(x: Array) -> tuple[Array, ...]:
        with turn, torch.inference_mode():
            maps = module.forward_features(torch.from_numpy(x))
            features = module.pool(maps)
            parts: Any = module
            if module.config.heads:
                logits = torch.cat([head(features) for head in parts.heads.children()], 1)
            else:
                logits = parts.classifier(parts.head(features))
            found = {"maps": maps, "features": features}
            return tuple(value.numpy() for value in (logits, *(found[name] for name in more)))

    return run


def gradients(module: DenseNet) -> Callable[[Array, Array], Array]:
    """How much each feature map moves a logit: its derivative, averaged over the map's positions.

    Takes the last feature maps (N, K, h, w) and of each image a class (N,); gives (N, K).
    """
    import torch  # noqa: PLC0415 (slow to import)

    turn = Lock()

    def run(maps: Array, classes: Array) -> Array:
        with turn:
            given = torch.from_numpy(maps).requires_grad_()
            logits = module.classifier(module.head(module.pool(given)))
            (slope,) = torch.autograd.grad(logits.gather(1, torch.from_numpy(classes)[:, None]).sum(), given)
            found: Array = slope.mean((2, 3)).numpy()
            return found

    return run
