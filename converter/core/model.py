"""A DenseNet's weights in the library layout, still unread, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from converter.core.checkpoint import Tensor
from converter.core.errors import CannotExpress, ConverterError
from converter.core.fingerprint import exact
from converter.core.metadata import (
    CONFIG_KEY,
    FINGERPRINT_KEY,
    MADE_KEY,
    OF_IMAGES,
    SOURCE_KEY,
    TOOL,
    TOOL_KEY,
    to_json,
)
from converter.core.nearest import meant
from converter.core.notebook import html_table
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


ACTIVATIONS = ("softmax", "sigmoid", "none")
"""What makes probabilities of logits: which one class is true, or each by itself; none where outputs are numbers."""


OF_CLASSES = ("preprocess", "labels", "activation", "thresholds")
"""What can be said of images, and of one head's classes."""
OF_HEAD = ("head.", "heads.", "classifier.")
"""How the names of tensors behind the pooled features begin."""


def known_activation(name: str) -> str:
    """The name itself if it is one of :data:`ACTIVATIONS`, else nothing."""
    return name if name in ACTIVATIONS else ""


def usual_activation(classes: int) -> str:
    """What makes probabilities of so many logits where nobody says: softmax, but sigmoid of a single one."""
    return "sigmoid" if classes == 1 else "softmax"


def several(config: DenseNetConfig, what: str) -> CannotExpress:
    """The error where only a plain network will do, and there are several heads."""
    names = ", ".join(head.name for head in config.heads)
    return CannotExpress(
        f"{what}, and this network has several heads: {names}; densenet convert --head NAME takes one of them"
    )


@dataclass(frozen=True)
class Images:
    """What a network's images and classes are.

    Attributes:
        preprocess: what images go through; None where nobody says.
        labels: class names; empty where nobody says.
        activation: one of :data:`ACTIVATIONS`, what makes probabilities of the logits; empty where nobody says.
        thresholds: from which probability on a class is taken to be there, None for a class without; empty where
            nobody says.
        heads: of several heads, by name, all of this but the preprocessing; of those that are named. An activation
            beside them is that of the others.
        descriptions: what the labels mean, one each, where they are synsets or codes (timm's ``label_descriptions``);
            empty where nobody says.

    Raises:
        ConverterError: there is no such activation.

    Example:
        >>> from converter import Images
        >>> Images(labels=("cat", "dog"), activation="softmax").labels
        ('cat', 'dog')
    """

    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()
    activation: str = ""
    thresholds: tuple[float | None, ...] = ()
    heads: tuple[tuple[str, Images], ...] = ()
    descriptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.activation and not known_activation(self.activation):
            near = meant(self.activation, ACTIVATIONS)
            raise ConverterError(
                f"no activation is called {self.activation!r}; there are {', '.join(ACTIVATIONS)}{near}"
            )

    def or_else(self, other: Images) -> Images:
        """What is said here, and what the other says where nothing is."""
        mine, others = dict(self.heads), dict(other.heads)
        heads = {head: mine.get(head, Images()).or_else(others.get(head, Images())) for head in {**others, **mine}}
        return Images(
            self.preprocess or other.preprocess,
            self.labels or other.labels,
            self.activation or other.activation,
            self.thresholds or other.thresholds,
            tuple(heads.items()),
            self.descriptions or (other.descriptions if self.labels in ((), other.labels) else ()),
        )

    def of(self, head: str) -> Images:
        """What is said of one of several heads."""
        return replace(dict(self.heads).get(head, Images()), preprocess=self.preprocess)

    def of_every_head(self, config: DenseNetConfig) -> Images:
        """The same, where the network has several heads with the activation said of each."""
        if not config.heads or not self.activation:
            return self
        every = Images(heads=tuple((head.name, Images(activation=self.activation)) for head in config.heads))
        return replace(self, activation="").or_else(every)

    def check(self, config: DenseNetConfig) -> None:
        """Whether this can be said of a network.

        Raises:
            ConverterError: it cannot; it is another's.
        """
        steps, names = self.preprocess, self.labels
        dims = 3 if steps and steps.of_volumes else 2
        if steps and (config.spatial_dims != dims or steps.channels != config.in_channels):
            what = "volumes" if dims == 3 else "images"
            axes = f" and {config.spatial_dims} dimensions" if config.spatial_dims != dims else ""
            raise ConverterError(
                f"a preprocessing of {what} of {steps.channels} channels for a network of {config.in_channels} "
                f"channels{axes}"
            )
        if config.heads:
            self._check_heads(config)
            return
        if self.heads:
            raise ConverterError(f"nothing can be said of head {self.heads[0][0]}: the network has one head")
        if names and len(names) != config.num_classes:
            one = ": name what the one output is the probability of" if config.num_classes == 1 else ""
            raise ConverterError(f"{len(names)} labels for {config.num_classes} classes{one}")
        if self.activation == "softmax" and config.num_classes == 1:
            raise ConverterError("the softmax of a single output is always 1; its activation is sigmoid or none")

    def _check_heads(self, config: DenseNetConfig) -> None:
        known = [head.name for head in config.heads]
        if self.labels or self.thresholds:
            raise ConverterError(f"labels are those of one head, of {' or '.join(known)}: --labels {known[0]}=FILE")
        for head, said in self.of_every_head(config).heads:
            if head not in known:
                raise ConverterError(f"there is no head {head!r}; there are {', '.join(known)}{meant(head, known)}")
            try:
                said.check(config.branch(head))
            except ConverterError as error:
                raise ConverterError(f"head {head}: {error}") from error

    def metadata(self) -> dict[str, str]:
        """What is said, as text, by the keys :data:`converter.core.metadata.OF_IMAGES`."""
        said = (
            to_json(self.preprocess.to_dict()) if self.preprocess else "",
            to_json(self.labels) if self.labels else "",
            self.activation,
            to_json(self.thresholds) if self.thresholds else "",
            to_json({name: text for name, said in self.heads if (text := said.metadata())}) if self.heads else "",
            to_json(self.descriptions) if self.descriptions else "",
        )
        return {key: text for key, text in zip(OF_IMAGES, said) if text}


