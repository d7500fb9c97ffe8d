"""Gluon's parameters: modules by the numbers in their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from converter.core.checkpoint import Checkpoint, Tensor
from converter.structures.parts import Structure, part_of

STRUCTURED = re.compile(r"(?P<prefix>.*\.)?(?:features\.(?P<at>\d+(?:\.\d+)*)|output)\.(?P<leaf>\w+)")
COUNTED = re.compile(
    r"(?P<prefix>.*?)(?:stage(?P<stage>\d+)_)?(?P<kind>batchnorm|conv|dense)(?P<count>\d+)_"
    r"(?P<leaf>gamma|beta|running_mean|running_var|weight|bias)"
)
GLUON_LEAVES = {"gamma": "weight", "beta": "bias"}  # the others are called as ours
END = (1 << 30,)

Place = tuple[int, ...]
"""Sorts modules in order of execution."""


def read_gluon(checkpoint: Checkpoint) -> Structure | None:
    """Parameters of ``gluon.model_zoo.vision.DenseNet`` by any of its names, or None for anything else."""
    tree = checkpoint.tree
    if not isinstance(tree, dict) or not all(isinstance(tensor, Tensor) for tensor in tree.values()):
        return None
    if any(re.search(r"(^|\.)features\.\d+\.\d+\.1\.\d+\.gamma$", str(key)) for key in tree):
        return _structure("mxnet-gluon", tree, _structured)
    if any(re.search(r"stage\d+_batchnorm\d+_gamma$", str(key)) for key in tree):
        return _structure("mxnet-gluon-legacy", tree, _counted)
    return None


def _structured(key: str) -> tuple[Place, str] | None:
    """``features.4.0.1.3.gamma``: the numbers are places already."""
    found = STRUCTURED.fullmatch(key)
    if found is None:
        return None
    return (tuple(map(int, found["at"].split("."))) if found["at"] else END), found["leaf"]


def _counted(key: str) -> tuple[Place, str] | None:
    """``stage1_conv0_weight``, each kind counted by itself.

    In a block the norm comes before the convolution of its number; so it does in the
    transition behind block t, whose two have number t; the stem's two have number 0, and
    there the convolution comes first.
    """
    found = COUNTED.fullmatch(key)
    if found is None:
        return None
    count, is_conv = int(found["count"]), found["kind"] == "conv"
    if found["kind"] == "dense":
        return END, found["leaf"]
    if found["stage"]:
        return (int(found["stage"]), 0, count, is_conv), found["leaf"]
    return (count, 1, 0, is_conv if count else not is_conv), found["leaf"]


def _structure(
    name: str, tree: Mapping[str, Tensor], locate: Callable[[str], tuple[Place, str] | None]
) -> Structure | None:
    modules: dict[Place, dict[str, str]] = {}
    for key in tree:
        found = locate(key)
        if found is None:
            return None  # a key of something else; the error lists it if no layout knows it
        place, leaf = found
        if modules.setdefault(place, {}).setdefault(GLUON_LEAVES.get(leaf, leaf), key) != key:
            return None
    found_keys = [modules[place] for place in sorted(modules)]
    return Structure(name, [part_of({leaf: tree[key] for leaf, key in keys.items()}, keys) for keys in found_keys])
