"""A loaded network, started as often as needed: with further outputs, on so many threads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import CannotExpress, ConverterError
from converter.core.hashing import sha256_of
from converter.core.interface import Presented
from converter.core.model import Model
from converter.engines.onnxruntime import onnx_outputs
from converter.engines.run import Loadable, Outputs, Run
from converter.engines.torch import torch_module, torch_outputs
from densenet.config import DenseNetConfig
from densenet.topology import FEATURES, LOGITS

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

    def identity(self) -> str:
        """What is another once it computes something else."""

    def weight(self, head: str = "") -> Array:
        """The weight (classes, features) of the classifier, or of one head's, where it follows the pooled features.

        Raises:
            CannotExpress: it is not at hand.
        """

    def module(self, head: str = "") -> DenseNet:
        """The same as a PyTorch module, or the plain network of one head.

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
        said: what it says of its input and outputs.
        last: it takes images (N, H, W, C), and is given them (N, C, H, W).
        device: what computes; empty for the processor.
    """

    name: str
    file: str | bytes = field(repr=False)
    config: DenseNetConfig
    model: Callable[[], Model] = field(repr=False)
    said: Presented = field(default_factory=Presented)
    last: bool = False
    device: str = ""

    def start(self, more: Sequence[More] = (), threads: int = 0) -> Outputs:
        """See :class:`Network`; what was not an output yet becomes one."""
        heads = [head.name for head in self.config.heads] or [LOGITS if self.config.num_classes else FEATURES]
        if not more:
            run = onnx_outputs(self.file, [*map(self.said.name, heads)], threads=threads, device=self.device)
            return side_by_side(with_channels_last(run) if self.last else run, len(heads))
        from converter.exporters.tap import maps_of, tapped  # noqa: PLC0415 (onnx is slow to import)

        try:
            names = [maps_of(self.proto) if name == "maps" else name for name in more]
            graph = tapped(self.proto, *names)
        except CannotExpress as error:
            raise CannotExpress(f"{self.name}: {error}") from error
        return side_by_side(onnx_outputs(graph, (*heads, *names), threads=threads, device=self.device), len(heads))

    def identity(self) -> str:
        """See :class:`Network`."""
        if isinstance(self.file, bytes):
            return hashlib.sha256(self.file).hexdigest()
        beside = (Path(f"{self.file}{ending}") for ending in ("_data", ".data"))  # external data
        return sha256_of([Path(self.file), *filter(Path.is_file, beside)])

    def weight(self, head: str = "") -> Array:
        """See :class:`Network`."""
        from converter.exporters.tap import classifier_weight  # noqa: PLC0415 (onnx is slow to import)

        try:
            return classifier_weight(self.proto, head)
        except CannotExpress as error:
            raise CannotExpress(f"{self.name}: {error}") from error

    def module(self, head: str = "") -> DenseNet:
        """See :class:`Network`."""
        try:
            model = self.model()
        except ConverterError as error:
            raise CannotExpress(f"{error}; name the checkpoint this file was made from") from error
        return torch_module(model.branch(head) if head else model)

    @cached_property
    def proto(self) -> onnx.ModelProto:
        """The graph, without its interface."""
        import onnx  # noqa: PLC0415 (slow to import)

        from converter.exporters.presented import plain  # noqa: PLC0415 (onnx is slow to import)

        return plain(onnx.load_from_string(self.file) if isinstance(self.file, bytes) else onnx.load(self.file))


@dataclass(frozen=True)
class TorchNetwork:
    """Our module, in PyTorch, which runs one batch at a time on threads of its own."""

    config: DenseNetConfig
    loaded: DenseNet | MultiHeadDenseNet = field(repr=False)
    model: Model = field(repr=False)

    def start(self, more: Sequence[More] = (), threads: int = 0) -> Outputs:
        """See :class:`Network`."""
        return torch_outputs(self.loaded, more)

    def identity(self) -> str:
        """See :class:`Network`."""
        told = hashlib.sha256(repr(self.config).encode())
        for name, tensor in self.loaded.state_dict().items():
            told.update(name.encode() + tensor.numpy().tobytes())
        return told.hexdigest()

    def weight(self, head: str = "") -> Array:
        """See :class:`Network`."""
        name = f"heads.{head}.classifier.weight" if head else "classifier.weight"
        weight: Array = self.loaded.get_parameter(name).detach().numpy()
        return weight

    def module(self, head: str = "") -> DenseNet:
        """See :class:`Network`."""
        module: Any = torch_module(self.model.branch(head)) if head else self.loaded
        result: DenseNet = module
        return result


@dataclass(frozen=True)
class OneHead:
    """One of several heads of a network, as a network of its own."""

    whole: Network
    head: str

    @property
    def config(self) -> DenseNetConfig:
        """See :class:`Network`."""
        return self.whole.config.branch(self.head)

    def start(self, more: Sequence[More] = (), threads: int = 0) -> Outputs:
        """See :class:`Network`."""
        run, own = self.whole.start(more, threads), logits_of(self.whole.config, self.head)

        def one(x: Array) -> tuple[Array, ...]:
            logits, *others = run(x)
            return logits[:, own], *others

        return one

    def identity(self) -> str:
        """See :class:`Network`."""
        return f"{self.whole.identity()} {self.head}"

    def weight(self, head: str = "") -> Array:
        """See :class:`Network`."""
        return self.whole.weight(head or self.head)

    def module(self, head: str = "") -> DenseNet:
        """See :class:`Network`."""
        return self.whole.module(head or self.head)


def logits_of(config: DenseNetConfig, head: str) -> slice:
    """Where the logits of one of several heads are, of all side by side; all of them, without a name."""
    if not head:
        return slice(None)
    at = 0
    for each in config.heads:
        if each.name == head:
            break
        at += each.num_classes
    return slice(at, at + config.branch(head).num_classes)


def names_of(config: DenseNetConfig) -> list[str]:
    """The names of several heads; an empty one of the plain network."""
    return [head.name for head in config.heads] or [""]


def onnx_logits(source: Loadable, config: DenseNetConfig) -> Run:
    """ONNX Runtime as an engine of a graph of this tool; the logits of several heads stand side by side."""
    names = names_of(config)
    run = side_by_side(onnx_outputs(source, names), len(names))
    return lambda x: run(x)[0]


def with_channels_last(run: Outputs) -> Outputs:
    """An engine that takes images (N, H, W, C), for those that have (N, C, H, W)."""
    return lambda x: run(np.ascontiguousarray(np.moveaxis(x, 1, -1)))


def side_by_side(run: Outputs, heads: int) -> Outputs:
    """An engine with the first outputs, the logits of so many heads, as one (N, all their classes)."""
    if heads == 1:
        return run

    def joined(x: Array) -> tuple[Array, ...]:
        found = run(x)
        return np.concatenate(found[:heads], axis=1), *found[heads:]

    return joined
