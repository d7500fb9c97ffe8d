"""A DenseNet's weights in the library layout, still unread, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from converter.core.checkpoint import Tensor
from converter.core.errors import ConverterError
from converter.core.metadata import (
    ACTIVATION_KEY,
    CONFIG_KEY,
    LABELS_KEY,
    PREPROCESS_KEY,
    SOURCE_KEY,
    TOOL,
    TOOL_KEY,
    to_json,
)
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess


@dataclass(frozen=True)
class Origin:
    """Where weights come from.

    Attributes:
        name: file name, URL or zoo name, as given.
        sha256: of the file; for several files, of the list of their hashes and names.
        format, layout: as recognised.
        inside: where in the file's tree the weights were, ``state_dict`` say.
        prefix: what stood before every name.
    """

    name: str
    sha256: str
    format: str
    layout: str
    inside: str = ""
    prefix: str = ""


ACTIVATIONS = ("softmax", "sigmoid")
"""What makes probabilities of logits."""


def known_activation(name: str) -> str:
    """The name itself if it is one of :data:`ACTIVATIONS`, else nothing."""
    return name if name in ACTIVATIONS else ""


@dataclass(frozen=True)
class Images:
    """What a network's images and classes are.

    Attributes:
        preprocess: what images go through; None where nobody says.
        labels: class names; empty where nobody says.
        activation: ``softmax`` or ``sigmoid``, what makes probabilities of the logits; empty where nobody says.
    """

    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()
    activation: str = ""

    def or_else(self, other: Images) -> Images:
        """What is said here, and what the other says where nothing is."""
        return Images(
            self.preprocess or other.preprocess, self.labels or other.labels, self.activation or other.activation
        )


@dataclass(frozen=True)
class Model:
    """A DenseNet in the library layout.

    Attributes:
        config: the architecture.
        tensors: by library name, in network order, read on demand.
        origin: where they come from.
        dropped: source keys that are no part of the network, and why.
        notes: what had to be assumed or was changed, for people.
        images: what its images and classes are, where the source says so.
        stated: what a file of this tool's says of itself, JSON values by key, to be held against its tensors.
    """

    config: DenseNetConfig
    tensors: Mapping[str, Tensor] = field(repr=False)
    origin: Origin
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    images: Images = Images()
    stated: Mapping[str, Any] = field(default_factory=dict)

    def metadata(self) -> dict[str, str]:
        """Everything about this model as text, for the artifact's own metadata."""
        result = {
            CONFIG_KEY: to_json(self.config.to_dict()),
            SOURCE_KEY: to_json(asdict(self.origin)),
            TOOL_KEY: TOOL,
        }
        if self.images.preprocess:
            result[PREPROCESS_KEY] = to_json(self.images.preprocess.to_dict())
        if self.images.labels:
            result[LABELS_KEY] = to_json(self.images.labels)
        if self.images.activation:
            result[ACTIVATION_KEY] = self.images.activation
        return result

    def described(self, images: Images) -> Model:
        """The same with what somebody says of its images and classes, which beats what the source says.

        Raises:
            ConverterError: it is said of another network.
        """
        config, steps, names = self.config, images.preprocess, images.labels
        if steps and (config.spatial_dims != 2 or steps.channels != config.in_channels):
            axes = f" and {config.spatial_dims} dimensions" if config.spatial_dims != 2 else ""
            raise ConverterError(
                f"a preprocessing of images of {steps.channels} channels for a network of {config.in_channels} "
                f"channels{axes}"
            )
        if names and len(names) != config.num_classes:
            raise ConverterError(f"{len(names)} labels for {config.num_classes} classes")
        return replace(self, images=images.or_else(self.images))
