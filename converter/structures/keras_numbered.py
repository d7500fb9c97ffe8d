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
from collections.abc import Mapping
from typing import Any

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.layouts.keras import EPS, LEAVES
from converter.structures.parts import Part, Structure, part_of

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
    named = next(filter(None, map(NAMED.search, tensors)), None)
    if named is not None:
        network = named.string[: named.start()]
        outside = [key for key in tensors if key.endswith("/gamma") and not key.startswith(network)]
        if outside:
            raise NotADenseNet(f"{checkpoint.path}: a DenseNet in {network}, and {outside[0]} outside it")
        return None
    parts, dropped = parts_of(tensors, {key: key for key in tensors}, str(checkpoint.path))
    layers = checkpoint_layers(checkpoint)
    owners = {key[:i] for key in tensors for i, letter in enumerate(key) if letter == "/"}
    strided = parts[0].tensors["weight"].shape[-1] > 3
    if any("zero_padding2d" in layer for layer in layers) or (strided and owners.issuperset(layers)):
        settings: dict[str, Any] = {"eps": EPS}  # in the second case only layers with weights are listed
    else:
        settings = {"eps": TITU_EPS, **({"padding": "same"} if strided else {})}
    family = "keras.applications" if settings["eps"] == EPS else "titu1994's code"
    note = f"padding {settings.get('padding', 'symmetric')} and eps {settings['eps']:g} are assumed, as in {family}"
    notes = () if checkpoint.graph is not None else (f"{note}; --set changes them",)
    return Structure("keras-numbered", parts, settings, dropped, notes)


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


def _table(checkpoint: Checkpoint) -> Any:
    tree = checkpoint.tree
    return tree.get("model_weights", tree) if isinstance(tree, dict) else {}


def parts_of(tensors: Mapping[str, Tensor], keys: Mapping[str, str], where: str) -> tuple[list[Part], dict[str, str]]:
    """A flat table's layers in order of execution, and what was left out and why.

    Convolutions and norms each come in their own order; after the stem a DenseNet has
    norm and convolution in turn, and one norm at the end.

    Args:
        tensors: by ``<layer>/<leaf>``.
        keys: what the source calls them.
        where: names the file in errors.

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
    stem = len(norms) - len(convs)
    if not convs or stem not in (0, 1):
        raise NotADenseNet(
            f"{where}: {len(convs)} convolutions and {len(norms)} batch norms are not those of a DenseNet"
        )
    pairs = [part for pair in zip(norms[stem:-1], convs[1:]) for part in pair]
    return [convs[0], *norms[:stem], *pairs, norms[-1], *by_kind["linear"]], dropped


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
