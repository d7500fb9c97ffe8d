"""One file per layout; this is the list of them, in the order they are tried."""

from __future__ import annotations

from converter.errors import ConverterError
from converter.layouts import (
    caffe,
    flyyufelix,
    keras,
    keras_numbered,
    library,
    lua,
    mindspore,
    mmpretrain,
    mxnet,
    onnx_graph,
    paddle,
    tf_keras,
    tf_slim,
    timm,
    torchscript,
    torchvision,
)
from converter.layouts.layout import Layout
from converter.layouts.parts import StructureReader

LAYOUTS: tuple[Layout, ...] = (
    library.LIBRARY,
    torchvision.TORCHVISION,
    timm.TIMM,
    torchvision.LEGACY,
    torchvision.FEATURES,
    mmpretrain.MMPRETRAIN,
    mmpretrain.BACKBONE,
    keras.KERAS,
    keras.KERAS2,
    mxnet.SYMBOL,
    mxnet.SYMBOL_201,
    mindspore.MINDCV,
    tf_slim.TF_SLIM,
    tf_keras.FROZEN2,
    tf_keras.FROZEN,
    paddle.PADDLE,
    paddle.STATIC,
)
"""Of layouts that account for the same tensors the earlier wins, unless a signature speaks for a later one."""

STRUCTURES: tuple[StructureReader, ...] = (
    flyyufelix.read_flyyufelix,
    keras_numbered.read_numbered,
    caffe.read_caffe,
    mxnet.read_gluon,
    lua.read_lua,
    tf_keras.read_tracked,
    paddle.read_numbered,
    onnx_graph.read_onnx,
    torchscript.read_torchscript,
)
"""Readers of files whose names do not tell; each knows its own kind of tree and leaves others alone."""


def layout_named(name: str) -> Layout:
    """The layout of that name.

    Raises:
        ConverterError: there is none.
    """
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise ConverterError(f"no layout is named {name!r}; there are {', '.join(layout.name for layout in LAYOUTS)}")
