"""Heads of several layers among the tensors that a network leaves over: linear layers and norms, one after the other.

What has no tensor, an activation, is taken to be a ReLU; numbers of a Sequential show where nothing can stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import NamedTuple

from converter.core import bounds
from converter.core.checkpoint import Tensor
from converter.core.errors import ConverterError
from converter.layouts.layout import Layout, Leaf
from converter.reading.heads import LINEAR, NOT_LINEAR, matrix_shape
from converter.reading.wrappers import Group
from densenet.config import DenseNetConfig
from densenet.head import RELU, HeadLayer
from densenet.module import NORM_TENSORS, Module

NUMBER = re.compile(r"(?<!\d)(\d{1,9})$")
SEPARATORS = re.compile(r"[./]")
DIGITS = re.compile(r"(?<!\d)\d{1,9}(?!\d)")
PROJECTION = (
    r"(^|[._])(last_layer|proj\w*|predictor|contrast\w*|dino\w*|byol\w*|simclr\w*|moco\w*|swav\w*|ssl\w*|"
    r"aux\w*)([._]|$)"
)
"""Layers of these names belong to a training's own task, and normalise or detach between them."""
BRANCH = (
    r"(?i)(^|[._/])(proj\w*|predict\w*|adapt\w*|gat(e|es|ing)|att\w*|se|cbam|excit\w*|squeeze\w*|aux\w*|contrast\w*|"
    r"res(idual)?)([._/]|$)"
)
"""What is called so and gives as many features as it takes may multiply or add to them, or serve training alone."""
BEHIND = r"(?i)(^|[._/])(domain\w*|discrim\w*|critic|recon\w*|decod\w*|calib\w*|gcn)([._/]|$)"
"""What is called so judges, inverts or corrects what the layers before it give."""
LAST = r"(^|[._/])(classifier|logits)$"
"""What gives the logits; layers elsewhere that take them correct, compare or discriminate."""


@dataclass(frozen=True)
class Piece:
    """A module of a head: its name, its tensors' names by the library's leaf names, what it takes and gives."""

    name: str
    kind: str
    keys: Mapping[str, str]
    takes: int
    gives: int

    @property
    def layer(self) -> HeadLayer:
        """As a config has it."""
        return HeadLayer("linear", self.gives, bias="bias" in self.keys) if self.kind == "linear" else HeadLayer("norm")


class Chain(NamedTuple):
    """A head: its pieces in order, the words between the features and the last of them, and where ReLUs are taken."""

    pieces: tuple[Piece, ...]
    layers: tuple[HeadLayer, ...]
    assumed: tuple[str, ...]


def find_chain(layout: Layout, config: DenseNetConfig, tensors: Mapping[str, Tensor], group: Group) -> Chain | None:
    """The layers that tensors are, if all of them are one head of several layers.

    Args:
        layout: how linear layers and norms are stored.
        config: the network without a head.
        tensors: what the network leaves over, in the file's order.
        group: whose they are.
    """
    pieces = _pieces(layout, tensors, group)
    if pieces is None:
        return None
    flat = all(len(tensors[piece.keys["weight"]].shape) <= 2 for piece in pieces)
    widths = (config.num_features, 2 * config.num_features)
    return next(filter(None, (chain_of(pieces, features, group.classes, flat=flat) for features in widths)), None)


def chain_of(pieces: Sequence[Piece], features: int, classes: Mapping[str, str], *, flat: bool) -> Chain | None:
    """The head that pieces are, if each takes what another gives and nothing but one after the other suggests itself.

    Args:
        pieces: in the file's order, or that of their numbers, or where they are ``flat`` that of their widths.
        features: what the first of them takes.
        classes: of modules by their names, where the file knows them.
        flat: whether no weight is a convolution's.
    """
    if not 1 < len(pieces) <= bounds.HEAD_PARTS:
        return None
    for order in (list(pieces), _by_number(pieces), _by_width(pieces, features) if flat else []):
        if order and _follows(order, features) and _is_one_way(order, features, classes):
            layers, assumed = _words(order)
            return Chain(tuple(order), tuple(layers), tuple(assumed))
    return None


