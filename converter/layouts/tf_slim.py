"""TF-slim: pudae/tensorflow-densenet (nets/densenet.py).

Variables stand below ``densenet121/`` (161, 169).  Convolutions pad as TensorFlow does,
``SAME``; the norms have eps 1.1e-5; the classifier is a 1x1 convolution.
"""

from converter.layouts.keras import KERNEL
from converter.layouts.layout import Layout, Leaf

TF_SLIM = Layout(
    name="tf-slim",
    about="pudae/tensorflow-densenet",
    modules={
        "stem.conv": "conv1",
        "stem.norm": "BatchNorm",
        "blocks.{b}.layers.{l}.norm1": "dense_block{b+1}/conv_block{l+1}/x1/BatchNorm",
        "blocks.{b}.layers.{l}.conv1": "dense_block{b+1}/conv_block{l+1}/x1/Conv",
        "blocks.{b}.layers.{l}.norm2": "dense_block{b+1}/conv_block{l+1}/x2/BatchNorm",
        "blocks.{b}.layers.{l}.conv2": "dense_block{b+1}/conv_block{l+1}/x2/Conv",
        "transitions.{t}.norm": "transition_block{t+1}/blk/BatchNorm",
        "transitions.{t}.conv": "transition_block{t+1}/blk/Conv",
        "norm": "final_block/BatchNorm",
        "classifier": "logits",
    },
    leaves={
        "conv.weight": Leaf(("/weights",), KERNEL.read, KERNEL.write, KERNEL.shape),
        "norm.weight": Leaf(("/gamma",)),
        "norm.bias": Leaf(("/beta",)),
        "norm.running_mean": Leaf(("/moving_mean",)),
        "norm.running_var": Leaf(("/moving_variance",)),
        "linear.weight": Leaf(
            ("/weights",),
            lambda array: array.reshape(array.shape[-2:]).T,
            lambda array: (array.T[None, None],),
            lambda shape: shape[:-3:-1],
        ),
        "linear.bias": Leaf(("/biases",)),
    },
    network={"eps": 1.1e-5, "padding": "same"},
    expresses={"compression": ()},
    ignore={
        "global_step": "the trainer's count of steps",
        "*/RMSProp*": "state of the optimizer",
        "*/Momentum": "state of the optimizer",
        "*/Ada[dgm]*": "state of the optimizer",
        "*/Ftrl*": "state of the optimizer",
        "beta[12]_power": "state of the optimizer",
        "*/ExponentialMovingAverage": "averages the trainer kept beside the weights",
    },
)
