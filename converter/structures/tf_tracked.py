"""Keras checkpoints that track objects: layers by number, told by what they hold."""

from __future__ import annotations

import re

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.layouts.keras import EPS
from converter.layouts.tf_keras import TRACKED
from converter.structures.keras_numbered import parts_of
from converter.structures.parts import Structure


def read_tracked(checkpoint: Checkpoint) -> Structure | None:
    """An object-based checkpoint whose variables have no names: layers by their number in the model.

    Raises:
        NotADenseNet: the layers do not alternate as in a DenseNet.
    """
    tree = checkpoint.tree
    if not isinstance(tree, dict):
        return None
    found = [(re.fullmatch(TRACKED, key), key) for key, value in tree.items() if isinstance(value, Tensor)]
    layers = sorted((match["owner"], int(match["n"]), match["leaf"], key) for match, key in found if match)
    if not layers:
        return None
    if len({owner for owner, *_ in layers}) > 1:
        raise NotADenseNet(f"{checkpoint.path}: several models within each other, whose variables have no names")
    keys = {f"layer_with_weights-{n}/{leaf}": key for _, n, leaf, key in layers}
    parts, dropped, head = parts_of({name: tree[key] for name, key in keys.items()}, keys, str(checkpoint.path))
    others = {key: "no layer of the model" for match, key in found if not match}
    computing = [key for key in others if tree[key].shape]
    if computing:
        raise NotADenseNet(
            f"{checkpoint.path}: outside the model's layers there may be more that computes: {computing[0]}"
        )
    note = f"padding symmetric and eps {EPS:g} as in keras.applications: the file cannot say"
    settings = {"eps": EPS, "head": tuple(map(str, head.layers))}
    notes = (note, *filter(None, [head.note]))
    return Structure("keras-tracked", parts, settings, {**dropped, **others}, notes)
