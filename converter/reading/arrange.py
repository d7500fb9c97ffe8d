"""Weighted modules in order of execution, matched with the network's own order by kind and shape.

The order is fixed by the paper: stem, {norm, convolution ...} per layer, transitions,
final norm, classifier.  No name is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Tensor
from converter.core.errors import NotADenseNet
from converter.layouts.layout import Layout, Leaf, Stored
from converter.reading.candidate import Candidate
from converter.reading.shapes import config_of
from converter.reading.wrappers import Group
from converter.structures.parts import Part, Structure
from densenet.config import DenseNetConfig
from densenet.head import layers_of


def arrange(structure: Structure, where: str) -> Candidate:
    """Lay the parts of a structure along a DenseNet.

    A convolution with a bias is taken as it is (the bias is folded into later
    statistics); if the norms do not suffice, as a convolution with a norm folded in,
    which becomes an identity norm again.

    Raises:
        NotADenseNet: they do not fit.
    """
    reasons: list[str] = []
    for parts in (list(structure.parts), _unfold(structure.parts)):
        try:
            return _candidate(structure, parts, where)
        except NotADenseNet as error:
            reasons.append(str(error))
    raise NotADenseNet(f"{where}: not a DenseNet in the {structure.layout} layout: {reasons[0]}")


def _unfold(parts: Sequence[Part]) -> list[Part]:
    """Every convolution with a bias as a plain one and the norm that was folded into it.

    With mean 0 and variance 1 - eps the norm multiplies by one and adds the bias.
    """
    eps = next((part.eps for part in parts if part.eps is not None), DenseNetConfig.eps)
    result: list[Part] = []
    for i, part in enumerate(parts):
        if part.kind != "conv" or "bias" not in part.tensors or i + 1 == len(parts):
            result.append(part)
            continue
        bias = part.tensors["bias"]
        dtype, width = bias.dtype, bias.shape
        constants = {"weight": 1.0, "running_mean": 0.0, "running_var": 1.0 - eps}
        tensors = {leaf: Tensor.of(np.full(width, value, dtype)) for leaf, value in constants.items()}
        tensors["bias"] = bias
        keys = {leaf: f"{part.keys['bias']} ({leaf} of the norm folded into it)" for leaf in constants}
        result.append(Part("conv", {"weight": part.tensors["weight"]}, {"weight": part.keys["weight"]}))
        result.append(Part("norm", tensors, {**keys, "bias": part.keys["bias"]}, eps, eps))
    return result


def _candidate(structure: Structure, parts: list[Part], where: str) -> Candidate:
    names = _names(parts, structure.settings.get("head", ()))
    tensors: dict[str, Tensor] = {}
    used: dict[str, Stored] = {}
    by_key: dict[str, Tensor] = {}
    for name, part in zip(names, parts):
        for leaf, tensor in part.tensors.items():
            key = part.keys[leaf]
            if not _same(by_key.get(key, tensor), tensor):
                raise NotADenseNet(f"{key} is used twice")
            by_key[key] = tensor
            tensors[f"{name}.{leaf}"] = tensor
            used[f"{name}.{leaf}"] = Stored(Leaf((leaf,)), (key,))
    stated = {name: part.eps for name, part in zip(names, parts) if part.eps is not None}
    made_for = {name: part.made_for for name, part in zip(names, parts) if part.made_for is not None}
    network = {**({"eps": next(iter(stated.values()))} if stated else {}), **structure.settings}
    config = config_of({name: tensor.shape for name, tensor in tensors.items()}, network)
    for name, shape in config.tensors().items():
        if name not in tensors:
            raise NotADenseNet(f"{name} is missing")
        if tensors[name].shape != shape:
            key = used[name].keys[0]
            raise NotADenseNet(f"{key} has shape {list(tensors[name].shape)}, {name} needs {list(shape)}")
    layout = Layout(structure.layout, "read off the structure", {}, network=structure.settings, shared=True)
    group = Group("", by_key)
    return Candidate(
        layout,
        group,
        "",
        config,
        used,
        structure.dropped,
        notes=structure.notes,
        graph=network,
        front=structure.front,
        activation=structure.activation,
        eps=stated,
        made_for=made_for,
    )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether what one key has is the same for two parts: converters keep equal constants, as biases of zeros, once."""
    if one is other:
        return True
    if one.shape != other.shape or one.dtype != other.dtype or prod(one.shape) > bounds.COMPARED:
        return False
    return bool(np.array_equal(one.read(), other.read()))


def _names(parts: Sequence[Part], head: Sequence[str]) -> list[str]:
    """Library names for parts in network order, ``head`` what stands between the last norm and the classifier.

    Raises:
        NotADenseNet: the kinds do not follow each other as in a DenseNet.
    """
    kinds = [part.kind for part in parts]
    sizes = [part.tensors["weight"].shape[2] if part.kind == "conv" else 0 for part in parts]
    widths = [part.tensors["weight"].shape[0] for part in parts]
    at, names = 0, list[str]()

    def take(*pairs: tuple[str, str]) -> None:
        nonlocal at
        for name, kind in pairs:
            if at >= len(parts) or kinds[at] != kind:
                raise NotADenseNet(f"{name} is not where a DenseNet has it (part {at + 1} of {len(parts)})")
            names.append(name)
            at += 1

    if kinds[:6] == ["conv", "norm"] * 3 and sizes[0:5:2] == [3, 3, 3] and widths[0:5:2] == widths[1:6:2]:
        take(*((f"stem.{kind}{i}", kind) for i in range(3) for kind in ("conv", "norm")))
    elif kinds[:3] == ["conv", "norm", "norm"]:
        take(("stem.conv", "conv"), ("stem.norm", "norm"))
    else:
        take(("stem.conv", "conv"))
    plain = kinds[at : at + 2] == ["norm", "conv"] and sizes[at + 1] > 1
    block = layer = 0
    while kinds[at : at + 2] == ["norm", "conv"]:
        name = f"blocks.{block}.layers.{layer}"
        if sizes[at + 1] > 1:
            take((f"{name}.norm1", "norm"), (f"{name}.conv1", "conv"))
            layer += 1
        elif not plain and kinds[at + 2 : at + 4] == ["norm", "conv"] and sizes[at + 3] > 1:
            take(
                (f"{name}.norm1", "norm"),
                (f"{name}.conv1", "conv"),
                (f"{name}.norm2", "norm"),
                (f"{name}.conv2", "conv"),
            )
            layer += 1
        else:
            take((f"transitions.{block}.norm", "norm"), (f"transitions.{block}.conv", "conv"))
            block, layer = block + 1, 0
    take(("norm", "norm"))
    for i, found in enumerate(layers_of(head)):
        if not found.is_activation:
            take((f"head.{i}.{found.kind}", found.kind))
    if at < len(parts):
        take(("classifier", "linear"))
    if at < len(parts):
        raise NotADenseNet(f"{len(parts) - at} more modules with weights follow the classifier")
    return names
