"""One layout tried on one group of tensors.

The config is read off the shapes; then every source key ends as used, or as dropped
for a stated reason, or speaks against the layout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Tensor
from converter.core.errors import NotADenseNet
from converter.layouts.layout import Layout, Leaf, Stored, anchors
from converter.reading.beside_network import metrics, why_beside
from converter.reading.candidate import Candidate, some
from converter.reading.heads import as_matrix, filled, find_heads, matrix_shape
from converter.reading.shapes import config_of
from converter.reading.wrappers import Group
from densenet.config import DenseNetConfig
from densenet.module import COUNTER, NORM_TENSORS
from densenet.names import parse

BY_REQUEST = "left out by request"
"""Why a key that --drop matches is not used."""
ASSUMED_HEAD = "the head is read as {}: a ReLU is assumed where it has no tensors; --set head=... changes it"
SEVERAL_HEADS = "there are {} heads, {}; --head NAME reads one of them"
NORMALISES = "normalises images before the network"


def attempts(layouts: Iterable[Layout], group: Group, drop: Sequence[str]) -> list[Candidate]:
    """Layouts tried on a group, each once for everything that may stand before its names."""
    layouts = tuple(layouts)
    near = anchored(layouts, group.tensors)
    return [found for layout in layouts for found in _attempts(layout, group, near, drop)]


def _attempts(layout: Layout, group: Group, near: Iterable[str], drop: Sequence[str]) -> list[Candidate]:
    best: dict[str, Candidate] = {}
    for prefix in prefixes(layout, near):
        for blocks in range(1, bounds.BLOCKS + 1) if layout.depends_on_blocks else (0,):
            for deep in (False, True) if layout.has_deep_stem else (False,):
                candidate = _fit(layout, group, prefix, blocks, deep, drop)
                rank = (candidate.fits, candidate.accounted)
                if prefix not in best or rank > (best[prefix].fits, best[prefix].accounted):
                    best[prefix] = candidate
    return list(best.values())


def anchored(layouts: Iterable[Layout], keys: Iterable[str]) -> list[str]:
    """The few keys that end as names of first layers do in one of the layouts: what :func:`prefixes` has to look at."""
    ends = tuple({anchor: None for layout in layouts for anchor in anchors(layout)})
    return [key for key in keys if key.endswith(ends)]


def prefixes(layout: Layout, keys: Iterable[str]) -> list[str]:
    """What stands before the layout's own names: ``module.``, ``model.encoder.`` ..."""
    ends = anchors(layout)
    found = {key[: -len(end)]: None for key in keys if key.endswith(ends) for end in ends if key.endswith(end)}
    return [prefix for prefix in found if not prefix or not prefix[-1].isalnum()][: bounds.BLOCKS]


def root_of(prefix: str, other: str) -> str:
    """The first part of a prefix that is not the other's, with what stands before it."""
    parts, theirs = prefix.split("."), other.split(".")
    at = next((i for i, part in enumerate(parts) if i >= len(theirs) or part != theirs[i]), len(parts))
    root = ".".join(parts[: at + 1])
    return f"{root}." if root else ""


def dropped_by(drop: Sequence[str], group: Group) -> dict[str, str]:
    """Keys that are to be left out, by the names they have in the file or here."""
    if not drop:
        return {}
    names = {key: (key, *group.names(key)) for key in (*group.tensors, *group.unread)}
    return {k: BY_REQUEST for k, all_names in names.items() if any(fnmatchcase(n, g) for n in all_names for g in drop)}


@dataclass
class _Fit:
    """What is known so far of one reading."""

    layout: Layout
    group: Group
    prefix: str
    parts: dict[str, dict[int, str]] = field(default_factory=dict)
    """Library tensor to the keys of its arrays."""
    rest: dict[str, Tensor] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    used: dict[str, Stored] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    head_note: str = ""
    problem: str = ""

    def leaf(self, name: str) -> Leaf:
        """How the layout stores a library tensor."""
        place = parse(name)
        return self.layout.leaves[f"{place.kind}.{place.leaf}"]

    def use(self, name: str, key: str, tensor: Tensor) -> None:
        """A tensor of our own making, or in another shape, under a name of the group's."""
        self.group = replace(self.group, tensors={**self.group.tensors, key: tensor})
        self.parts[name] = {0: key}
        self.shapes[name] = self.leaf(name).shape(tensor.shape)
        self.used[name] = Stored(self.leaf(name), (key,))


