"""What stands between the pooled features and the classifier, as ``DenseNetConfig.head`` writes it.

One word a layer: ``norm``, ``linear:512``, ``linear:512:no_bias``, or an activation, with its number where it
has one: ``relu``, ``leaky_relu:0.2``, ``gelu``.  Dropout is nothing once trained, and is not written.

A network with several heads (of several tasks) has a :class:`Head` for each in ``DenseNetConfig.heads``, and neither
``head`` nor classes of its own.  It is its plain networks, one a head, which share everything up to the pooled
features: ``DenseNetConfig.branch`` is one of them, and whatever asks about classes, layers or logits asks branch by
branch.  Layers that heads share behind the features are in each of them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite, nan
from typing import Any, NamedTuple

from densenet import bounds
from densenet.module import Module

NO_BIAS = "no_bias"
CALLED = re.compile(r"[\w-]{1,64}")
"""Names of heads; a point would be a module in them."""
MAX_HEADS = 64
STRANGE = re.compile(r"[^\w-]+")
TAKEN = frozenset("pixel_values image features logits probabilities norm relu act global_pool".split())
"""Names that values of graphs have, so no head."""
FIELDS = frozenset({"num_classes", "head"})
"""What a config's JSON says of each of several heads."""

ACTIVATIONS: Mapping[str, float | None] = {
    **dict.fromkeys(("relu", "relu6", "gelu", "gelu_tanh", "silu", "mish", "tanh", "sigmoid", "softplus")),
    **dict.fromkeys(("hardswish", "hardsigmoid", "selu", "softsign")),
    "leaky_relu": 0.01,
    "elu": 1.0,
    "celu": 1.0,
}
"""Functions of one number, by PyTorch's names (torch.nn.functional), and the usual value of the number they take."""


SAME: Mapping[tuple[str, float], str] = {("celu", 1.0): "elu", ("leaky_relu", 0.0): "relu", ("elu", 0.0): "relu"}
"""Activations that are another one at some value."""


MONOTONIC = frozenset("relu relu6 leaky_relu elu celu selu tanh sigmoid softplus softsign hardsigmoid".split())
"""Activations that never fall, where their number is not negative."""


POSITIVE = frozenset("relu relu6 sigmoid hardsigmoid softplus".split())
"""Activations that give nothing below zero."""


def callable_as(text: str) -> str:
    """A text as a head can be called."""
    return STRANGE.sub("_", text)


class HeadLayer(NamedTuple):
    """One layer of a head.

    Attributes:
        kind: ``norm``, ``linear``, or a name of :data:`ACTIVATIONS`.
        width: of a linear layer, what it gives.
        bias: whether a linear layer has one.
        value: what the activation takes: the slope of ``leaky_relu``, alpha of ``elu`` and ``celu``.
    """

    kind: str
    width: int = 0
    bias: bool = True
    value: float | None = None

    @classmethod
    def parse(cls, word: str) -> "HeadLayer":
        """The inverse of ``str``.

        Raises:
            ValueError: no layer is written so.
        """
        kind, *values = str(word).split(":")
        if kind == "norm" and not values:
            return cls(kind)
        if kind == "linear" and values and values[0].isdecimal() and 0 < int(values[0]) <= bounds.WIDTH:
            if values[1:] in ([], [NO_BIAS]):
                return cls(kind, int(values[0]), bias=len(values) == 1)
        elif kind in ACTIVATIONS and len(values) <= (ACTIVATIONS[kind] is not None):
            try:
                value = float(values[0]) if values else ACTIVATIONS[kind]
            except ValueError:
                value = nan
            if value is None or isfinite(value):
                name = SAME.get((kind, value or 0.0), kind)
                return cls(name, value=value if name == kind else ACTIVATIONS[name])
        raise ValueError(
            f"a head has layers such as norm, linear:512, linear:512:{NO_BIAS}, {', '.join(ACTIVATIONS)}, not {word!r}"
        )

    def __str__(self) -> str:
        if self.kind == "linear":
            return f"linear:{self.width}" + ("" if self.bias else f":{NO_BIAS}")
        if self.value is None or self.value == ACTIVATIONS[self.kind]:
            return self.kind
        return f"{self.kind}:{float(self.value)!r}".removesuffix(".0")

    @property
    def is_activation(self) -> bool:
        """Whether it is a function of one number."""
        return self.kind in ACTIVATIONS

    @property
    def is_monotonic(self) -> bool:
        """Whether a maximum of what it gives is what it gives of the maximum."""
        return self.kind in MONOTONIC and (self.value or 0.0) >= 0

    @property
    def is_positive(self) -> bool:
        """Whether nothing that it gives is below zero."""
        return self.kind in POSITIVE