def _outputs(config: DenseNetConfig) -> str:
    """What a network gives, in words."""
    if config.heads:
        return f"heads {', '.join(head.name for head in config.heads)}"
    return f"{config.num_classes:,} classes" if config.num_classes else "features alone"


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
        unsaid: those of the notes that say what the source does not say of images and classes, by the field of
            :class:`Images` that settles it.
        fingerprint: of the tensors, where it was computed (:meth:`fingerprinted`) because it is recorded.
        made: as of the :class:`converter.Source`.
    """

    config: DenseNetConfig
    tensors: Mapping[str, Tensor] = field(repr=False)
    origin: Origin
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    images: Images = Images()
    stated: Mapping[str, Any] = field(default_factory=dict)
    unsaid: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    made: str = ""

    def fingerprinted(self) -> Model:
        """The same with its fingerprint; reads every tensor, one at a time."""
        return self if self.fingerprint else replace(self, fingerprint=exact(self.tensors))

    def __repr__(self) -> str:
        where = f"{self.origin.name!r} ({self.origin.format}, {self.origin.layout})"
        notes = f", {len(self.notes)} notes" if self.notes else ""
        return f"Model({self.config.name}, {_outputs(self.config)}, from {where}{notes})"

    def _repr_html_(self) -> str:
        return html_table(self.config.name, self.facts(), notes=self.notes)

    def facts(self) -> list[tuple[str, str]]:
        """What people want to know of it, by name; empty where there is nothing to say."""
        config, images = self.config, self.images
        return [
            ("architecture", config.name),
            ("parameters", f"{config.parameters():,}"),
            ("outputs", _outputs(config)),
            ("input channels", str(config.in_channels)),
            ("source", self.origin.name),
            ("format", self.origin.format),
            ("layout", self.origin.layout),
            ("sha256", self.origin.sha256),
            ("classes", ", ".join(images.labels[:5]) + (" ..." if len(images.labels) > 5 else "")),
            ("activation", images.activation),
            ("left out", f"{len(self.dropped)} keys" if self.dropped else ""),
        ]

    def metadata(self) -> dict[str, str]:
        """Everything about this model as text, for the artifact's own metadata."""
        return {
            CONFIG_KEY: to_json(self.config.to_dict()),
            SOURCE_KEY: to_json(asdict(self.origin)),
            TOOL_KEY: TOOL,
            **({FINGERPRINT_KEY: self.fingerprint} if self.fingerprint else {}),
            **self.known(),
        }

    def known(self) -> dict[str, str]:
        """What files keep that have no room for the config: what is known of its images, and how it was made."""
        made = {MADE_KEY: to_json(self.making())} if self.made else {}
        return {**self.images.metadata(), **made}

    def making(self) -> dict[str, str]:
        """What is made of this one of many, and how."""
        of = self.origin
        found = {"format": of.format, "layout": of.layout, "architecture": self.config.name}
        return {"source": of.sha256, "options": self.made, **found}

    def branch(self, head: str) -> Model:
        """The plain network of one of several heads.

        Raises:
            ConverterError: there is no such head.
        """
        try:
            config = self.config.branch(head)
        except ValueError as error:
            raise ConverterError(str(error)) from error
        at = f"heads.{head}."
        own = {name: t for name, t in self.tensors.items() if not name.startswith("heads.") or name.startswith(at)}
        tensors = {name.removeprefix(at): tensor for name, tensor in own.items()}
        unsaid = {name.removeprefix(f"{head}."): note for name, note in self.unsaid.items() if name.startswith(at[6:])}
        return replace(
            self, config=config, tensors=tensors, images=self.images.of(head), stated={}, unsaid=unsaid, fingerprint=""
        )

    def headless(self) -> Model:
        """The network up to its pooled features."""
        config = replace(self.config, num_classes=0, head=(), heads=())
        tensors = {name: self.tensors[name] for name in self.tensors if not name.startswith(OF_HEAD)}
        return replace(
            self, config=config, tensors=tensors, images=Images(self.images.preprocess), stated={}, unsaid={}
        )

    def branches(self) -> dict[str, Model]:
        """The plain networks of several heads, by name; the model itself, by an empty one, where there is one."""
        return {head.name: self.branch(head.name) for head in self.config.heads} or {"": self}

    @property
    def activation(self) -> str:
        """What makes probabilities of the logits; the usual where nobody says."""
        return self.images.activation or usual_activation(self.config.num_classes)

    def described(self, images: Images) -> Model:
        """The same with what somebody says of its images and classes, which beats what the source says.

        Raises:
            ConverterError: it is said of another network.
        """
        images.check(self.config)
        images = images.of_every_head(self.config)
        every = (("", images), *((f"{head}.", own) for head, own in images.heads))
        told = {f"{at}{name}" for at, said in every for name in OF_CLASSES if getattr(said, name)}
        if self.config.heads and all(f"{head.name}.labels" in told for head in self.config.heads):
            told.add("labels")
        unsaid = {name: note for name, note in self.unsaid.items() if name not in told}
        settled = set(self.unsaid.values()) - set(unsaid.values())
        notes = tuple(note for note in self.notes if note not in settled)
        return replace(self, images=images.or_else(self.images), notes=notes, unsaid=unsaid)