def _fit(layout: Layout, group: Group, prefix: str, blocks: int, deep: bool, drop: Sequence[str]) -> Candidate:
    dropped = {**group.dropped, **dropped_by(drop, group)}
    fit = _Fit(layout, group, prefix)
    for key, tensor in group.tensors.items():
        if key in dropped:
            continue
        found = layout.match(key[len(prefix) :], blocks, deep) if key.startswith(prefix) else None
        if found:
            fit.parts.setdefault(found[0], {})[found[1]] = key
        else:
            fit.rest[key] = tensor
    for name, keys in fit.parts.items():
        if 0 in keys:
            shape = group.tensors[keys[0]].shape
            fit.shapes[name] = fit.leaf(name).shape(matrix_shape(shape) if name == "classifier.weight" else shape)
    try:
        config = config_of(fit.shapes, layout.network)
    except NotADenseNet as error:
        used = {name: Stored(fit.leaf(name), tuple(keys.values())) for name, keys in fit.parts.items()}
        return Candidate(layout, group, prefix, used=used, dropped=dropped, problem=str(error))
    config = _head(fit, config)
    unfolded = _unfold(fit, config)
    _bare(fit, config)
    missing, misshapen = _compare(fit, config, unfolded)
    unexpected, problem = _account(fit, config, dropped)
    if unfolded and config.stem == "cifar":
        problem = problem or "its norms are folded into convolutions, and a stem of this size cannot be told"
    return Candidate(
        layout,
        fit.group,
        prefix,
        config,
        fit.used,
        dropped,
        missing,
        unexpected,
        misshapen,
        fit.problem or problem or _unread(group, dropped),
        (*group.notes, *fit.notes),
        fit.head_note,
        unfolded=unfolded,
    )


def _head(fit: _Fit, config: DenseNetConfig) -> DenseNetConfig:
    """The network with its head, whatever that is called, and whether it is a convolution or lacks a bias."""
    if (longer := _longer_head(fit, config)) is not None:
        return longer
    tensors = fit.group.tensors
    weight, bias = ({**fit.parts.get(f"classifier.{leaf}", {})}.get(0) for leaf in ("weight", "bias"))
    if not config.num_classes and weight is None and bias is None:
        in_use = {id(tensors[key]) for keys in fit.parts.values() for key in keys.values()}
        free = {key: tensor for key, tensor in fit.rest.items() if id(tensor) not in in_use}
        heads = find_heads(fit.layout, config, free, fit.group)
        if len(heads) > 1:
            fit.problem = SEVERAL_HEADS.format(len(heads), some([head.name for head in heads]))
        if len(heads) != 1:
            return config
        head = heads[0]
        weight, bias = head.weight, head.bias
        fit.notes.append(f"the classifier is called {head.name}")
        fit.use("classifier.weight", weight, fit.rest.pop(weight))
        if bias is not None:
            fit.use("classifier.bias", bias, fit.rest.pop(bias))
        pool = "catavgmax" if head.features > config.num_features else config.global_pool
        config = replace(config, num_classes=head.classes, global_pool=pool)
    if weight is None or not config.num_classes:
        return config
    if tensors[weight].shape != matrix_shape(tensors[weight].shape):
        fit.use("classifier.weight", weight, as_matrix(tensors[weight]))
        fit.notes.append(f"the head {weight} is a 1x1 convolution, which gives the same behind average pooling")
    if bias is None and fit.leaf("classifier.weight").names == (".weight",):
        fit.use(
            "classifier.bias",
            f"{weight.removesuffix('weight')}bias (none: zeros)",
            filled(config.num_classes, 0.0, tensors[weight]),
        )
        fit.notes.append(f"the head {weight} has no bias: zeros are taken")
    return config


