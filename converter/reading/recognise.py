"""Which layout is this, and which DenseNet?  Read from names and shapes alone.

Every layout is tried on every group of tensors; the one that accounts for every
tensor wins, and the config is read off the shapes.  Every source key ends as used,
or as dropped for a stated reason; anything else is an error that lists the keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from converter.core.checkpoint import Tensor
from converter.core.errors import NotADenseNet
from converter.layouts import LAYOUTS
from converter.layouts.layout import Layout, Leaf, Stored
from converter.reading.shapes import config_of
from converter.reading.wrappers import Group
from densenet.config import COUNTER, DenseNetConfig
from densenet.names import parse

MAX_BLOCKS = 8
LISTED = 6
NUMBER = re.compile(r"\d+")


BY_REQUEST = "left out by request"
"""Why a key that --drop matches is not used."""


class UnknownNames(NotADenseNet):
    """No layout knows any of the names."""


@dataclass(frozen=True)
class Candidate:
    """One layout tried on one group of tensors, and what came of it; ``graph`` is what the file's graph settles."""

    layout: Layout
    group: Group
    prefix: str
    config: DenseNetConfig | None = None
    used: Mapping[str, Stored] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()
    graph: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accounted(self) -> int:
        """How many source keys this reading explains."""
        return sum(len(stored.keys) for stored in self.used.values()) + len(self.dropped)

    @property
    def fits(self) -> bool:
        """Whether every tensor is accounted for."""
        return self.config is not None and not (self.missing or self.unexpected or self.misshapen or self.problem)

    def why_not(self) -> str:
        """What speaks against this reading, in one line; empty if it fits."""
        parts = [self.problem] if self.problem else []
        if self.missing:
            parts.append(f"missing {_some(self.missing)}{self._nearest()}")
        if self.unexpected:
            parts.append(f"unexpected {_some(self.unexpected)}")
        if self.misshapen:
            parts.append(_some(self.misshapen))
        return "; ".join(parts)

    def behind(self) -> list[str]:
        """Classes of the activations that a whole module has in its classifier."""
        head = self.prefix + self.layout.modules.get("classifier", " ")
        classes = self.group.classes.items()
        return sorted(
            {cls.rpartition(".")[2] for path, cls in classes if path.startswith(head) and ".activation." in cls}
        )

    def to_dict(self) -> dict[str, Any]:
        """This reading as plain JSON values."""
        return {
            "layout": self.layout.name,
            "inside": self.group.path,
            "prefix": self.prefix,
            "accounted": self.accounted,
            "of": len(self.group.tensors),
            "fits": self.fits,
            "against": self.why_not(),
        }

    def _nearest(self) -> str:
        from difflib import get_close_matches  # noqa: PLC0415 (for errors only)

        close = get_close_matches(self.missing[0], self.unexpected, 1, 0.6)
        return f" (nearest: {close[0]})" if close else ""


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
        NotADenseNet: no layout accounts for every tensor; says what came nearest.
    """
    tried: list[Candidate] = []
    layouts = LAYOUTS if layout is None else (layout,)
    for group in groups:
        tried += [candidate for known in layouts for candidate in _try(known, group, tuple(drop))]
    fitting = [candidate for candidate in tried if candidate.fits]
    if not fitting:
        raise _refusal(groups, tried, where, layout)
    first = next(group for group in groups if any(c.group is group for c in fitting))
    of_first = [candidate for candidate in fitting if candidate.group is first]
    most = max(len(c.used) for c in of_first)
    best = [candidate for candidate in of_first if len(candidate.used) == most]
    chosen = next((c for c in best if _signed(c) or c.layout.name == prefer), best[0])
    others = [c for c in fitting if c.group is not first]
    if others:
        chosen = replace(
            chosen, notes=(*chosen.notes, f"another set of weights is in {others[0].group.path or 'the file'}")
        )
    return chosen, tried


def _signed(candidate: Candidate) -> bool:
    return any(candidate.prefix + name in candidate.group.modules for name in candidate.layout.signature)


def _try(layout: Layout, group: Group, drop: tuple[str, ...]) -> list[Candidate]:
    best: dict[str, Candidate] = {}
    for prefix in _prefixes(layout, group.tensors):
        for blocks in range(1, MAX_BLOCKS + 1) if layout.depends_on_blocks else (0,):
            for deep in (False, True) if layout.has_deep_stem else (False,):
                candidate = _fit(layout, group, prefix, blocks, deep, drop)
                rank = (candidate.fits, candidate.accounted)
                if prefix not in best or rank > (best[prefix].fits, best[prefix].accounted):
                    best[prefix] = candidate
    return list(best.values())


def _prefixes(layout: Layout, tensors: Mapping[str, Tensor]) -> list[str]:
    """What stands before the layout's own names: ``module.``, ``model.encoder.`` ..."""
    anchors = layout.anchors()
    anchored = [key for key in tensors if key.endswith(anchors)]
    prefixes = {key[: -len(anchor)]: None for key in anchored for anchor in anchors if key.endswith(anchor)}
    return [prefix for prefix in prefixes if not prefix or not prefix[-1].isalnum()][:MAX_BLOCKS]


