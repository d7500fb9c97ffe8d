"""What training keeps beside a network: losses and their weights, metrics, counters.  Nothing that computes logits."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import numpy as np

from converter.core.checkpoint import Tensor
from densenet.config import DenseNetConfig
from densenet.module import COUNTER

# Patterns are text, which re compiles where a file has something to be held against them.
LOSS = r"(^|_)(loss|losses|criterion|criteria|crit|focal|bce|objective)(_|\d|$)"
"""A module of this name is a loss."""
LOSS_WEIGHTS = r"(^|_)(class|classes|cls|pos|neg|label|loss|category|ce|bce)_?weights?$"
"""A tensor of this name is what a loss weighs classes with."""
METRIC = r"(^|_)(metrics?|accuracy|acc|auroc|auc|f1|confmat|meters?)(_|\d|$)"
"""A module of this name counts how good the network is."""
COUNTED = r"confmat|[tf][pn]|(sum|mean|max|min)_value|sum_(squared|abs)_error|correct|total"
"""What torchmetrics calls the states of its metrics (classification/stat_scores.py, aggregation.py ...)."""

RANDOM = r"(^|[./])(seed_generator(_\d+|_state)?|statevar|rng_state)([./]|$)"
"""What Keras' augmentation keeps of its generators of random numbers."""

PROGRESS = r"(best(_\w+)?|(global_)?step|epoch|iterations?|learning_rate|lr|patience)"
"""What training remembers of itself, in numbers."""

DEPTH = 3
"""So near the top a loss or a metric stands."""


def metrics(keys: Iterable[str]) -> frozenset[str]:
    """Modules, in lower case, that hold what only a metric counts."""
    named = (key.lower().rpartition(".") for key in keys)
    return frozenset(module for module, _, leaf in named if module and re.fullmatch(COUNTED, leaf))


def why_beside(key: str, tensor: Tensor, config: DenseNetConfig, counting: Collection[str] = ()) -> str:
    """Why a tensor is no part of the network; empty if it may compute something.

    Args:
        key: its name.
        tensor: its shape and type.
        config: the network it was found beside.
        counting: modules beside it that are metrics (:func:`metrics`).
    """
    *modules, leaf = re.split(r"[./]", key.lower())
    dims = len(tensor.shape)
    if leaf in (COUNTER, "n_averaged") or (dims == 0 and tensor.dtype.kind in "iub"):
        return "a counter"
    if dims == 0 and re.fullmatch(PROGRESS, modules[0] if modules else leaf):
        return "training state"
    if tensor.dtype.kind in "iu" and re.search(RANDOM, key.lower()):
        return "state of a random generator"
    if ".".join(modules) in counting and (dims < 2 or tensor.dtype.kind in "iub"):
        return "belongs to a metric"
    if dims < 2 and re.search(LOSS_WEIGHTS, leaf):
        return "the loss's weights of the classes"
    near = modules[:DEPTH]
    loss = any(re.search(LOSS, name) for name in near)
    metric = any(re.search(METRIC, name) for name in near)
    if not (loss or metric) or _may_be_head(tensor, config):
        return ""
    return "belongs to the loss" if loss else "belongs to a metric"


def _may_be_head(tensor: Tensor, config: DenseNetConfig) -> bool:
    """Whether it takes the features of a network that lacks a head (an angular margin's weights, say)."""
    shape = tuple(np.array(tensor.shape)[np.array(tensor.shape) > 1]) if tensor.shape else ()
    features = (config.num_features, 2 * config.num_features)
    return not config.num_classes and len(shape) == 2 and any(n in features for n in shape)