def is_linear(name: str, cls: str | None) -> bool:
    """Whether a matrix is a linear layer's of a head, by its class, or by its name."""
    if cls:
        return bool(re.search(LINEAR, cls))
    return not (re.search(NOT_LINEAR, name.lower()) or re.search(PROJECTION, name.lower()))


def told(chain: Chain, more: str = "") -> str:
    """What is said of a head, and what is assumed of it."""
    assumed = f" (a ReLU is assumed between {' and between '.join(chain.assumed)})" if chain.assumed else ""
    return (
        f"the head is {', '.join(piece.name for piece in chain.pieces)}, read as {','.join(map(str, chain.layers))}"
        f"{assumed}{more}: what has no tensor is not known; --set head=... changes it"
    )


def _pieces(layout: Layout, tensors: Mapping[str, Tensor], group: Group) -> list[Piece] | None:
    """The modules that tensors are; None if one of them is neither a linear layer nor a norm."""
    leaves = {k: leaf for k, leaf in layout.leaves.items() if not k.startswith("conv.") and len(leaf.names) == 1}
    endings = sorted({leaf.names[0] for leaf in leaves.values()}, key=len, reverse=True)
    modules: dict[str, dict[str, str]] = {}
    for key in tensors:
        ending = next((ending for ending in endings if key.endswith(ending)), None)
        if ending is None:
            return None
        modules.setdefault(key.removesuffix(ending), {})[ending] = key
    found = [_piece(name, keys, leaves, tensors, group) for name, keys in modules.items()]
    pieces = [piece for piece in found if piece is not None]
    return pieces if len(pieces) == len(found) else None


def _piece(
    name: str, keys: Mapping[str, str], leaves: Mapping[str, Leaf], tensors: Mapping[str, Tensor], group: Group
) -> Piece | None:
    for kind in ("linear", "norm"):
        own = {full.partition(".")[2]: leaf for full, leaf in leaves.items() if full.startswith(f"{kind}.")}
        named = {leaf: keys[stored.names[0]] for leaf, stored in own.items() if stored.names[0] in keys}
        if len(named) != len(keys) or "weight" not in named:
            continue
        cls = group.classes.get(name)
        if kind == "linear":
            shape = own["weight"].shape(matrix_shape(tensors[named["weight"]].shape))
            biased = "bias" not in named or tensors[named["bias"]].shape == shape[:1]
            if len(shape) == 2 and biased and is_linear(name, cls):
                return Piece(name, kind, named, shape[1], shape[0])
        elif all(leaf in named for leaf in NORM_TENSORS):
            shapes = {tensors[named[leaf]].shape for leaf in NORM_TENSORS}
            if len(shapes) == 1 and len(shape := shapes.pop()) == 1 and (not cls or "Norm" in cls):
                return Piece(name, kind, named, shape[0], shape[0])
    return None


def _follows(pieces: Sequence[Piece], features: int) -> bool:
    """Whether each takes what the one before gives, the first the features, and the last is a linear layer."""
    joined = all(one.gives == other.takes for one, other in pairwise(pieces))
    return joined and pieces[0].takes == features and pieces[-1].kind == "linear"


def _is_one_way(pieces: Sequence[Piece], features: int, classes: Mapping[str, str]) -> bool:
    """Whether nothing but one after the other suggests itself.

    Several linear layers in a module of their own that give as many features as they take may as well be a gate
    (SE: Hu et al. 2018, section 3), an adapter or a projector of contrastive learning (SimCLR: Chen et al. 2020).
    """
    linears = 0
    for one, other in pairwise(pieces):
        linears += one.kind == "linear"
        if _in_one_sequential(one, other, classes):
            continue
        behind = re.search(BEHIND, other.name) and not re.search(BEHIND, one.name)
        if re.search(LAST, one.name) or (linears and behind):
            return False
        branch = re.search(BRANCH, one.name) or (linears > 1 and _apart(one, other))
        if linears and other.takes == features and branch:
            return False
    return True


