"""Which layout is this, and which DenseNet?  Read from names and shapes alone.

Every layout is tried on every group of tensors; the one that accounts for every
tensor wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from converter.core.checkpoint import Tensor
from converter.core.errors import NotADenseNet, NoTensors
from converter.layouts import LAYOUTS
from converter.layouts.layout import Layout
from converter.reading.candidate import Candidate, some
from converter.reading.choice import PLAIN, is_network, rank
from converter.reading.fit import attempts, dropped_by, unread_message
from converter.reading.other_networks import other_network
from converter.reading.wrappers import Group
from densenet.module import COUNTER

TOGETHER = "what joins them"
"""The class of a network whose parts stand beside each other in a file."""


class Unrecognised(NotADenseNet):
    """No layout accounts for every tensor.

    Attributes:
        tried: all readings, each with what speaks against it.
        tensors: what the file holds where the network should be.
    """

    def __init__(
        self, message: str, tried: Sequence[Candidate] = (), tensors: Mapping[str, Tensor] = MappingProxyType({})
    ) -> None:
        super().__init__(message)
        self.tried, self.tensors = tuple(tried), tensors


class UnknownNames(Unrecognised):
    """No layout knows any of the names."""


def recognise(
    groups: Sequence[Group],
    *,
    layout: Layout | None = None,
    drop: Iterable[str] = (),
    where: str = "",
    prefer: str = "",
) -> tuple[Candidate, list[Candidate]]:
    """The best reading of a checkpoint, and all that were tried.

    Args:
        groups: the tensors, best group first.
        layout: try this layout only.
        drop: glob patterns of keys to leave out by request.
        where: names the file in errors.
        prefer: name of the layout to take where several fit equally well.

    Raises:
        NotADenseNet: no layout accounts for every tensor of the preferred group; says what came nearest.
    """
    layouts, globs = LAYOUTS if layout is None else (layout,), tuple(drop)
    readings = [attempts(layouts, group, globs) for group in groups]
    tried = [candidate for found in readings for candidate in found]
    at = next((i for i, found in enumerate(readings) if any(c.fits for c in found)), None)
    if at is None:
        raise _refusal(groups, tried, where, layout, globs)
    for group, found in zip(groups[:at], readings):
        if _competes(group, found, groups[at]):
            error = _refusal([group], found, where, layout, globs)
            place = groups[at].path or "''"
            raise Unrecognised(f"{error} (in {group.path or 'the top of the file'}); {_offer(place)}", tried)
    chosen = _best(readings[at], prefer)
    others = [group.path or "the file" for group, found in zip(groups[at + 1 :], readings[at + 1 :]) if _fit_any(found)]
    if others:
        note = f"another set of weights is in {others[0]} (--weights {others[0]})"
        chosen = replace(chosen, notes=(*chosen.notes, note))
    joined = _with_head(chosen, groups, readings, layouts, globs)
    if isinstance(joined, Candidate):
        return joined, [*tried, joined]
    if joined:
        raise NotADenseNet(f"{where}: {joined}" if where else joined)
    return chosen, tried


def _fit_any(found: Sequence[Candidate]) -> bool:
    return any(candidate.fits for candidate in found)


def _offer(place: str) -> str:
    return f"the weights at {place} would fit: --weights {place} reads them"


def _best(found: Sequence[Candidate], prefer: str) -> Candidate:
    fitting = [candidate for candidate in found if candidate.fits]
    most = max(len(c.used) for c in fitting)
    best = [candidate for candidate in fitting if len(candidate.used) == most]
    return next((c for c in best if _signed(c) or c.layout.name == prefer), best[0])


def _signed(candidate: Candidate) -> bool:
    return any(candidate.prefix + name in candidate.group.modules for name in candidate.layout.signature)


def _competes(group: Group, found: Sequence[Candidate], chosen: Group) -> bool:
    """Whether a set of weights that does not fit is to be preferred to one that does, all the same."""
    nearly = any(candidate.config is not None for candidate in found) or bool(group.unread or group.problem)
    return nearly or (rank(group.path) < rank(chosen.path) and is_network(group.tensors))


def _with_head(
    chosen: Candidate,
    groups: Sequence[Group],
    readings: Sequence[Sequence[Candidate]],
    layouts: Sequence[Layout],
    drop: Sequence[str],
) -> Candidate | str:
    """The network joined with the head that stands beside it in the file; or why it cannot be; or nothing to say."""
    group = chosen.group
    if chosen.config is None or chosen.config.num_classes or not group.path:
        return ""
    parent, _, own = group.path.rpartition(".")
    beside = {name: other for name, other in group.siblings.items() if name != own and is_network(other.tensors)}
    full = [
        other.path
        for other, found in zip(groups, readings)
        if other.path.rpartition(".")[0] == parent
        and other.path not in (group.path, parent)
        and rank(other.path) == PLAIN
        and is_network(other.tensors)
        and not any(candidate.config for candidate in found)
    ]
    if not beside and not full:
        return ""
    if not full:
        whole = next(other for other in groups if other.path == group.path)
        joined = _joined(parent, own, whole, beside)
        found = attempts(layouts, joined, drop)
        if _fit_any(found) and (best := _best(found, "")).config is not None and best.config.num_classes:
            return best
    strange = ", ".join((*beside, *full)) or "beside it"
    return (
        f"{group.path} is a DenseNet without a head, and what {strange} does with its features is not known; "
        f"--weights {group.path} reads the network alone"
    )


def _joined(parent: str, own: str, group: Group, beside: dict[str, Group]) -> Group:
    """One group of a network and what stands beside it, each under its name."""
    members = {own: group, **beside}

    def merged(part: str) -> dict[str, object]:
        values = {name: getattr(member, part) for name, member in members.items()}
        return {f"{name}.{key}".strip("."): value for name, of in values.items() for key, value in of.items()}

    sources = {f"{name}.{key}".strip("."): v for name, member in members.items() for key, v in member.sources.items()}
    return Group(
        parent,
        merged("tensors"),  # type: ignore[arg-type]
        frozenset(f"{name}.{module}".strip(".") for name, member in members.items() for module in member.modules),
        merged("attributes"),  # type: ignore[arg-type]
        {"": TOGETHER, **merged("classes")} if any(member.classes for member in members.values()) else {},  # type: ignore[dict-item]
        merged("unread"),  # type: ignore[arg-type]
        sources,
        notes=group.notes,
    )


def _refusal(
    groups: Sequence[Group], tried: Sequence[Candidate], where: str, layout: Layout | None, drop: Sequence[str]
) -> NotADenseNet:
    """The error for a checkpoint that no layout fits: what it nearly is, or that it is something else."""
    at = f"{where}: " if where else ""
    if not groups:
        return NoTensors(f"{at}holds no named tensors to speak of; not a DenseNet checkpoint")
    first = groups[0]
    unread = {key: what for key, what in first.unread.items() if key not in dropped_by(drop, first)}
    if first.problem or unread:
        return NotADenseNet(f"{at}{first.problem or unread_message(unread)}")
    near = max(
        tried, key=lambda c: (c.config is not None, c.accounted - len(c.missing), -len(c.unexpected)), default=None
    )
    if near is None or not near.used:
        keys = [key for key in first.tensors if not key.endswith(COUNTER)]
        said = f"({len(keys)} tensors: {some(keys)})"
        if layout is not None:
            return Unrecognised(
                f"{at}not a DenseNet in the {layout.name} layout {said}; leave out --layout to try all",
                tried,
                first.tensors,
            )
        if other := other_network(first.tensors):
            return UnknownNames(
                f"{at}not a DenseNet in any known layout but, by its names, {other} {said}", tried, first.tensors
            )
        advice = "if it is one, give its names with --layout FILE.toml"
        return UnknownNames(f"{at}not a DenseNet in any known layout {said}; {advice}", tried, first.tensors)
    if near.config is None and (other := other_network(first.tensors)):
        return Unrecognised(f"{at}not a DenseNet but, by its names, {other}", tried, first.tensors)
    what = near.config.name if near.config else "a DenseNet"
    return Unrecognised(
        f"{at}nearly {what} in the {near.layout.name} layout, but {near.why_not()}", tried, first.tensors
    )
