"""What users load, and what they can make of it: tensors of PyTorch's, modules, networks of other frameworks."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Unpack

from converter.core import model as core
from converter.core.source import AnySource, Reading
from converter.engines import in_framework
from converter.engines.torch import any_module
from converter.reading import load as reading
from converter.reading.inspection import Inspection

if TYPE_CHECKING:
    from converter.engines.in_framework import TorchModule, TorchTensor
    from densenet.model import DenseNet, MultiHeadDenseNet


class Model(core.Model):
    """A DenseNet in the library layout, its tensors still unread.

    Attributes:
        config: the architecture.
        tensors: by library name, in network order, read on demand.
        origin: where they come from.
        dropped: source keys that are no part of the network, and why.
        notes: what had to be assumed or was changed, for people.
        images: what its images and classes are, where the source says so.

    Example:
        >>> from converter import load
        >>> model = load("digits.pth")
        >>> model
        Model(DenseNet (blocks 3-3-3, k=12), 10 classes, from 'digits.pth' (torch zip, torchvision), 1 notes)
        >>> model.state_dict("timm")["features.conv0.weight"].shape
        torch.Size([24, 3, 7, 7])
        >>> type(model.to_torchvision()).__module__
        'torchvision.models.densenet'
    """

    def state_dict(self, layout: str = "library") -> dict[str, TorchTensor]:
        """The weights as PyTorch's tensors, in copies that may be written to.

        Args:
            layout: whose names and order of axes: any of ``densenet layouts``, ``"torchvision"`` say.

        Raises:
            CannotExpress: the layout cannot say what this network does.
            Unavailable: PyTorch is not installed.
        """
        return in_framework.torch_state(self, layout)

    def module(self) -> DenseNet | MultiHeadDenseNet:
        """The library's own network as a ``torch.nn.Module`` in float32 and evaluation mode; of several heads it
        gives a dict of logits.

        Raises:
            Unavailable: PyTorch is not installed.
        """
        return any_module(self)

    def to_torchvision(self) -> TorchModule:
        """``torchvision.models.DenseNet`` with these weights in float32 and evaluation mode.

        That it gives what :meth:`module` gives is tried on an image.

        Raises:
            CannotExpress, Unavailable: torchvision has no such network, or is not installed.
            VerificationFailed: it computes something else.
        """
        return in_framework.to_torchvision(self)

    def to_timm(self) -> TorchModule:
        """timm's ``DenseNet`` with these weights; as :meth:`to_torchvision`."""
        return in_framework.to_timm(self)

    def to_keras(self) -> Any:
        """The ``keras.Model`` of ``keras.applications`` with these weights, for images (N, H, W, C), without softmax;
        errors as for :meth:`to_torchvision`."""
        return in_framework.to_keras(self)


def load(source: AnySource, **how: Unpack[Reading]) -> Model:
    """Read any DenseNet checkpoint into the library layout.  Tensors are read on demand.

    Args:
        source: a path, ``https://`` URL, ``hf://`` address or zoo name; what is in memory (a state dict of torch
            tensors or numpy arrays, a ``torch.nn.Module``, a Keras model, bytes, an open file); or a
            :class:`converter.Source`, whose fields the other arguments are.

    Raises:
        UnreadableFile: missing, damaged, or of no known format.
        UnsafeFile: it asks for code to be run.
        NotADenseNet: no layout accounts for every tensor.
        ConverterError: it is nothing that could be a source.

    Example:
        >>> from converter import load
        >>> model = load("digits.pth")
        >>> model.config.block_config, model.config.num_classes
        ((3, 3, 3), 10)
        >>> load(model.to_torchvision()).config == model.config
        True
    """
    return _of(reading.load(source, **how))


def inspect(source: AnySource, **how: Unpack[Reading]) -> Inspection:
    """Say what a checkpoint is, without reading its tensors; arguments and errors as for :func:`load`.

    Example:
        >>> from converter import inspect
        >>> found = inspect("digits.pth")
        >>> found.checkpoint.format, found.chosen.layout.name
        ('torch zip', 'torchvision')
        >>> found.to_dict()["parameters"]
        74614
    """
    found = reading.inspect(source, **how)
    return replace(found, model=_of(found.model))


def _of(model: core.Model) -> Model:
    return Model(**{field.name: getattr(model, field.name) for field in fields(model)})
