"""PaddlePaddle: paddle.vision (python/paddle/vision/models/densenet.py) and PaddleClas
(ppcls/arch/backbone/model_zoo/densenet.py), whose structured names are the same.

PaddleClas gives its parameters names of their own, which files of static graphs and
saved programs show.  paddle.vision does not: there a parameter is ``conv2d_7.w_0``,
numbered per class in order of construction, which is the order of execution.
Linear layers are (in, out).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain, zip_longest

from converter.checkpoint import Checkpoint, Tensor
from converter.layouts.layout import Array, Layout, Leaf
from converter.layouts.mxnet import SYMBOL  # both kept the names of shicai's Caffe networks
from converter.layouts.parts import Part, Structure, norm_part


def _transposed(array: Array) -> Array:
    return array.T


def _linear(name: str) -> Leaf:
    return Leaf((name,), _transposed, lambda array: (array.T,), lambda shape: shape[::-1])


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

NUMBERED = re.compile(r"(conv2d|batch_norm|batch_norm2d|linear|fc)_(\d{1,9})\.([wb]_\d)")
LEAVES = {
    "conv2d": {"w_0": "weight", "b_0": "bias"},
    "batch_norm": {"w_0": "weight", "b_0": "bias", "w_1": "running_mean", "w_2": "running_var"},
    "linear": {"w_0": "weight", "b_0": "bias"},
}
KINDS = {"batch_norm2d": "batch_norm", "fc": "linear"}


def read_numbered(checkpoint: Checkpoint) -> Structure | None:
    """A file whose tensors are all called ``<class>_<number>.<w or b>_<number>``."""
    tree = checkpoint.tree
    if not isinstance(tree, dict):
        return None
    found = {key: NUMBERED.fullmatch(str(key)) for key, value in tree.items() if isinstance(value, Tensor)}
    if not found or not all(found.values()):
        return None
    modules: dict[str, dict[int, dict[str, str]]] = {kind: {} for kind in LEAVES}
    for key, name in found.items():
        assert name is not None
        kind = KINDS.get(name[1], name[1])
        leaf = LEAVES[kind].get(name[3])
        if leaf is None:
            return None
        modules[kind].setdefault(int(name[2]), {})[leaf] = key
    convs, norms, linears = ([keys for _, keys in sorted(found.items())] for found in modules.values())
    # A DenseNet's first convolution is followed by two norms, any other by one (its own layer's order
    # is norm, convolution); so pairing from the first on gives the order of execution.
    parts = [_part("conv", keys, tree) for keys in convs[:1]]
    parts += [_part("batch_norm", keys, tree) for keys in norms[:1]]
    rest = zip_longest(
        (_part("batch_norm", keys, tree) for keys in norms[1:]), (_part("conv", keys, tree) for keys in convs[1:])
    )
    parts += [part for part in chain.from_iterable(rest) if part]
    parts += [_part("linear", keys, tree) for keys in linears]
    return Structure("paddle, numbered parameters", parts)


def _part(kind: str, keys: Mapping[str, str], tree: Mapping[str, Tensor]) -> Part:
    tensors = {leaf: tree[key] for leaf, key in keys.items()}
    if kind == "batch_norm":
        return norm_part(tensors, keys)
    if kind == "conv":
        return Part("conv", tensors, keys)
    weight = tensors["weight"]
    tensors["weight"] = Tensor(weight.shape[::-1], weight.dtype, lambda: weight.read().T)
    return Part("linear", tensors, keys)