def _in_one_sequential(one: Piece, other: Piece, classes: Mapping[str, str]) -> bool:
    """Whether the nearest module around two is a Sequential, by its class or the numbers in it."""
    here, there = (SEPARATORS.split(piece.name) for piece in (one, other))
    at = next((i for i, pair in enumerate(zip(here, there)) if pair[0] != pair[1]), 0)
    numbered = here[at].isdecimal() and there[at].isdecimal()
    return numbered or classes.get(".".join(here[:at]), "").endswith(".container.Sequential")


def _apart(one: Piece, other: Piece) -> bool:
    """Whether two stand in different modules."""
    return SEPARATORS.split(one.name)[:-1] != SEPARATORS.split(other.name)[:-1]


def _by_number(pieces: Sequence[Piece]) -> list[Piece]:
    """In the order of the numbers in their names; nothing if they have none."""
    numbers = [tuple(map(int, DIGITS.findall(piece.name))) for piece in pieces]
    return [pieces[i] for i in sorted(range(len(pieces)), key=numbers.__getitem__)] if all(numbers) else []


def _by_width(pieces: Sequence[Piece], features: int) -> list[Piece]:
    """The only order in which each takes what the one before gives; where there are norms, each kind in its order."""
    if any(piece.kind != "linear" for piece in pieces):
        orders = list(islice(_merged(pieces, features), 2)) if len(pieces) <= bounds.HEAD_MERGED else []
        return orders[0] if len(orders) == 1 else []
    takers = {piece.takes: piece for piece in pieces}
    order: list[Piece] = []
    while len(takers) == len(pieces) > len(order) and features in takers:
        order.append(takers[features])
        features = order[-1].gives
    return order if len(order) == len(pieces) else []


def _merged(pieces: Sequence[Piece], width: int) -> Iterator[list[Piece]]:
    """Orders in which each takes what the one before gives."""
    if not pieces:
        yield []
    for kind in ("norm", "linear"):
        at = next((i for i, piece in enumerate(pieces) if piece.kind == kind), None)
        if at is not None and pieces[at].takes == width:
            rest = [*pieces[:at], *pieces[at + 1 :]]
            yield from ([pieces[at], *order] for order in _merged(rest, pieces[at].gives))


def _words(pieces: Sequence[Piece]) -> tuple[list[HeadLayer], list[str]]:
    """The layers before the last, with a ReLU wherever one can stand between two linear layers; and where."""
    layers: list[HeadLayer] = []
    assumed: list[str] = []
    open_ = False  # between two linear layers, no activation yet
    for one, other in pairwise(pieces):
        layers.append(one.layer)
        open_ = open_ or one.kind == "linear"
        if open_ and _room(one, other) and (_numbered(one, other) or other.kind == "linear"):
            layers.append(RELU)
            assumed.append(f"{one.name} and {other.name}")
            open_ = False
    return layers, assumed


def _numbered(one: Piece, other: Piece) -> bool:
    """Whether two are numbered in one Sequential."""
    return all(NUMBER.search(piece.name) for piece in (one, other)) and _stem(one) == _stem(other) != ""


def _room(one: Piece, other: Piece) -> bool:
    """Whether something may stand between two: in a Sequential if numbers are left out, elsewhere always."""
    if not _numbered(one, other):
        return True
    first, second = (NUMBER.search(piece.name) for piece in (one, other))
    return bool(first and second and int(second[1]) - int(first[1]) > 1)


def renumbered(found: DenseNetConfig, config: DenseNetConfig) -> dict[str, str]:
    """The modules of a head, and the names they have where it is said to have other activations than was taken.

    Raises:
        ConverterError: it is said to have other layers than there are tensors for.
    """
    here, there = ([m for m in c.modules() if m.place.template.startswith("head.")] for c in (found, config))
    if [_shapes(m) for m in here] != [_shapes(m) for m in there]:
        said, have = (",".join(c.head) or "nothing" for c in (config, found))
        raise ConverterError(f"head={said} does not fit the tensors, which are those of {have}")
    return {one.name: other.name for one, other in zip(here, there)}


def _shapes(module: Module) -> tuple[str, list[tuple[int, ...]]]:
    return module.kind, list(module.tensors().values())


def _stem(piece: Piece) -> str:
    stem = NUMBER.sub("", piece.name)
    return stem if stem.endswith((".", "/")) else ""
