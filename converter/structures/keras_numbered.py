"""Keras weights without usable names: ``conv2d_7/kernel``, ``batch_normalization_12/gamma``.

``.weights.h5`` of Keras 2.13 to 3 numbers the layers per class; titu1994's DenseNet
(titu1994/DenseNet, later keras-contrib) never named them.  The numbers say the order
within a class, and a DenseNet fixes how the classes alternate.

Two families wrote such files.  keras.applications pads with layers of its own
(``zero_padding2d``), eps 1.001e-5; titu1994's uses ``padding="same"``, which TensorFlow
pads unevenly, and eps 1.1e-5.  A model's own config, where there is one, goes first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.layouts.keras import EPS, LEAVES
from converter.structures.assumed_heads import Words, in_sequence, words_of, words_of_parts
from converter.structures.parts import Part, Structure, part_of
from densenet.head import HeadLayer

TITU_EPS = 1.1e-5
NAMED = re.compile(r"(?:conv2_block1_1_conv(?:_\d+)?|conv2_1_x1)/kernel$")
"""What layouts with names call the first layer's first convolution; of a session's second model with a number."""
LEAF_OF = {
    kind: {leaf.names[0][1:]: name.partition(".")[2] for name, leaf in LEAVES.items() if name.startswith(kind)}
    for kind in ("conv", "norm", "linear")
}
"""Keras' leaf names to the library's."""


def read_keras_numbered(checkpoint: Checkpoint) -> Structure | None:
    """Weights of numbered Keras layers, as a structure.

    Raises:
        NotADenseNet: the layers do not alternate as in a DenseNet, or (names or not) a norm stands outside it.
    """
    tensors = keras_table(checkpoint)
    if tensors is None:
        return None
    if any(map(NAMED.search, tensors)):
        return None
    layers = checkpoint_layers(checkpoint)
    owners = {key[:i] for key in tensors for i, letter in enumerate(key) if letter == "/"}
    listed = () if owners.issuperset(layers) else layers
    parts, dropped, head = parts_of(tensors, {key: key for key in tensors}, str(checkpoint.path), listed)
    strided = parts[0].tensors["weight"].shape[-1] > 3
    if any("zero_padding2d" in layer for layer in layers) or (strided and owners.issuperset(layers)):
        settings: dict[str, Any] = {"eps": EPS}  # in the second case only layers with weights are listed
    else:
        settings = {"eps": TITU_EPS, **({"padding": "same"} if strided else {})}
    family = "keras.applications" if settings["eps"] == EPS else "titu1994's code"
    note = f"padding {settings.get('padding', 'symmetric')} and eps {settings['eps']:g} are assumed, as in {family}"
    notes = () if checkpoint.graph is not None else (f"{note}; --set changes them", *filter(None, [head.note]))
    return Structure("keras-numbered", parts, {**settings, "head": tuple(map(str, head.layers))}, dropped, notes)


def keras_table(checkpoint: Checkpoint) -> dict[str, Tensor] | None:
    """The flat table of a Keras weights file (``<layer>/<leaf>``), if the checkpoint is one."""
    tree = _table(checkpoint)
    if not checkpoint_layers(checkpoint) or not all(isinstance(value, Tensor) for value in tree.values()):
        return None
    return dict(tree)


def checkpoint_layers(checkpoint: Checkpoint) -> list[str]:
    """All layers of a Keras weights file, also those without weights."""
    layers = getattr(_table(checkpoint), "attributes", {}).get("layer_names")
    return layers if isinstance(layers, list) else []


def told_by_layers(checkpoint: Checkpoint, names: Sequence[str], layers: Sequence[HeadLayer]) -> Words | None:
    """What the layers of a Keras weights file say of a head; None of any other file, or where it has a config.

    Args:
        checkpoint: the opened file.
        names: of the head's layers with weights, the classifier the last.
        layers: what those before it are.
    """
    tensors = keras_table(checkpoint) if checkpoint.graph is None and checkpoint.format.startswith("Keras") else None
    if tensors is None:
        return None
    listed = checkpoint_layers(checkpoint)
    owners = {key[:i] for key in tensors for i, letter in enumerate(key) if letter == "/"}
    ordered = "classes" not in getattr(_table(checkpoint), "attributes", {})
    return words_of(names, layers, () if owners.issuperset(listed) else listed, ordered=ordered)


def _table(checkpoint: Checkpoint) -> Any:
    tree = checkpoint.tree
    return tree.get("model_weights", tree) if isinstance(tree, dict) else {}


class Parts(NamedTuple):
    """Layers in order of execution, what was left out and why, and what the head is taken to be."""

    parts: list[Part]
    dropped: dict[str, str]
    head: Words


def parts_of(tensors: Mapping[str, Tensor], keys: Mapping[str, str], where: str, listed: Sequence[str] = ()) -> Parts:
    """A flat table's layers in order of execution.

    Convolutions and norms each come in their own order; after the stem a DenseNet has
    norm and convolution in turn, and one norm at the end.  Behind it comes the head.

    Args:
        tensors: by ``<layer>/<leaf>``.
        keys: what the source calls them.
        where: names the file in errors.
        listed: all layers, if the file lists those without weights too.

    Raises:
        NotADenseNet: there are other layers, or not as many norms as convolutions ask for.
    """
    layers: dict[str, dict[str, str]] = {}
    dropped: dict[str, str] = {}
    for key in tensors:
        layer, _, leaf = key.rpartition("/")
        if "seed_generator" in key:
            dropped[key] = "state of a random generator"
        else:
            layers.setdefault(layer, {})[leaf] = key
    by_kind: dict[str, list[Part]] = {"conv": [], "norm": [], "linear": []}
    for layer, members in layers.items():
        kind = _kind(members, tensors)
        unknown = [leaf for leaf in members if leaf not in LEAF_OF.get(kind, {})]
        if not kind or unknown:
            raise NotADenseNet(f"{where}: {layer} with {', '.join(unknown or members)} is no layer of a DenseNet")
        names = {LEAF_OF[kind][leaf]: key for leaf, key in members.items()}
        values = {name: turned(tensors[key]) for name, key in names.items()}
        said = {name: keys[key] for name, key in names.items()}
        by_kind[kind].append(part_of(values, said))
    convs, norms = by_kind["conv"], by_kind["norm"]
    network = next(iter(convs[0].keys.values())).rpartition("/")[0].rpartition("/")[0] if convs else ""
    norms.sort(key=lambda part: not part.keys["weight"].startswith(network))  # a head's own stand outside
    stem = next((stem for stem in (1, 0) if _alternate(norms[stem:], convs[1:])), None)
    if not convs or stem is None:
        raise NotADenseNet(
            f"{where}: {len(convs)} convolutions and {len(norms)} batch norms are not those of a DenseNet"
        )
    last = stem + len(convs) - 1
    pairs = [part for pair in zip(norms[stem:last], convs[1:]) for part in pair]
    head = by_kind["linear"]
    words = Words((), "")
    if norms[last + 1 :] or len(head) > 1:
        head = in_sequence(norms[last + 1 :], head, prod(norms[last].tensors["weight"].shape), where)
        own = [name for name in listed if name.rpartition("/")[2].startswith(("activation", "re_lu"))][: last + 1]
        words = words_of_parts(head, [name for name in listed if name not in own])
    return Parts([convs[0], *norms[:stem], *pairs, norms[last], *head], dropped, words)


def _alternate(norms: Sequence[Part], convs: Sequence[Part]) -> bool:
    """Whether each convolution takes what the norm before it gives, and one norm at least is left over."""
    pairs = zip(norms, convs)
    return len(norms) > len(convs) and all(
        norm.tensors["weight"].shape == conv.tensors["weight"].shape[1:2] for norm, conv in pairs
    )


def _kind(members: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    if "gamma" in members:
        return "norm"
    rank = len(tensors[members["kernel"]].shape) if "kernel" in members else 0
    return {2: "linear", 4: "conv"}.get(rank, "")


def turned(tensor: Tensor) -> Tensor:
    """A kernel with its last axes, in and out, first; anything else as it is."""
    if len(tensor.shape) < 2:
        return tensor
    kernel = LEAVES["conv.weight"]
    return Tensor(kernel.shape(tensor.shape), tensor.dtype, lambda: kernel.read(tensor.read()))
