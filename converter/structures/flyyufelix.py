"""flyyufelix/DenseNet-Keras (densenet121.py, custom_layers.py): weights converted from Caffe.

Caffe's names, and its split of a norm in two: ``conv1_bn`` normalises and has a scale
and an offset of its own, ``conv1_scale`` has another of each.  Together they are one
norm: with B and S their values, gamma = S.gamma B.gamma, beta = S.gamma B.beta + S.beta.
"""

from __future__ import annotations

import numpy as np

from converter.core.checkpoint import Array, Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.keras_numbered import keras_table, parts_of
from converter.structures.parts import Structure

EPS = 1.1e-5
SIGNATURE = "conv2_1_x1_scale/gamma"


def read_flyyufelix(checkpoint: Checkpoint) -> Structure | None:
    """Weights with flyyufelix' names, each norm joined with its Scale layer.

    Raises:
        NotADenseNet: a Scale layer has no norm before it, or the layers are not a DenseNet's.
    """
    table = keras_table(checkpoint)
    if table is None or not any(key.endswith(SIGNATURE) for key in table):
        return None
    tensors, keys = {}, {}
    for key, tensor in table.items():
        layer, _, leaf = key.rpartition("/")
        base = layer.removesuffix("_bn")
        if layer.endswith("_scale") and f"{layer.removesuffix('_scale')}_bn/{leaf}" in table:
            continue
        if layer.endswith("_scale"):
            raise NotADenseNet(f"{checkpoint.path}: {key} has no batch norm before it")
        tensors[key], keys[key] = tensor, key
        gamma, beta = table.get(f"{base}_scale/gamma"), table.get(f"{base}_scale/beta")
        if base != layer and gamma is not None and beta is not None:
            if leaf == "gamma":
                tensors[key] = _scaled(tensor, gamma)
                keys[key] = f"{base}_scale/gamma * {key}"
            elif leaf == "beta":
                tensors[key] = _scaled(tensor, gamma, beta)
                keys[key] = f"{base}_scale/gamma * {key} + {base}_scale/beta"
    parts, dropped, head = parts_of(tensors, keys, str(checkpoint.path))
    settings = {"eps": EPS, "head": tuple(map(str, head.layers))}
    return Structure("flyyufelix", parts, settings, dropped, tuple(filter(None, [head.note])))


def _scaled(tensor: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    if tensor.shape != scale.shape or (offset is not None and offset.shape != scale.shape):
        raise NotADenseNet(f"a norm of width {list(tensor.shape)} and a Scale layer of width {list(scale.shape)}")

    def read() -> Array:
        values: Array = tensor.read().astype(np.float64) * scale.read()
        if offset is not None:
            values += offset.read()
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(tensor.dtype)

    return Tensor(tensor.shape, tensor.dtype, read)
