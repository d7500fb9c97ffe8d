"""Paddle's numbered parameters: each kind counted by itself, in order of execution."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain, zip_longest

from converter.core.checkpoint import Checkpoint, Tensor
from converter.structures.parts import Part, Structure, part_of
from converter.structures.weights import transposed

NUMBERED = re.compile(r"(conv2d|batch_norm|batch_norm2d|linear|fc)_(\d{1,9})\.([wb]_\d)")
LEAVES = {
    "conv2d": {"w_0": "weight", "b_0": "bias"},
    "batch_norm": {"w_0": "weight", "b_0": "bias", "w_1": "running_mean", "w_2": "running_var"},
    "linear": {"w_0": "weight", "b_0": "bias"},
}
KINDS = {"batch_norm2d": "batch_norm", "fc": "linear"}


def read_paddle_numbered(checkpoint: Checkpoint) -> Structure | None:
    """A file whose tensors are all called ``<class>_<number>.<w or b>_<number>``."""
    tree = checkpoint.tree
    if not isinstance(tree, dict):
        return None
    found = {key: NUMBERED.fullmatch(str(key)) for key, value in tree.items() if isinstance(value, Tensor)}
    if not found or not all(found.values()):
        return None
    modules: dict[str, dict[int, dict[str, str]]] = {kind: {} for kind in LEAVES}
    for key, name in found.items():
        assert name is not None
        kind = KINDS.get(name[1], name[1])
        leaf = LEAVES[kind].get(name[3])
        if leaf is None:
            return None
        modules[kind].setdefault(int(name[2]), {})[leaf] = key
    convs, norms, linears = (
        [_part(keys, tree) for _, keys in sorted(numbered.items())] for numbered in modules.values()
    )
    # A DenseNet's first convolution is followed by two norms, any other by one (its own layer's order
    # is norm, convolution); so pairing from the first on gives the order of execution.
    rest = chain.from_iterable(zip_longest(norms[1:], convs[1:]))
    parts = [*convs[:1], *norms[:1], *(part for part in rest if part), *linears]
    return Structure("paddle, numbered parameters", parts)


def _part(keys: Mapping[str, str], tree: Mapping[str, Tensor]) -> Part:
    tensors = {leaf: tree[key] for leaf, key in keys.items()}
    if "weight" in tensors and len(tensors["weight"].shape) == 2:
        tensors["weight"] = transposed(tensors["weight"])
    return part_of(tensors, keys)