RELU = HeadLayer("relu")


class Head(NamedTuple):
    """One of several heads.

    Attributes:
        name: of it, and of its logits.
        num_classes: how many logits it gives.
        layers: between the pooled features and its classifier, as in ``DenseNetConfig.head``.
    """

    name: str
    num_classes: int
    layers: tuple[str, ...] = ()

    def checked(self) -> "Head":
        """The same with its layers in the one form that is compared.

        Raises:
            ValueError: no head is so.
        """
        name, classes, layers = self
        if not isinstance(name, str) or not CALLED.fullmatch(name) or name in TAKEN:
            raise ValueError(f"no head can be called {name!r}")
        if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
            raise ValueError(f"head {name}: num_classes must be a positive integer, not {classes!r}")
        return Head(name, classes, tuple(map(str, layers_of(layers))))

    def modules(self, width: int) -> Iterator[Module]:
        """The modules that own tensors, of a head that takes so many features; one without a name is the only one."""
        at = f"heads.{self.name}." if self.name else ""
        for i, layer in enumerate(layers_of(self.layers)):
            if layer.kind == "linear":
                yield Module(f"{at}head.{i}.linear", (layer.width, width), bias=layer.bias)
                width = layer.width
            elif layer.kind == "norm":
                yield Module(f"{at}head.{i}.norm", (width,))
        if self.num_classes:
            yield Module(f"{at}classifier", (self.num_classes, width), bias=True)

    def to_dict(self) -> dict[str, Any]:
        """What it is as plain JSON values; its name is the key."""
        return {"num_classes": self.num_classes} | ({"head": list(self.layers)} if self.layers else {})


def heads_of(values: Any) -> tuple[Head, ...]:
    """Heads from themselves, or from JSON values by name: ``{"age": {"num_classes": 4, "head": ["relu"]}, ...}``.

    Raises:
        ValueError: no network has such heads.
    """
    if isinstance(values, Mapping):
        strange = [name for name, value in values.items() if not isinstance(value, Mapping) or {*value} - FIELDS]
        if strange:
            raise ValueError(f"head {strange[0]} is not said by num_classes and head")
        values = [Head(name, value.get("num_classes"), value.get("head", ())) for name, value in values.items()]
    found = tuple(Head(*head).checked() for head in values)
    if len({head.name for head in found}) != len(found):
        raise ValueError("two heads of one name")
    if len(found) == 1 or len(found) > MAX_HEADS:
        raise ValueError(f"heads are 2 to {MAX_HEADS}, not {len(found)}; a single one is no field of its own")
    return found


def layers_of(words: Iterable[str]) -> tuple[HeadLayer, ...]:
    """A head as layers; also of one text, with commas between them.

    Raises:
        ValueError: no layer is written so.
    """
    return tuple(HeadLayer.parse(word) for word in (words.split(",") if isinstance(words, str) else words))


class Folded(NamedTuple):
    """A head with what can be folded in it.

    Attributes:
        layers: what stands between the pooled features and the classifier then.
        places: where two layers became one, one such step after the other.
    """

    layers: tuple[HeadLayer, ...]
    places: tuple[int, ...]


def folded(layers: Sequence[HeadLayer], features: int, classes: int) -> Folded:
    """A head whose norms and neighbouring linear layers are one layer each, where that computes the same.

    Two linear layers are one where that is no larger.

    Args:
        layers: what stands between the pooled features and the classifier.
        features: what goes in.
        classes: what the classifier gives.
    """
    chain, places, at = [*layers, HeadLayer("linear", classes)], list[int](), 0
    while at + 1 < len(chain):
        widths = [features, *(layer.width for layer in chain[:at] if layer.width)]
        if not folds(chain[at], chain[at + 1], widths[-1]):
            at += 1
            continue
        places.append(at)
        chain[at : at + 2] = [HeadLayer("linear", chain[at + 1].width or chain[at].width)]
        at = max(at - 1, 0)
    return Folded(tuple(chain[:-1]), tuple(places))


def folds(one: HeadLayer, other: HeadLayer, features: int) -> bool:
    """Whether two layers that follow each other are one linear layer, and that is no larger."""
    kinds = {one.kind, other.kind}
    if kinds == {"linear"}:
        return other.width * features <= one.width * (other.width + features)
    return kinds == {"norm", "linear"}
