"""Keras networks out of TensorFlow's containers: frozen graphs, and trees of objects without names.

Where a checkpoint says how its variables were called (``conv1/conv/kernel``), the
layouts of converter/layouts/keras.py apply as they are.
"""

from __future__ import annotations

import re
from dataclasses import replace

from converter.checkpoint import Checkpoint, Tensor
from converter.errors import NotADenseNet
from converter.layouts.keras import EPS, KERAS, KERAS2, KERNEL
from converter.layouts.keras_numbered import parts_of
from converter.layouts.layout import Leaf
from converter.layouts.parts import Structure

PLAIN = Leaf(())


def _resource(operator: str, leaf: Leaf) -> Leaf:
    """A constant is called after the operator that read the variable; such names are read only."""
    return replace(leaf, names=(f"/{operator}/resource",), write=None)


FROZEN2 = replace(
    KERAS2,
    name="keras2-frozen",
    about="keras.applications of tf.keras in a frozen graph",
    modules={**KERAS2.modules, "classifier": "predictions"},
    leaves={
        "conv.weight": _resource("Conv2D/ReadVariableOp", KERNEL),
        "norm.weight": _resource("ReadVariableOp", PLAIN),
        "norm.bias": _resource("ReadVariableOp_1", PLAIN),
        "norm.running_mean": _resource("FusedBatchNormV3/ReadVariableOp", PLAIN),
        "norm.running_var": _resource("FusedBatchNormV3/ReadVariableOp_1", PLAIN),
        "linear.weight": _resource("MatMul/ReadVariableOp", KERNEL),
        "linear.bias": _resource("BiasAdd/ReadVariableOp", PLAIN),
    },
)

FROZEN = replace(
    KERAS,
    name="keras-frozen",
    about="keras.applications of Keras 3 in a frozen graph",
    modules={module: f"{name}_1" for module, name in KERAS.modules.items()},  # the layer's second call
    leaves={  # a norm casts mean, variance, gamma and beta in this order (batch_normalization.py, call)
        "conv.weight": _resource("convolution/ReadVariableOp", KERNEL),
        "norm.weight": _resource("Cast_2/ReadVariableOp", PLAIN),
        "norm.bias": _resource("Cast_3/ReadVariableOp", PLAIN),
        "norm.running_mean": _resource("Cast/ReadVariableOp", PLAIN),
        "norm.running_var": _resource("Cast_1/ReadVariableOp", PLAIN),
        "linear.weight": _resource("Cast/ReadVariableOp", KERNEL),
        "linear.bias": _resource("BiasAdd/ReadVariableOp", PLAIN),
    },
)

TRACKED = re.compile(r"(?P<owner>.*/|)layer_with_weights-(?P<n>\d{1,9})/(?P<leaf>\w+)/\.ATTRIBUTES/VARIABLE_VALUE")
"""A variable by its place in a Keras model (tensorflow/python/trackable, tf_keras/src/engine/functional.py)."""


def read_tracked(checkpoint: Checkpoint) -> Structure | None:
    """An object-based checkpoint whose variables have no names: layers by their number in the model.

    Raises:
        NotADenseNet: the layers do not alternate as in a DenseNet.
    """
    tree = checkpoint.tree
    if not isinstance(tree, dict):
        return None
    found = [(TRACKED.fullmatch(key), key) for key, value in tree.items() if isinstance(value, Tensor)]
    layers = sorted((match["owner"], int(match["n"]), match["leaf"], key) for match, key in found if match)
    if not layers:
        return None
    if len({owner for owner, *_ in layers}) > 1:
        raise NotADenseNet(f"{checkpoint.path}: several models within each other, whose variables have no names")
    keys = {f"layer_with_weights-{n}/{leaf}": key for _, n, leaf, key in layers}
    parts, dropped = parts_of({name: tree[key] for name, key in keys.items()}, keys, str(checkpoint.path))
    others = {key: "no layer of the model" for match, key in found if not match}
    note = f"padding symmetric and eps {EPS:g} as in keras.applications: the file cannot say"
    return Structure("keras-tracked", parts, {"eps": EPS}, {**dropped, **others}, (note,))
