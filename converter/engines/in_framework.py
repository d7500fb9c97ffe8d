"""A model as the network of another framework, with its weights in it, and tried against ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import Unavailable, VerificationFailed
from converter.core.files import scratch
from converter.core.model import Model
from converter.engines.networks import keras_network, timm_network, torchvision_network
from converter.engines.torch import any_module, has_torch, torch_engine
from converter.layouts import layout_named
from converter.layouts.library import LIBRARY
from converter.writing.convert import write
from converter.writing.in_layout import Arranged, in_layout
from densenet.module import COUNTER

if TYPE_CHECKING:
    import torch

    TorchTensor: TypeAlias = torch.Tensor
    TorchModule: TypeAlias = torch.nn.Module

SIZE = 64
"""Height and width of the image that both networks are tried on: the last maps are of two by two."""
CLOSE = 1e-4
"""How far the two may be from each other, of the largest logit: float32 in another order."""
SEED = 0


def torch_state(model: Model, layout: str) -> dict[str, torch.Tensor]:
    """The weights as PyTorch's tensors under a layout's names, in copies of their own.

    Raises:
        CannotExpress: the layout cannot say what this network does.
        ConverterError: there is no such layout.
        Unavailable: PyTorch is not installed.
    """
    wanted = layout_named(layout)
    # Whoever has our own names has the config beside them; others' names have to say it all.
    arranged = in_layout(model, wanted, metadata=wanted is LIBRARY)
    return {name: torch_tensor(tensor) for name, tensor in arranged.tensors.items()}


def torch_tensor(tensor: Tensor) -> torch.Tensor:
    """An array as a tensor of PyTorch's, copied; also of the types that NumPy lacks.

    Raises:
        Unavailable: PyTorch is not installed.
    """
    if not has_torch():
        raise Unavailable("PyTorch is not installed; pip install 'densenet-converter[torch]'")
    import torch  # noqa: PLC0415 (slow to import)

    array = np.array(tensor.read(), order="C")
    if array.dtype.kind != "V":
        return torch.from_numpy(array)
    bits = array.view(f"i{array.dtype.itemsize}" if array.dtype.itemsize > 1 else "u1")
    found: torch.Tensor = torch.from_numpy(bits).view(getattr(torch, array.dtype.name))
    return found


def to_torchvision(model: Model) -> torch.nn.Module:
    """``torchvision.models.DenseNet`` in evaluation mode.

    Raises:
        CannotExpress, Unavailable: torchvision has no such network, or is not installed.
        VerificationFailed: it computes something else than our own network.
    """
    network: torch.nn.Module = _in_torch(model, "torchvision", torchvision_network)
    return network


def to_timm(model: Model) -> torch.nn.Module:
    """timm's ``DenseNet`` in evaluation mode; errors as for :func:`to_torchvision`."""
    network: torch.nn.Module = _in_torch(model, "timm", timm_network)
    return network


def to_keras(model: Model) -> Any:
    """``keras.applications``' network, which gives logits of images (N, H, W, C); errors as there."""
    arranged = _arranged(model, "keras")
    network = keras_network(arranged.model.config)
    import keras  # noqa: PLC0415 (loaded by now)

    with scratch() as folder:  # Keras takes weights by their layers' names from files alone
        write(folder / "model.h5", arranged)
        network.load_weights(folder / "model.h5")

    def run(x: Array) -> Array:
        output = network(np.moveaxis(x, 1, -1), training=False)
        return np.asarray(keras.ops.convert_to_numpy(output), np.float32)

    _check(model, "keras", run)
    return network


def _in_torch(model: Model, framework: str, build: Callable[..., Any]) -> Any:
    arranged = _arranged(model, framework)
    network = build(arranged.model.config)
    state = {name: torch_tensor(tensor) for name, tensor in arranged.tensors.items()}
    state = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    if wrong := [*unexpected, *(name for name in missing if not name.endswith(COUNTER))]:
        raise VerificationFailed(f"{framework} calls its tensors otherwise: {', '.join(wrong[:3])}")
    _check(model, framework, torch_engine(network.eval()))
    return network


def _arranged(model: Model, layout: str) -> Arranged:
    """The weights as the framework's own code has them, without anything beside them."""
    return in_layout(model, layout_named(layout), metadata=False)


def _check(model: Model, framework: str, run: Callable[[Array], Array]) -> None:
    """Compare with our own network, if PyTorch is installed to run it.

    Raises:
        VerificationFailed: it computes something else.
    """
    if not has_torch():
        return
    config = model.config
    x = np.random.default_rng(SEED).normal(size=(1, config.in_channels, SIZE, SIZE)).astype(np.float32)
    ours, theirs = torch_engine(any_module(model))(x), run(x)
    largest = float(np.abs(ours).max()) or 1.0
    if theirs.shape != ours.shape or not float(np.abs(theirs - ours).max()) <= CLOSE * largest:
        raise VerificationFailed(f"{framework}'s network computes something else than ours on the same image")
