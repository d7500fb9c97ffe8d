"""Caffe, whose layers come in order of execution under whatever names their authors chose.

shicai/DenseNet-Caffe (densenet121, 161, 169, 201) calls them ``conv2_1/x1/bn``,
liuzhuang13/DenseNetCaffe leaves it to NetSpec (``BatchNorm1``), and who trains on
renames the classifier, so the order and the shapes of the blobs are what is read:

    BatchNorm      mean, variance, factor: the first two are stored times the third
    Scale          gamma, beta
    Convolution    weight (and bias); shicai's classifier is one of 1x1
    InnerProduct   weight, bias

A table of names could not say that the factor belongs to two tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.assumed_heads import words_of_parts
from converter.structures.caffe_graph import divided, read_described
from converter.structures.parts import Part, Structure, norm_part, part_of
from converter.structures.weights import lazily

FACTOR = "the factor that the mean and variance beside it are stored multiplied with"
COLOURS = "Caffe's networks take BGR images as a rule, with a mean and scale that the file does not say"
ROUNDED = (
    "the file does not say how pooling rounds sizes: in the transitions up, as Caffe does by default, after the stem "
    "down, as shicai's networks do, is assumed; --set transition_ceil=false or --set stem_ceil=true changes it"
)
NETSPEC = re.compile(r"(Convolution|BatchNorm|Scale|InnerProduct)(\d+)")
"""Names that pycaffe's NetSpec gives (python/caffe/net_spec.py): the type, and a count from 1."""

Layer = tuple[str, list[tuple[str, Tensor]]]
"""A name, and the keys and values of its blobs."""


def read_caffe(checkpoint: Checkpoint) -> Structure | None:
    """The layers of a ``.caffemodel`` or ``.caffemodel.h5`` as a structure, or None for anything else.

    Raises:
        NotADenseNet: a layer has blobs of no kind that is in a DenseNet.
    """
    layers = _layers(checkpoint)
    if layers is None:
        return None
    if checkpoint.graph:
        return _described(checkpoint)
    stated = checkpoint.settings
    parts: list[Part] = []
    dropped: dict[str, str] = {}
    at = 0
    while at < len(layers):
        name, blobs = layers[at]
        if _ranks(blobs) == [1, 1, 1]:
            if at + 1 == len(layers) or _ranks(layers[at + 1][1]) != [1, 1]:
                raise NotADenseNet(f"{checkpoint.path}: no Scale layer follows the BatchNorm {name}")
            parts.append(_norm(blobs, layers[at + 1][1], stated.get("eps")))
            dropped[blobs[2][0]] = FACTOR
            at += 2
        else:
            parts.append(_weighted(checkpoint, name, blobs, last=at + 1 == len(layers)))
            at += 1
    known = stated.keys() & {"stem_ceil", "transition_ceil"}
    head = words_of_parts(_head(parts))
    settings = {"transition_ceil": True, "head": tuple(map(str, head.layers))}
    notes = [COLOURS, *([] if known else [ROUNDED]), *filter(None, [head.note])]
    return Structure("caffe", parts, settings, dropped, tuple(notes))


def _head(parts: Sequence[Part]) -> Sequence[Part]:
    """What follows the last norm of the network, which is the first behind its last convolution."""
    convs = [i for i, part in enumerate(parts) if part.kind == "conv"]
    return parts[convs[-1] + 2 :] if convs else ()


def _described(checkpoint: Checkpoint) -> Structure:
    """The network as the files beside the weights, or their own layers, describe it.

    Raises:
        NotADenseNet: they describe another network, or different ones.
    """
    found: dict[str, Structure] = {}
    for file, network in checkpoint.graph.items():
        try:
            found[file] = read_described(checkpoint, network)
        except NotADenseNet as error:
            raise NotADenseNet(f"{checkpoint.path}: in {file}, {error}") from error
    (first, structure), *others = found.items()
    for file, other in others:
        if (other.settings, other.front) != (structure.settings, structure.front):
            raise NotADenseNet(f"{checkpoint.path}: {first} and {file} beside it describe different networks; keep one")
    factors = {key: FACTOR for key in structure.dropped if key.endswith("/2")}
    return replace(structure, dropped={**structure.dropped, **factors}, notes=(COLOURS, *structure.notes))


