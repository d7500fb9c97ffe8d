"""MXNet: the symbols that miraclewkf/DenseNet made of shicai's Caffe networks.

Their names are Caffe's.  Their batch norms have eps 1e-4 and their poolings round up; the
``-symbol.json`` says so, and where it is missing it is what the published ones do.

Gluon (python/mxnet/gluon/model_zoo/vision/densenet.py) numbers what its code makes (``features.4.0.1.3.gamma`` by
``save_parameters``, ``densenet0_stage1_batchnorm1_gamma`` by ``save_params`` and ``export``), twice as fast as we
do, which templates do not say: ``structures/gluon.py`` reads it.
"""

from dataclasses import replace

from converter.layouts.layout import Layout, Leaf

SYMBOL = Layout(
    name="mxnet-symbol",
    about="MXNet symbols with Caffe's names (miraclewkf/DenseNet): densenet121, 161, 169",
    modules={
        "norm": "conv{n+1}_blk",  # before the transitions, which it otherwise looks like
        "stem.conv": "conv1",
        "stem.norm": "conv1",
        "blocks.{b}.layers.{l}.norm1": "conv{b+2}_{l+1}_x1",
        "blocks.{b}.layers.{l}.conv1": "conv{b+2}_{l+1}_x1",
        "blocks.{b}.layers.{l}.norm2": "conv{b+2}_{l+1}_x2",
        "blocks.{b}.layers.{l}.conv2": "conv{b+2}_{l+1}_x2",
        "transitions.{t}.norm": "conv{t+2}_blk",
        "transitions.{t}.conv": "conv{t+2}_blk",
        "classifier": "fc6",
    },
    leaves={
        "conv.weight": Leaf(("_weight",)),
        "norm.weight": Leaf(("_bn_gamma",)),
        "norm.bias": Leaf(("_bn_beta",)),
        "norm.running_mean": Leaf(("_bn_moving_mean",)),
        "norm.running_var": Leaf(("_bn_moving_var",)),
        "linear.weight": Leaf(
            ("_weight",),
            lambda kernel: kernel.reshape(kernel.shape[:2]),
            lambda matrix: (matrix[:, :, None, None],),
            lambda shape: shape[:2],
        ),
        "linear.bias": Leaf(("_bias",)),
    },
    network={"eps": 1e-4, "stem_ceil": True, "transition_ceil": True},
    assumes={
        "eps": "eps 1e-4 is assumed, as in the published -symbol.json, which is not beside the file",
        "stem_ceil": "pooling that rounds sizes up is assumed after the stem, for the same reason",
        "transition_ceil": "pooling that rounds sizes up is assumed in the transitions, for the same reason",
    },
)

SYMBOL_201 = replace(
    SYMBOL,
    name="mxnet-symbol-201",
    about="MXNet symbols with Caffe's names (miraclewkf/DenseNet): densenet201",
    modules={
        library: name.replace("_blk", "_{L}_blk") if "_blk" in name else name
        for library, name in SYMBOL.modules.items()
    },
)
