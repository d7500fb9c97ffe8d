"""A loaded network, started as often as needed: with further outputs, on so many threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import CannotExpress, ConverterError
from converter.core.model import Model, several
from converter.engines.onnxruntime import onnx_outputs
from converter.engines.run import Outputs
from converter.engines.torch import torch_module, torch_outputs
from densenet.config import DenseNetConfig

if TYPE_CHECKING:
    import onnx

    from densenet.model import DenseNet, MultiHeadDenseNet

More = Literal["features", "maps"]
"""Pooled features (N, features); the feature maps (N, channels, h, w) they are pooled from."""


class Network(Protocol):
    """What computes a predictor's logits; those of several heads side by side, in the order of the config."""

    @property
    def config(self) -> DenseNetConfig:
        """The architecture."""

    def start(self, more: Sequence[More] = (), threads: int = 0) -> Outputs:
        """An engine of the logits and more, on so many threads; 0 for as many as there are cores.

        Raises:
            ConverterError: the network cannot be run, or does not give that.
        """

    def weight(self) -> Array:
        """The classifier's weight (classes, features), where it follows the pooled features.

        Raises:
            CannotExpress: it is not at hand.
        """

    def module(self) -> DenseNet:
        """The same as a PyTorch module.

        Raises:
            ConverterError: it cannot be read back, or PyTorch is not installed.
        """


@dataclass(frozen=True)
class OnnxNetwork:
    """A graph of this tool, in ONNX Runtime.

    Attributes:
        name: how errors call it.
        file: its path, or its bytes.
        config: the architecture.
        model: reads its weights.
    """

    name: str
    file: str | bytes = field(repr=False)
    config: DenseNetConfig
    model: Callable[[], Model] = field(repr=False)

    def start(self, more: Sequence[More] = (), threads: int = 0) -> Outputs:
        """See :class:`Network`; what was not an output yet becomes one."""
        heads = [head.name for head in self.config.heads] or [""]
        if not more:
            return side_by_side(onnx_outputs(self.file, heads, threads=threads), len(heads))
        from converter.exporters.tap import maps_of, tapped  # noqa: PLC0415 (onnx is slow to import)

        try:
            names = [maps_of(self.proto) if name == "maps" else name for name in more]
            graph = tapped(self.proto, *names)
        except CannotExpress as error:
            raise CannotExpress(f"{self.name}: {error}") from error
        return side_by_side(onnx_outputs(graph, (*heads, *names), threads=threads), len(heads))

    def weight(self) -> Array:
        """See :class:`Network`."""
        from converter.exporters.tap import classifier_weight  # noqa: PLC0415 (onnx is slow to import)

        try:
            return classifier_weight(self.proto)
        except CannotExpress as error:
            raise CannotExpress(f"{self.name}: {error}") from error

    def module(self) -> DenseNet:
        """See :class:`Network`."""
        try:
            model = self.model()
        except ConverterError as error:
            raise CannotExpress(f"{error}; name the checkpoint this file was made from") from error
        return torch_module(model)

    @cached_property
    def proto(self) -> onnx.ModelProto:
        """The graph."""
        import onnx  # noqa: PLC0415 (slow to import)

        return onnx.load_from_string(self.file) if isinstance(self.file, bytes) else onnx.load(self.file)


@dataclass(frozen=True)
class TorchNetwork:
    """Our module, in PyTorch, which runs one batch at a time on threads of its own."""

    config: DenseNetConfig
    loaded: DenseNet | MultiHeadDenseNet = field(repr=False)

    def start(self, more: Sequence[More] = (), threads: int = 0) -> Outputs:
        """See :class:`Network`."""
        return torch_outputs(self.loaded, more)

    def weight(self) -> Array:
        """See :class:`Network`."""
        weight: Array = self.loaded.get_parameter("classifier.weight").detach().numpy()
        return weight

    def module(self) -> DenseNet:
        """See :class:`Network`."""
        if self.config.heads:
            raise several(self.config, "this is for one head")
        module: Any = self.loaded
        result: DenseNet = module
        return result


def side_by_side(run: Outputs, heads: int) -> Outputs:
    """An engine with the first outputs, the logits of so many heads, as one (N, all their classes)."""
    if heads == 1:
        return run

    def joined(x: Array) -> tuple[Array, ...]:
        found = run(x)
        return np.concatenate(found[:heads], axis=1), *found[heads:]

    return joined