def _layers(checkpoint: Checkpoint) -> list[Layer] | None:
    """The layers with blobs, in order of execution."""
    tree = checkpoint.tree
    if not isinstance(tree, dict):
        return None
    if checkpoint.format == "Caffe":
        return _grouped({key: tensor for key, tensor in tree.items() if isinstance(tensor, Tensor)})
    flat = _flat(tree)
    blobs = {key: tensor for key, tensor in flat.items() if key.startswith("data/")}
    if not blobs or not all(key.startswith(("data/", "diff/")) for key in flat):
        return None
    layers = _grouped(blobs)
    if not all(NETSPEC.fullmatch(name) for name, _ in layers):
        return None  # an HDF5 file does not keep the order, only such names tell
    return sorted(layers, key=lambda layer: _netspec_order(layer[0]))


def _flat(tree: Mapping[str, Any], path: str = "", depth: int = 3) -> dict[str, Tensor]:
    """Tensors of nested groups by full name."""
    result: dict[str, Tensor] = {}
    for name, node in tree.items():
        if isinstance(node, Tensor):
            result[path + str(name)] = node
        elif isinstance(node, dict) and depth:
            result |= _flat(node, f"{path}{name}/", depth - 1)
    return result


def _grouped(blobs: Mapping[str, Tensor]) -> list[Layer]:
    """``<layer>/<i>`` by layer, layers in the order of the keys, blobs by number."""
    layers: dict[str, dict[int, tuple[str, Tensor]]] = {}
    for key, tensor in blobs.items():
        name, _, index = key.removeprefix("data/").rpartition("/")
        if index.isdecimal():
            layers.setdefault(name, {})[int(index)] = key, tensor
    return [(name, [found[i] for i in sorted(found)]) for name, found in layers.items()]


def _netspec_order(name: str) -> tuple[float, int]:
    """Where liuzhuang13's network has a layer: the first convolution, then norm u, scale u, convolution u + 1."""
    found = NETSPEC.fullmatch(name)
    assert found is not None
    kind, count = found[1], int(found[2])
    if kind == "InnerProduct":
        return float("inf"), count
    return (count - 1, 3) if kind == "Convolution" else (count, ("BatchNorm", "Scale").index(kind))


def _ranks(blobs: list[tuple[str, Tensor]]) -> list[int]:
    return [len(tensor.shape) for _, tensor in blobs]


def _norm(batch_norm: list[tuple[str, Tensor]], scale: list[tuple[str, Tensor]], eps: float | None) -> Part:
    (mean_key, mean), (variance_key, variance), (_, factor) = batch_norm
    tensors = {
        "weight": scale[0][1],
        "bias": scale[1][1],
        "running_mean": divided(mean, factor),
        "running_var": divided(variance, factor),
    }
    keys = {"weight": scale[0][0], "bias": scale[1][0], "running_mean": mean_key, "running_var": variance_key}
    return norm_part(tensors, keys, eps)


def _weighted(checkpoint: Checkpoint, name: str, blobs: list[tuple[str, Tensor]], *, last: bool) -> Part:
    """A convolution or the classifier."""
    ranks = _ranks(blobs)
    if ranks not in ([4], [4, 1], [2, 1]):
        shapes = ", ".join(str(list(tensor.shape)) for _, tensor in blobs)
        raise NotADenseNet(f"{checkpoint.path}: the layer {name} has blobs {shapes}, which no layer of a DenseNet has")
    leaves = ("weight", "bias")[: len(blobs)]
    tensors = {leaf: tensor for leaf, (_, tensor) in zip(leaves, blobs)}
    keys = {leaf: key for leaf, (key, _) in zip(leaves, blobs)}
    weight = tensors["weight"]
    if len(weight.shape) == 4 and last and len(blobs) == 2 and weight.shape[2:] == (1, 1):
        tensors["weight"] = lazily(weight, lambda array: array[:, :, 0, 0])
    return part_of(tensors, keys)
