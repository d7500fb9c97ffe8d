"""A network that was read off its graph, under the names of a layout that means the same by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from converter.core.errors import ConverterError, NotADenseNet
from converter.layouts.layout import Layout, Leaf
from converter.reading.candidate import Candidate
from converter.reading.fit import dropped_by
from converter.reading.longer_heads import renumbered
from converter.reading.recognise import recognise
from converter.reading.wrappers import Group
from densenet.module import COUNTER
from densenet.names import parse


def by_names(
    arranged: Candidate,
    groups: Sequence[Group],
    *,
    layout: Layout | None = None,
    drop: Sequence[str] = (),
    where: str = "",
    prefer: str = "",
) -> Candidate:
    """The same tensors as a layout names them, with what the graph says; as they were arranged, if none means that.

    Args:
        arranged: the network as its graph computes it.
        groups: the file's tensors by name, best first.
        layout, drop: the user's wishes; what does not agree with the graph is an error then.
        where: names the file in errors.
        prefer: name of the layout to take where several fit equally well.

    Raises:
        NotADenseNet: the layout means other tensors than the graph does.
    """
    plain = [replace(group, classes={}, attributes={}, problem="") for group in groups]
    wished = layout is not None or bool(drop)
    try:
        named, _ = recognise(plain, layout=layout, drop=drop, where=where, prefer=prefer)
    except ConverterError:
        if wished:
            raise
        return arranged
    named = _with_head(named, arranged)
    other = _difference(arranged, named, drop)
    if other and wished:
        raise NotADenseNet(f"{where}: its graph has something else at {other} than the {named.layout.name} layout")
    if other:
        return arranged
    notes = (*named.notes, *arranged.notes)
    return replace(
        named,
        notes=notes,
        graph=arranged.graph,
        front=arranged.front,
        activation=arranged.activation,
        eps=arranged.eps,
    )


def _with_head(named: Candidate, arranged: Candidate) -> Candidate:
    """With the activations of the head that the graph has; as it is where that has other layers."""
    if named.config is None or arranged.config is None or named.config.head == arranged.config.head:
        return named
    try:
        modules = renumbered(named.config, arranged.config)
    except ConverterError:
        return named
    places = {name: parse(name) for name in named.used}
    used = {f"{modules.get(p.module, p.module)}.{p.leaf}": named.used[name] for name, p in places.items()}
    return replace(named, config=replace(named.config, head=arranged.config.head), used=used)


def _difference(arranged: Candidate, named: Candidate, drop: Sequence[str]) -> str:
    """The first library name under which the two have different tensors; nothing if they agree."""
    left_out = dropped_by(drop, named.group)
    wanted = {id(arranged.group.tensors[stored.keys[0]]): name for name, stored in arranged.used.items()}
    for name, stored in named.used.items():
        if name.endswith(COUNTER):
            continue
        plain = len(stored.keys) == 1 and stored.leaf.read is Leaf(stored.leaf.names).read
        if not plain or wanted.pop(id(named.group.tensors[stored.keys[0]]), "") != name:
            return name
    dropped = {id(tensor) for key, tensor in named.group.tensors.items() if key in left_out}
    return next((name for tensor, name in wanted.items() if tensor not in dropped), "")
