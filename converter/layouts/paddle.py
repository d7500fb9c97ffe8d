"""PaddlePaddle: paddle.vision (python/paddle/vision/models/densenet.py) and PaddleClas
(ppcls/arch/backbone/model_zoo/densenet.py), whose structured names are the same.

PaddleClas gives its parameters names of their own, which files of static graphs and
saved programs show.  paddle.vision does not: there a parameter is ``conv2d_7.w_0``,
numbered per class in order of construction, which is the order of execution.
Linear layers are (in, out).
"""

from converter.layouts.layout import Layout, Leaf
from converter.layouts.mxnet import SYMBOL  # both kept the names of shicai's Caffe networks


def _linear(name: str) -> Leaf:
    return Leaf((name,), lambda array: array.T, lambda array: (array.T,), lambda shape: shape[::-1])


PADDLE = Layout(
    name="paddle",
    about="paddle.vision and PaddleClas, structured names",
    modules={
        "stem.conv": "conv1_func._conv",
        "stem.norm": "conv1_func._batch_norm",
        "blocks.{b}.layers.{l}.norm1": "db_conv_{b+2}.conv{b+2}_{l+1}.bn_ac_func1._batch_norm",
        "blocks.{b}.layers.{l}.conv1": "db_conv_{b+2}.conv{b+2}_{l+1}.bn_ac_func1._conv",
        "blocks.{b}.layers.{l}.norm2": "db_conv_{b+2}.conv{b+2}_{l+1}.bn_ac_func2._batch_norm",
        "blocks.{b}.layers.{l}.conv2": "db_conv_{b+2}.conv{b+2}_{l+1}.bn_ac_func2._conv",
        "transitions.{t}.norm": "tr_conv{t+2}_blk.conv_ac_func._batch_norm",
        "transitions.{t}.conv": "tr_conv{t+2}_blk.conv_ac_func._conv",
        "norm": "batch_norm",
        "classifier": "out",
    },
    leaves={
        "conv.weight": Leaf((".weight",)),
        "norm.weight": Leaf((".weight",)),
        "norm.bias": Leaf((".bias",)),
        "norm.running_mean": Leaf(("._mean",)),
        "norm.running_var": Leaf(("._variance",)),
        "linear.weight": _linear(".weight"),
        "linear.bias": Leaf((".bias",)),
    },
)

STATIC = Layout(
    name="paddleclas-static",
    about="PaddleClas, parameter names",
    modules={**SYMBOL.modules, "classifier": "fc"},
    leaves={
        "conv.weight": Leaf(("_weights",)),
        "norm.weight": Leaf(("_bn_scale",)),
        "norm.bias": Leaf(("_bn_offset",)),
        "norm.running_mean": Leaf(("_bn_mean",)),
        "norm.running_var": Leaf(("_bn_variance",)),
        "linear.weight": _linear("_weights"),
        "linear.bias": Leaf(("_offset",)),
    },
)
