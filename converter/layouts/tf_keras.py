"""Keras networks out of TensorFlow's containers: frozen graphs, and trees of objects without names.

Where a checkpoint says how its variables were called (``conv1/conv/kernel``), the
layouts of converter/layouts/keras.py apply as they are.
"""

from dataclasses import replace

from converter.layouts.keras import KERAS, KERAS2, KERNEL
from converter.layouts.layout import Leaf

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

TRACKED = r"(?P<owner>.*/|)layer_with_weights-(?P<n>\d{1,9})/(?P<leaf>\w+)/\.ATTRIBUTES/VARIABLE_VALUE"
"""A variable by its place in a Keras model (tensorflow/python/trackable, tf_keras/src/engine/functional.py)."""
