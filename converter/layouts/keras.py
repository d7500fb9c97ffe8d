"""keras.applications (keras/src/applications/densenet.py): DenseNet121, 169 and 201.

Its code fixes growth rate 32, 64 initial features and compression 0.5; the names can
say any.  Padding is explicit and symmetric, as in PyTorch.  Keras 2 had two layers
called ``conv1/conv`` and ``conv1/bn``; its classifier was ``fc1000`` before tf.keras.

Keras 2.1.3 to 2.1.6 left out the final ReLU (keras-applications issue 31).  A whole
model's config shows it; weights alone name the Keras that wrote them, which is taken
to be the one they were trained with.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from converter.layouts.layout import Layout, Leaf
from densenet.config import DenseNetConfig

EPS = 1.001e-5
WITHOUT_FINAL_RELU = ("2.1.3", "2.1.4", "2.1.5", "2.1.6")


def _implies(_: DenseNetConfig, metadata: Mapping[str, str]) -> Mapping[str, tuple[Any, str]]:
    version = metadata.get("keras_version", "")
    if version not in WITHOUT_FINAL_RELU:
        return {}
    why = f"no ReLU after the last norm, as in Keras {version}'s code; --set final_relu=true changes it"
    return {"final_relu": (False, why)}


KERNEL = Leaf(
    ("/kernel",),
    lambda array: array.transpose(array.ndim - 1, array.ndim - 2, *range(array.ndim - 2)),
    lambda array: (array.transpose(*range(2, array.ndim), 1, 0),),
    lambda shape: (*shape[:-3:-1], *shape[:-2]),
)
"""(height, width, in, out), and for linear layers (in, out)."""

LEAVES = {
    "conv.weight": KERNEL,
    "conv.bias": Leaf(("/bias",), optional=True),
    "norm.weight": Leaf(("/gamma",)),
    "norm.bias": Leaf(("/beta",)),
    "norm.running_mean": Leaf(("/moving_mean",)),
    "norm.running_var": Leaf(("/moving_variance",)),
    "linear.weight": KERNEL,
    "linear.bias": Leaf(("/bias",)),
}

KERAS = Layout(
    name="keras",
    about="keras.applications of Keras 3",
    modules={
        "stem.conv": "conv1_conv",
        "stem.norm": "conv1_bn",
        "blocks.{b}.layers.{l}.norm1": "conv{b+2}_block{l+1}_0_bn",
        "blocks.{b}.layers.{l}.conv1": "conv{b+2}_block{l+1}_1_conv",
        "blocks.{b}.layers.{l}.norm2": "conv{b+2}_block{l+1}_1_bn",
        "blocks.{b}.layers.{l}.conv2": "conv{b+2}_block{l+1}_2_conv",
        "transitions.{t}.norm": "pool{t+2}_bn",
        "transitions.{t}.conv": "pool{t+2}_conv",
        "norm": "bn",
        "head.{h}.norm": "head_{h}_bn",
        "head.{h}.linear": "head_{h}_dense",
        "classifier": "predictions",
    },
    leaves=LEAVES,
    network={"eps": EPS},
    expresses={"compression": (), "head": ()},
    implies=_implies,
    shared=True,
)

KERAS2 = replace(
    KERAS,
    name="keras2",
    about="keras.applications of Keras 2, and the published .h5 files",
    modules={**KERAS.modules, "stem.conv": "conv1/conv", "stem.norm": "conv1/bn", "classifier": "fc1000"},
)
