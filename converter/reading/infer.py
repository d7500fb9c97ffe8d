"""Tensors with names nobody knows: their order in the file against the network's own.

Consecutive tensors that share a name up to the last separator are a module; its kind
shows in their number and shapes.  What comes out is a guess and is reported as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from converter.core.checkpoint import Tensor
from converter.core.errors import NotADenseNet
from converter.reading.arrange import arrange
from converter.reading.candidate import Candidate
from converter.reading.fit import dropped_by
from converter.reading.guess import guess
from converter.reading.heads import filled
from converter.reading.order import is_list, named, orders
from converter.reading.wrappers import Group
from converter.structures.parts import Part, Structure
from densenet.module import COUNTER

INFERRED = "inferred"
LEAVES = {
    "weight": ("weight", "gamma", "scale", "kernel", "w", "g"),
    "bias": ("bias", "beta", "offset", "shift", "b"),
    "running_mean": ("running_mean", "moving_mean", "mean", "mu", "avg", "running_avg"),
    "running_var": ("running_var", "moving_variance", "moving_var", "variance", "var", "sigma2"),
    COUNTER: (COUNTER,),
}
"""What programs call the tensors of a module."""

NAMES = {name: leaf for leaf, names in LEAVES.items() for name in names}
NOTE = (
    "inferred: the names are of no known layout, so the tensors were matched in order, by kind and shape; compare "
    "logits with the original's, or save the table with densenet inspect --save-layout FILE.toml and correct it"
)


def infer(groups: list[Group], where: str, drop: Sequence[str] = ()) -> Candidate | None:
    """The first group whose tensors, in the file's order or by number, are a DenseNet's; or None.

    Args:
        groups, drop: as for :func:`converter.recognise.recognise`.
        where: names the file in errors.
    """
    for group in groups:
        dropped = {**group.dropped, **dropped_by(drop, group)}
        kept = {key: tensor for key, tensor in group.tensors.items() if key not in dropped}
        if group.unread or group.problem or not kept:
            continue
        names = named(kept) if is_list(list(kept)) else {key: key for key in kept}
        keys = {name: key for key, name in names.items()}
        for order in orders(list(keys)):
            try:
                parts = list(_parts({name: kept[keys[name]] for name in order}, keys))
                parts, found = _arranged(parts, group, where)
            except NotADenseNet:
                continue
            whole = replace(
                group, tensors={key: tensor for part in parts for key, tensor in _by_key(part)}, sources=group.sources
            )
            return replace(
                found,
                layout=guess(found) or found.layout,
                dropped={**found.dropped, **dropped},
                group=replace(whole, tensors={**found.group.tensors, **whole.tensors}),
            )
    return None


def _arranged(parts: list[Part], group: Group, where: str) -> tuple[list[Part], Candidate]:
    """Parts along a DenseNet, with a head of several layers if they end in one.

    Raises:
        NotADenseNet: they are none.
    """
    notes, first = (NOTE, *group.notes), max((i for i, part in enumerate(parts) if part.kind == "conv"), default=0) + 2
    tail = parts[first:]  # behind the last convolution and the norm that follows it
    if len(tail) < 2 or parts[first - 1].kind != "norm":
        return parts, arrange(Structure(INFERRED, parts, notes=notes), where)
    from converter.reading.longer_heads import Piece, chain_of, is_linear, told  # noqa: PLC0415 (for few)

    names = [split(part.keys["weight"])[0].rstrip("./") for part in tail]
    pieces = [Piece(name, part.kind, part.keys, *_widths(part)) for name, part in zip(names, tail)]
    linear = all(is_linear(one.name, group.classes.get(one.name)) for one in pieces if one.kind == "linear")
    chain = chain_of(pieces, parts[first - 1].tensors["weight"].shape[0], group.classes, flat=True) if linear else None
    if chain is None:
        raise NotADenseNet(f"{where}: no telling how {', '.join(names)} follow each other")
    parts = [*parts[:first], *(tail[pieces.index(piece)] for piece in chain.pieces)]
    structure = Structure(INFERRED, parts, settings={"head": tuple(map(str, chain.layers))}, notes=notes)
    return parts, replace(arrange(structure, where), graph={}, head_note=told(chain))  # assumed: no graph says it


def _widths(part: Part) -> tuple[int, int]:
    """What a linear layer or a norm takes and gives."""
    shape = part.tensors["weight"].shape
    return shape[-1], shape[0]


def _by_key(part: Part) -> Iterator[tuple[str, Tensor]]:
    return ((part.keys[leaf], tensor) for leaf, tensor in part.tensors.items())


def _parts(tensors: Mapping[str, Tensor], keys: Mapping[str, str]) -> Iterator[Part]:
    """Consecutive tensors of one name as modules, under the keys they have in the file."""
    for _, members in groupby(tensors.items(), key=lambda item: split(item[0])[0]):
        part = _part(dict(members))
        yield replace(part, keys={leaf: keys.get(name, name) for leaf, name in part.keys.items()})


def split(key: str) -> tuple[str, str]:
    """A key as module and leaf, the separator with the module's name dropped."""
    for name in sorted(NAMES, key=len, reverse=True):
        stem = key[: -len(name)]
        if key.endswith(name) and (not stem or not stem[-1].isalnum()):
            return stem, name
    return key, ""


def _part(members: Mapping[str, Tensor]) -> Part:
    leaves = {NAMES.get(split(key)[1], ""): key for key in members}
    tensors = {leaf: members[key] for leaf, key in leaves.items()}
    if "" in leaves or len(leaves) != len(members):
        raise NotADenseNet(f"no telling what {', '.join(members)} are")
    weight = tensors.get("weight")
    if weight is None:
        raise NotADenseNet(f"no telling what {', '.join(members)} are")
    dims = len(weight.shape)
    if "running_mean" in tensors and "running_var" in tensors and dims == 1:
        return Part("norm", tensors, leaves)
    if dims in (4, 5) and set(tensors) <= {"weight", "bias"}:
        return Part("conv", tensors, leaves)
    if dims == 2 and set(tensors) == {"weight", "bias"}:
        return Part("linear", tensors, leaves)
    if dims == 2 and set(tensors) == {"weight"}:
        bias = f"{leaves['weight']} (no bias: zeros)"
        return Part("linear", {**tensors, "bias": filled(weight.shape[0], 0.0, weight)}, {**leaves, "bias": bias})
    raise NotADenseNet(f"{leaves['weight']} of shape {list(weight.shape)} is of no kind that a DenseNet has")
