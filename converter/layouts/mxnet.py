"""MXNet: Gluon's model zoo, and the symbols that miraclewkf/DenseNet made of shicai's Caffe networks.

Gluon (python/mxnet/gluon/model_zoo/vision/densenet.py) numbers what its code makes, so
that numbers tell the order: ``features.4.0.1.3.gamma`` by ``save_parameters``,
``densenet0_stage1_batchnorm1_gamma`` by ``save_params`` and ``export``.
The numbers run twice as fast as ours, which templates do not say; a short
function puts the modules in order.

The symbols' names are Caffe's.  Their batch norms have eps 1e-4 and their poolings round
up; the ``-symbol.json`` says so, and where it is missing it is what the published ones do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from converter.checkpoint import Checkpoint, Tensor
from converter.layouts.layout import Layout, Leaf
from converter.layouts.parts import Part, Structure, norm_part


def _matrix(kernel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return kernel.reshape(kernel.shape[:2])


def _kernel(matrix: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
    return (matrix.reshape(*matrix.shape, 1, 1),)


SYMBOL = Layout(
    name="mxnet-symbol",
    about="MXNet symbols with Caffe's names (miraclewkf/DenseNet): densenet121, 161, 169",
    modules={
        "norm": "conv{n+1}_blk",  # before the transitions, which it otherwise looks like
        "stem.conv": "conv1",
        "stem.norm": "conv1",
        "blocks.{b}.layers.{l}.norm1": "conv{b+2}_{l+1}_x1",
        "blocks.{b}.layers.{l}.conv1": "conv{b+2}_{l+1}_x1",
        "blocks.{b}.layers.{l}.norm2": "conv{b+2}_{l+1}_x2",
        "blocks.{b}.layers.{l}.conv2": "conv{b+2}_{l+1}_x2",
        "transitions.{t}.norm": "conv{t+2}_blk",
        "transitions.{t}.conv": "conv{t+2}_blk",
        "classifier": "fc6",
    },
    leaves={
        "conv.weight": Leaf(("_weight",)),
        "norm.weight": Leaf(("_bn_gamma",)),
        "norm.bias": Leaf(("_bn_beta",)),
        "norm.running_mean": Leaf(("_bn_moving_mean",)),
        "norm.running_var": Leaf(("_bn_moving_var",)),
        "linear.weight": Leaf(("_weight",), _matrix, _kernel, lambda shape: shape[:2]),
        "linear.bias": Leaf(("_bias",)),
    },
    network={"eps": 1e-4, "stem_ceil": True, "transition_ceil": True},
    assumes={
        "eps": "eps 1e-4 is assumed, as in the published -symbol.json, which is not beside the file",
        "stem_ceil": "pooling that rounds sizes up is assumed after the stem, for the same reason",
        "transition_ceil": "pooling that rounds sizes up is assumed in the transitions, for the same reason",
    },
)

SYMBOL_201 = replace(
    SYMBOL,
    name="mxnet-symbol-201",
    about="MXNet symbols with Caffe's names (miraclewkf/DenseNet): densenet201",
    modules={
        library: name.replace("_blk", "_{L}_blk") if "_blk" in name else name
        for library, name in SYMBOL.modules.items()
    },
)

# -- Gluon -------------------------------------------------------------------------

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
    return Structure(name, [_part(tree, modules[place]) for place in sorted(modules)])


def _part(tree: Mapping[str, Tensor], keys: Mapping[str, str]) -> Part:
    tensors = {leaf: tree[key] for leaf, key in keys.items()}
    if "weight" not in tensors or len(tensors["weight"].shape) == 1:
        return norm_part(tensors, keys)
    return Part("linear" if len(tensors["weight"].shape) == 2 else "conv", tensors, keys)