def _longer_head(fit: _Fit, config: DenseNetConfig) -> DenseNetConfig | None:
    """The network with a head of several layers, if there is one under whatever names."""
    tensors, layout = fit.group.tensors, fit.layout
    if config.head:
        if any(layer.is_activation for layer in config.head_layers):
            fit.head_note = ASSUMED_HEAD.format(",".join(config.head))
        return None
    in_use = {id(tensors[key]) for keys in fit.parts.values() for key in keys.values()}
    rest: dict[str, Tensor] = {}
    counting, headless = metrics(fit.rest), replace(config, num_classes=0)
    for key, tensor in fit.rest.items():
        inside = key.startswith(fit.prefix)
        known = layout.ignored(key[len(fit.prefix) :] if inside else key)
        beside = why_beside(key, tensor, headless, counting) and not key.endswith(COUNTER)
        if not (known or beside or id(tensor) in in_use):
            rest[key] = tensor
    own = {key: tensors[key] for leaf in ("weight", "bias") for key in fit.parts.get(f"classifier.{leaf}", {}).values()}
    rest |= own  # the last of them, where the layout knows its name
    if len(rest) < 3 or any(len(matrix_shape(tensor.shape)) > 2 for tensor in rest.values()):
        return None
    from converter.reading.longer_heads import find_chain, told  # noqa: PLC0415 (for few)

    chain = find_chain(layout, config, rest, fit.group)
    if chain is None or (own and not set(own) & set(chain.pieces[-1].keys.values())):
        return None
    around = fit.prefix.rstrip("./").rpartition(".")[0]  # the module that holds the network's features
    if len({piece.name.startswith(f"{around}.") for piece in chain.pieces}) > 1 and around:
        return None
    numbers = [i for i, layer in enumerate(chain.layers) if not layer.is_activation]
    names = [f"head.{i}.{chain.layers[i].kind}" for i in numbers] + ["classifier"]
    for name, piece in zip(names, chain.pieces):
        for leaf, key in piece.keys.items():
            tensor = rest[key]
            fit.use(f"{name}.{leaf}", key, as_matrix(tensor) if (piece.kind, leaf) == ("linear", "weight") else tensor)
            fit.rest.pop(key, None)
    last = chain.pieces[-1]
    if "bias" not in last.keys:
        key = last.keys["weight"]
        fit.use("classifier.bias", f"{last.name} (no bias: zeros)", filled(last.gives, 0.0, tensors[key]))
    config = replace(config, head=tuple(map(str, chain.layers)), num_classes=last.gives)
    if chain.pieces[0].takes > config.num_features:
        config = replace(config, global_pool="catavgmax")
    convolved = any(len(rest[piece.keys["weight"]].shape) > 2 for piece in chain.pieces) and len(chain.pieces) > 1
    fit.head_note = told(chain, ", its convolutions taken to follow the pooling" if convolved else "")
    return config


def _unfold(fit: _Fit, config: DenseNetConfig) -> dict[str, str]:
    """Norms without any tensor whose convolution has a bias: they were folded into it."""
    unfolded: dict[str, str] = {}
    conv = ""
    for module in config.modules():
        if module.kind == "conv":
            conv = module.name
        elif module.kind == "norm" and not any(f"{module.name}.{leaf}" in fit.parts for leaf in NORM_TENSORS):
            follows = module.place.part == "stem" or module.place.ends_layer
            bias = fit.parts.get(f"{conv}.bias", {}).get(0)
            if follows and bias is not None:
                unfolded[module.name] = bias
                del fit.parts[f"{conv}.bias"]
                fit.used[f"{module.name}.bias"] = Stored(fit.leaf(f"{conv}.weight"), (bias,))
    if unfolded:
        fit.notes.append(
            "norms that were folded into the convolutions before them are written as norms that add the bias"
        )
    return unfolded


def _bare(fit: _Fit, config: DenseNetConfig) -> None:
    """Norms that only normalise: where none of a network has a scale, or none a shift, it is 1, or 0."""
    norms = [m for m in config.modules() if m.kind == "norm" and not m.name.startswith("head")]
    for leaf, value in (("weight", 1.0), ("bias", 0.0)):
        means = [fit.parts.get(f"{m.name}.running_mean", {}).get(0) for m in norms]
        if any(f"{m.name}.{leaf}" in fit.parts for m in norms) or fit.leaf(f"{norms[0].name}.{leaf}").optional:
            continue
        for module, mean in zip(norms, means):
            if mean is not None and fit.shapes[f"{module.name}.running_mean"] == module.shape:
                called = f"{mean.rpartition('.')[0]}.{leaf} (none: {value:g})"
                fit.use(f"{module.name}.{leaf}", called, filled(module.shape[0], value, fit.group.tensors[mean]))
        if any(f"{m.name}.{leaf}" in fit.used for m in norms):
            fit.notes.append(f"no norm has a {leaf}: {value:g} is taken")


