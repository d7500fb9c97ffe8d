"""Which of several sets of weights in a file is meant.

The weights a trainer evaluates beat those it steps, and both beat copies kept for other
ends (a teacher, where training started, arguments).  Where the preferred set is no
DenseNet, that is the answer; no other set is taken because it happens to fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from converter.core.checkpoint import Tensor
from converter.layouts import LAYOUTS
from converter.reading.channels_last import channels_first
from converter.reading.fit import anchored, prefixes, root_of
from converter.reading.flax import from_flax
from converter.reading.parametrizations import computed
from converter.reading.renaming import renamed
from converter.reading.wrappers import Group, groups

AVERAGED, PLAIN, COPY = range(3)
"""How much a set of weights is to be preferred, best first."""

NAMES = (
    (AVERAGED, r"(?i)(^|[._])(ema|swa|averaged?|average|polyak|shadow)([._]|$)|_ema$"),
    (
        COPY,
        (
            r"(?i)(^|[._])(teachers?|pretrained|pretrain|imagenet|init|initial|original|old|previous|prev|backup|momentum|"
            r"source_model|source_net|ref_model|reference_model|discriminator|critic|lr_finder\w*|"
            r"target|encoder_k|key_encoder|hyper_parameters|hparams|hyperparams|args|config|cfg|options|"
            r"current_model_state)([._]|$)"
        ),
    ),
)
"""Names of places, or of modules around a network, and what stands there.  Averages are what trainers evaluate
(timm: load_checkpoint(use_ema=True)); ``current_model_state`` is what Lightning's WeightAveraging steps."""

MMENGINE = ("message_hub", "meta")
"""Beside these ``state_dict`` has the average and ``ema_state_dict`` the raw weights (mmengine's EMAHook)."""

OTHER_SET = "of another set of weights in the same file"


def rank(name: str) -> int:
    """How much the weights at a place, or under a prefix, are to be preferred; less is better."""
    return next((preference for preference, pattern in NAMES if name and re.search(pattern, name)), PLAIN)


def sets_of_weights(tree: Any) -> list[Group]:
    """Every set of weights in a tree, the one to prefer first, with plain names and plain tensors."""
    found = [part for group in groups(tree) for part in _copies(_plain(group))]
    swapped = isinstance(tree, dict) and any(name in tree for name in MMENGINE)

    def preference(group: Group) -> int:
        ranked = rank(group.path)
        return COPY if swapped and ranked == AVERAGED else ranked

    return sorted(found, key=preference)


def _plain(group: Group) -> Group:
    siblings = {name: renamed(computed(other)) for name, other in group.siblings.items()}
    return replace(channels_first(from_flax(renamed(computed(group)))), siblings=siblings)


def sets_under_prefixes(groups: Sequence[Group]) -> list[Group]:
    """Networks beside each other in one group (``net_a.*`` and ``net_b.*``), each alone: for who names one of them."""
    found: dict[str, Group] = {}
    for group in groups:
        near = anchored(LAYOUTS, group.tensors)
        for layout in LAYOUTS:
            several = prefixes(layout, near)
            for prefix in several if len(several) > 1 else ():
                alone = _one(group, prefix, [other for other in several if other != prefix])
                found.setdefault(alone.path, alone)
    return list(found.values())


def _copies(group: Group) -> list[Group]:
    """The sets of weights in one group of tensors: ``student.*`` and ``teacher.*`` in one state dict."""
    near = anchored(LAYOUTS, group.tensors)
    for layout in LAYOUTS:
        found = prefixes(layout, near)
        if len(found) > 1 and len({rank(prefix) for prefix in found}) > 1:
            return [_one(group, prefix, [other for other in found if other != prefix]) for prefix in found]
    return [group]


def _one(group: Group, prefix: str, others: Sequence[str]) -> Group:
    """The group without the other sets in it."""
    roots = tuple(root for other in others if (root := root_of(other, prefix)))
    own = {key[len(prefix) :] for key in group.tensors if key.startswith(prefix)}

    def foreign(key: str) -> bool:
        if key.startswith(roots):
            return True
        return not key.startswith(prefix) and any(not other and key in own for other in others)

    def kept(values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if not f"{key}.".startswith(roots)}

    tensors = {key: tensor for key, tensor in group.tensors.items() if not foreign(key)}
    place = root_of(prefix, others[0]).rstrip(".")
    return replace(
        group,
        path=".".join(filter(None, (group.path, place))),
        tensors=tensors,
        attributes=kept(group.attributes),
        classes=kept(group.classes),
        unread={key: what for key, what in group.unread.items() if not foreign(key)},
        dropped={**group.dropped, **{key: OTHER_SET for key in group.tensors if key not in tensors}},
    )


def is_network(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors can be a network at all, and not counters or moments."""
    return any(len(tensor.shape) > 1 for tensor in tensors.values())
