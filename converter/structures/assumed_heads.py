"""Heads of files that have the layers with weights alone: what stands between them is taken to be a ReLU.

Keras lists all layers.  An activation is one of them (``leaky_re_lu_1``) or, unseen, a part of the Dense layer before
it.  A file that keeps the layers' order shows where the former stand; one that sorts them by class, how many there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from converter.core import bounds
from converter.core.errors import NotADenseNet
from converter.structures.keras_activations import LEAKY_LAYER
from converter.structures.parts import Part
from densenet.head import RELU, HeadLayer

TELLING: Mapping[str, HeadLayer] = {
    "activation": RELU,
    "re_lu": RELU,
    "leaky_re_lu": HeadLayer("leaky_relu", value=LEAKY_LAYER),
    "elu": HeadLayer("elu", value=1.0),
}
"""Layers that are activations by the names that Keras gives them, and what they compute as a rule."""
NUMBERED = re.compile(r"(.*?)(?:_\d+)?")
MAX_ORDERS = 2
"""As many are looked for, to know that there is one."""


class Words(NamedTuple):
    """A head as a config has it, and what is assumed of it."""

    layers: tuple[HeadLayer, ...]
    note: str


def words_of(names: Sequence[str], layers: Sequence[HeadLayer], listed: Sequence[str], *, ordered: bool) -> Words:
    """The layers before a classifier with their activations.

    Args:
        names: of the layers with weights, the classifier the last.
        layers: what those before it are.
        listed: all layers of the model, or nothing where those without weights are not listed.
        ordered: whether they are listed in the model's order.
    """
    between = [_told(_between(listed, *pair)) if ordered else [] for pair in pairwise(names)]
    loose = [] if ordered else _told(listed)
    result: list[HeadLayer] = []
    open_ = False
    late = bool(loose) or not listed  # behind the norms, where a layer of its own may stand
    for i, layer in enumerate(layers):
        result.append(layer)
        open_ |= layer.kind == "linear"
        following = [*layers[i + 1 :], HeadLayer("linear", 1)]
        stretch = next(n for n, each in enumerate(following) if each.kind == "linear")
        known = any(between[i : i + stretch + 1])
        if between[i]:
            result += between[i]
            open_ = False
        elif open_ and not known and (stretch == 0 or not late):
            result.append(loose[0] if loose and len(set(loose)) == 1 else RELU)
            open_ = False
    words = ",".join(map(str, result))
    said = [name for name in listed if _kind(name) in TELLING and not ordered]
    note = f"the head is {', '.join(names)}, read as {words}: its activations are not in the file"
    note += f" but for the layers {', '.join(said)}" if said else ""
    return Words(tuple(result), f"{note}; --set head=... changes it")


def words_of_parts(head: Sequence[Part], listed: Sequence[str] = ()) -> Words:
    """The same of a head's layers, the classifier the last, where the file does not list others in order."""
    layers = [
        HeadLayer("linear", part.tensors["weight"].shape[0], bias="bias" in part.tensors)
        if part.kind == "linear"
        else HeadLayer("norm")
        for part in head[:-1]
    ]
    names = [part.keys["weight"].rpartition("/")[0] for part in head]
    return words_of(names, layers, listed, ordered=False) if layers else Words((), "")


def _kind(name: str) -> str:
    """The class of a layer that has a name of Keras' own; of any other, its name."""
    found = NUMBERED.fullmatch(name.rpartition("/")[2])
    return found[1] if found is not None else name


def _told(names: Sequence[str]) -> list[HeadLayer]:
    return [TELLING[kind] for name in names if (kind := _kind(name)) in TELLING]


def _between(listed: Sequence[str], one: str, other: str) -> Sequence[str]:
    if one not in listed or other not in listed:
        return []
    return listed[listed.index(one) + 1 : listed.index(other)]


def in_sequence(norms: Sequence[Part], linears: Sequence[Part], features: int, where: str) -> list[Part]:
    """Norms and linear layers, each kind in its order, in the one order in which each takes what the one before gives.

    Raises:
        NotADenseNet: there is none, or there are several.
    """
    if len(norms) + len(linears) > bounds.HEAD_PARTS:
        raise NotADenseNet(f"{where}: {len(norms) + len(linears)} layers behind the last convolution")
    orders: list[list[Part]] = []
    tried = 0

    def follow(done: list[Part], n: int, i: int, width: int) -> None:
        nonlocal tried
        tried += 1
        if len(orders) >= MAX_ORDERS or tried > bounds.HEAD_TRIED:
            return
        if n == len(norms) and i == len(linears):
            orders.append(done)
        if n < len(norms) and i < len(linears) and norms[n].tensors["weight"].shape == (width,):
            follow([*done, norms[n]], n + 1, i, width)
        if i < len(linears) and linears[i].tensors["weight"].shape[1] == width:
            follow([*done, linears[i]], n, i + 1, linears[i].tensors["weight"].shape[0])

    follow([], 0, 0, features)
    if tried > bounds.HEAD_TRIED:
        orders = []
    if len(orders) != 1:
        names = ", ".join(next(iter(part.keys.values())) for part in (*norms, *linears))
        why = "fit in more than one order" if orders else "do not follow each other"
        raise NotADenseNet(f"{where}: the layers of its head, {names}, {why}")
    return orders[0]