def _fit(layout: Layout, group: Group, prefix: str, blocks: int, deep: bool, drop: tuple[str, ...]) -> Candidate:
    parts: dict[str, dict[int, str]] = {}
    rest: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    for key, tensor in group.tensors.items():
        if any(fnmatchcase(key, pattern) for pattern in drop):
            dropped[key] = BY_REQUEST
            continue
        found = layout.match(key[len(prefix) :], blocks, deep) if key.startswith(prefix) else None
        if found:
            parts.setdefault(found[0], {})[found[1]] = key
        else:
            rest[key] = tensor
    notes: list[str] = []
    shapes = {
        name: _leaf(layout, name).shape(group.tensors[keys[0]].shape) for name, keys in parts.items() if 0 in keys
    }
    try:
        config = config_of(shapes, layout.network)
    except NotADenseNet as error:
        used = {name: Stored(_leaf(layout, name), tuple(keys.values())) for name, keys in parts.items()}
        return Candidate(layout, group, prefix, used=used, dropped=dropped, problem=str(error))
    if not config.num_classes:
        config, extra, note = _find_classifier(layout, config, rest)
        for name, key in extra.items():
            parts[name] = {0: key}
            shapes[name] = _leaf(layout, name).shape(rest.pop(key).shape)
        notes += [note] if note else []
    expected, wanted = layout.expand(config), config.tensors()
    used, missing, misshapen = {}, [], []
    for name, (leaf, keys) in expected.items():
        have = parts.pop(name, {})
        if len(have) == len(keys):
            used[name] = Stored(leaf, tuple(have[i] for i in range(len(keys))))
            if name in wanted and shapes[name] != wanted[name]:
                misshapen.append(_mismatch(used[name].keys[0], shapes[name], wanted[name], name, config))
        elif not leaf.optional:
            missing += [prefix + key for i, key in enumerate(keys) if i not in have]
    unexpected = [key for keys in parts.values() for key in keys.values()]
    outside, problem = _account(layout, prefix, rest, config, dropped)
    return Candidate(
        layout,
        group,
        prefix,
        config,
        used,
        dropped,
        tuple(missing),
        (*unexpected, *outside),
        tuple(misshapen),
        problem,
        tuple(notes),
    )


def _leaf(layout: Layout, name: str) -> Leaf:
    place = parse(name)
    return layout.leaves[f"{place.kind}.{place.leaf}"]


def _mismatch(key: str, have: Any, want: Any, name: str, config: DenseNetConfig) -> str:
    if name == "classifier.weight" and have[1:] != want[1:]:
        return (
            f"{key} takes {have[1] if len(have) > 1 else '?'} features where the network gives "
            f"{config.num_features}: there are layers between them, which a DenseNet does not have"
        )
    return f"{key} has shape {list(have)}, {config.name} needs {list(want)}"