def _compare(fit: _Fit, config: DenseNetConfig, unfolded: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the layout expects and what there is: names that are missing, and shapes that differ."""
    wanted = config.tensors()
    missing, misshapen = [], []
    for name, (leaf, keys) in fit.layout.expand(config).items():
        have = fit.parts.pop(name, {})
        if name in fit.used or name.rpartition(".")[0] in unfolded:
            if name in wanted and fit.shapes.get(name, wanted[name]) != wanted[name]:
                misshapen.append(_mismatch(fit.used[name].keys[0], fit.shapes[name], wanted[name], name, config))
        elif len(have) == len(keys):
            fit.used[name] = Stored(leaf, tuple(have[i] for i in range(len(keys))))
            if name in wanted and fit.shapes[name] != wanted[name]:
                misshapen.append(_mismatch(fit.used[name].keys[0], fit.shapes[name], wanted[name], name, config))
        elif not leaf.optional:
            missing += [fit.prefix + key for i, key in enumerate(keys) if i not in have]
    for name in fit.used:
        fit.parts.pop(name, None)
    return tuple(missing), tuple(misshapen)


def _mismatch(key: str, have: Any, want: Any, name: str, config: DenseNetConfig) -> str:
    if name == "classifier.weight" and have[1:] != want[1:]:
        return (
            f"{key} takes {have[1] if len(have) > 1 else '?'} features where the network gives "
            f"{config.num_features}: there are layers between them that are not known"
        )
    return f"{key} has shape {list(have)}, {config.name} needs {list(want)}"


def _normalising(group: Group) -> Collection[str]:
    """Paths of modules that normalise images, in a network pickled whole."""
    if not group.classes:
        return ()
    from converter.reading.module_tree import normalising  # noqa: PLC0415 (for whole modules)

    return normalising(group)


def _account(fit: _Fit, config: DenseNetConfig, dropped: dict[str, str]) -> tuple[tuple[str, ...], str]:
    """State a reason for every key that is no part of the network, or report it: as unexpected, or as a problem."""
    prefix, layout, tensors = fit.prefix, fit.layout, fit.group.tensors
    in_use = {id(tensors[key]): key for stored in fit.used.values() for key in stored.keys}
    before, counting = _normalising(fit.group), metrics(fit.rest)
    unexpected = [key for keys in fit.parts.values() for key in keys.values()]
    outside: list[str] = []
    for key, tensor in fit.rest.items():
        inside = key.startswith(prefix)
        reason = layout.ignored(key[len(prefix) :] if inside else key) or why_beside(key, tensor, config, counting)
        if not reason and id(tensor) in in_use:
            reason = f"the same tensor as {in_use[id(tensor)]}"
        if not reason and key.rpartition(".")[0] in before:
            reason = NORMALISES
        if reason:
            dropped[key] = reason
        else:
            (unexpected if inside else outside).append(key)
    unexpected = [key for key in unexpected if not _alias(key, tensors, in_use, dropped)]
    if not outside:
        return tuple(unexpected), ""
    several = prefixes(layout, outside)
    if several:
        names = ", ".join(repr(name) for name in (prefix, *several))
        alone = _alone(fit, (prefix, *several), outside)
        return (
            tuple(unexpected),
            f"there are several networks, {names}, and what is made of their outputs is not known{alone}",
        )
    later = _layers(outside, fit, config)
    return tuple(unexpected), later or (
        f"outside {prefix!r} there are tensors that may compute something: {some(outside)}"
    )


def _alone(fit: _Fit, found: Sequence[str], outside: Sequence[str]) -> str:
    """How to read one of several networks, where nothing else is beside them."""
    roots = [root_of(one, found[1] if one == found[0] else found[0]) for one in found]
    if not all(roots) or any(not key.startswith(tuple(roots)) for key in outside):
        return ""
    places = [".".join(filter(None, (fit.group.path, root.rstrip(".")))) for root in roots]
    return f"; --weights {places[0]} reads that one alone, or --weights {' or '.join(places[1:3])}"


def _alias(key: str, tensors: Mapping[str, Tensor], in_use: Mapping[int, str], dropped: dict[str, str]) -> bool:
    """Whether an unexpected tensor is there under another name."""
    other = in_use.get(id(tensors[key]))
    if other is not None and other != key:
        dropped[key] = f"the same tensor as {other}"
        return True
    return False


def _layers(keys: Sequence[str], fit: _Fit, config: DenseNetConfig) -> str:
    """What to say where leftover linear layers and the one that was found make a head of several; else nothing."""
    head = fit.used.get("classifier.weight")
    for key in keys:
        shape = matrix_shape(fit.group.tensors[key].shape)
        if head and len(shape) == 2 and shape[1] == config.num_classes and key not in head.keys:
            others = [other for other in keys if other.rpartition(".")[0] != key.rpartition(".")[0]]
            return f"{key} takes what {head.keys[0]} gives: there are layers between the features and the logits" + (
                f", of which {some(others)} are not known" if others else " that are not known"
            )
    return ""


def _unread(group: Group, dropped: Mapping[str, str]) -> str:
    """What to say of values that cannot be read; empty if there are none."""
    if group.problem:
        return group.problem
    unread = {key: what for key, what in group.unread.items() if key not in dropped}
    return unread_message(unread)


def unread_message(unread: Mapping[str, str]) -> str:
    """Values that cannot be read, in one line; empty if there are none."""
    kinds: dict[str, list[str]] = {}
    for key, what in unread.items():
        kinds.setdefault(what, []).append(key)
    return "; ".join(f"{some(keys)} {'is' if len(keys) == 1 else 'are'} {what}" for what, keys in kinds.items())
