"""Paddle's numbered parameters: each kind counted by itself, in order of execution."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain, zip_longest

from converter.core.checkpoint import Checkpoint, Tensor
from converter.structures.parts import Part, Structure, norm_part

NUMBERED = re.compile(r"(conv2d|batch_norm|batch_norm2d|linear|fc)_(\d{1,9})\.([wb]_\d)")


LEAVES = {
    "conv2d": {"w_0": "weight", "b_0": "bias"},
    "batch_norm": {"w_0": "weight", "b_0": "bias", "w_1": "running_mean", "w_2": "running_var"},
    "linear": {"w_0": "weight", "b_0": "bias"},
}


KINDS = {"batch_norm2d": "batch_norm", "fc": "linear"}


def read_numbered(checkpoint: Checkpoint) -> Structure | None:
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
    convs, norms, linears = ([keys for _, keys in sorted(found.items())] for found in modules.values())
    # A DenseNet's first convolution is followed by two norms, any other by one (its own layer's order
    # is norm, convolution); so pairing from the first on gives the order of execution.
    parts = [_part("conv", keys, tree) for keys in convs[:1]]
    parts += [_part("batch_norm", keys, tree) for keys in norms[:1]]
    rest = zip_longest(
        (_part("batch_norm", keys, tree) for keys in norms[1:]), (_part("conv", keys, tree) for keys in convs[1:])
    )
    parts += [part for part in chain.from_iterable(rest) if part]
    parts += [_part("linear", keys, tree) for keys in linears]
    return Structure("paddle, numbered parameters", parts)


def _part(kind: str, keys: Mapping[str, str], tree: Mapping[str, Tensor]) -> Part:
    tensors = {leaf: tree[key] for leaf, key in keys.items()}
    if kind == "batch_norm":
        return norm_part(tensors, keys)
    if kind == "conv":
        return Part("conv", tensors, keys)
    weight = tensors["weight"]
    tensors["weight"] = Tensor(weight.shape[::-1], weight.dtype, lambda: weight.read().T)
    return Part("linear", tensors, keys)