def _find_classifier(
    layout: Layout, config: DenseNetConfig, rest: Mapping[str, Tensor]
) -> tuple[DenseNetConfig, dict[str, str], str]:
    """A classifier under a name of its own: the one leftover linear layer that takes the pooled features."""
    leaves = {k.partition(".")[2]: leaf for k, leaf in layout.leaves.items() if k.startswith("linear.")}
    if "weight" not in leaves or "bias" not in leaves or len(leaves["weight"].names) > 1:
        return config, {}, ""
    weight, bias = leaves["weight"].names[0], leaves["bias"].names[0]
    found = []
    for key, tensor in rest.items():
        stem = key.removesuffix(weight)
        if stem == key or stem + bias not in rest or len(tensor.shape) not in (2, 4):
            continue
        shape = leaves["weight"].shape(tensor.shape)
        if len(shape) != 2:
            continue
        classes, features = shape
        if features in (config.num_features, 2 * config.num_features) and rest[stem + bias].shape == (classes,):
            found.append((stem, classes, features))
    if len(found) != 1:
        return config, {}, ""
    stem, classes, features = found[0]
    pool = "catavgmax" if features > config.num_features else config.global_pool
    names = {"classifier.weight": stem + weight, "classifier.bias": stem + bias}
    return replace(config, num_classes=classes, global_pool=pool), names, f"the classifier is called {stem}"


def _account(
    layout: Layout, prefix: str, rest: Mapping[str, Tensor], config: DenseNetConfig, dropped: dict[str, str]
) -> tuple[list[str], str]:
    """State a reason for every key that is no part of the network, or report it as unexpected."""
    unexpected, outside = [], {}
    for key, tensor in rest.items():
        inside = key.startswith(prefix)
        reason = layout.ignored(key[len(prefix) :] if inside else key)
        if reason:
            dropped[key] = reason
        elif inside:
            unexpected.append(key)
        else:
            outside[key] = tensor
    strange = [key for key in outside if not _beside(key)]
    if strange:
        return unexpected, (
            f"outside {prefix!r} there are tensors that may compute something: {_some(strange)}; "
            f"leave them out with --drop if they do not"
        )
    dropped |= dict.fromkeys(outside, f"outside the network ({prefix!r})")
    return unexpected, ""


BESIDE = frozenset(
    "criterion loss loss_fn loss_function losses metric metrics train_metrics val_metrics test_metrics "
    "train_acc val_acc accuracy decoder segmentation_head".split()
)
"""What training frameworks keep beside a network: losses, metrics, a decoder that takes its features."""


def _beside(key: str) -> bool:
    parts = key.split(".")
    return parts[-1] in ("num_batches_tracked", "n_averaged") or any(part in BESIDE for part in parts[:3])


def _refusal(groups: Sequence[Group], tried: Sequence[Candidate], where: str, layout: Layout | None) -> NotADenseNet:
    """The error for a checkpoint that no layout fits: what it nearly is, or that it is something else."""
    at = f"{where}: " if where else ""
    if not groups:
        return NotADenseNet(f"{at}holds no named tensors to speak of; not a DenseNet checkpoint")
    near = max(
        tried, key=lambda c: (c.config is not None, c.accounted - len(c.missing), -len(c.unexpected)), default=None
    )
    if near is None or not near.used:
        keys = [key for key in groups[0].tensors if not key.endswith(COUNTER)]
        said = f"({len(keys)} tensors: {_some(keys)})"
        if layout is not None:
            return NotADenseNet(f"{at}not a DenseNet in the {layout.name} layout {said}; leave out --layout to try all")
        return UnknownNames(
            f"{at}not a DenseNet in any known layout {said}; if it is one, give its names with --layout FILE.toml"
        )
    what = near.config.name if near.config else "a DenseNet"
    return NotADenseNet(f"{at}nearly {what} in the {near.layout.name} layout, but {near.why_not()}")


def _some(names: Sequence[str]) -> str:
    """A few names; those that differ in their numbers alone as one: ``denselayer{1...6}.norm1.bias``."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(NUMBER.sub("#", name), []).append(name)
    merged = [text for group in alike.values() for text in (group if len(group) < 3 else [_template(group)])]
    text = ", ".join(merged[:LISTED])
    return text if len(merged) <= LISTED else f"{text} and {len(merged) - LISTED} more"


def _template(names: Sequence[str]) -> str:
    """Names of one form, with the range of every number that is not always the same."""
    columns = zip(*(map(int, NUMBER.findall(name)) for name in names))
    ranges = iter(str(min(c)) if min(c) == max(c) else f"{{{min(c)}...{max(c)}}}" for c in columns)
    return NUMBER.sub(lambda _: next(ranges), names[0])
