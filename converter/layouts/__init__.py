"""One file per layout; this is the list of them, in the order they are tried."""

from pathlib import Path

from converter.core.errors import ConverterError
from converter.core.nearest import meant
from converter.layouts import (
    bamos,
    gpleiss,
    keras,
    kuangliu,
    library,
    mindspore,
    mmpretrain,
    monai,
    mxnet,
    paddle,
    tf_keras,
    tf_slim,
    timm,
    torchvision,
    weiaicunzai,
)
from converter.layouts.layout import Layout
from densenet.bounds import is_pipe

LAYOUTS: tuple[Layout, ...] = (
    library.LIBRARY,
    torchvision.TORCHVISION,
    timm.TIMM,
    torchvision.LEGACY,
    torchvision.FEATURES,
    mmpretrain.MMPRETRAIN,
    mmpretrain.BACKBONE,
    monai.MONAI,
    gpleiss.GPLEISS,
    gpleiss.GPLEISS_2017,
    bamos.BAMOS,
    bamos.ANDREASVEIT,
    kuangliu.KUANGLIU,
    weiaicunzai.WEIAICUNZAI,
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


def layout_named(name: str) -> Layout:
    """The layout of that name, or in that ``.toml`` file; or what comes out of that pipe.

    Raises:
        ConverterError: there is none.
    """
    if name.endswith(".toml") or is_pipe(name):
        from converter.layouts.custom import read_layout  # noqa: PLC0415 (for few)

        return read_layout(Path(name))
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    known = [layout.name for layout in LAYOUTS]
    raise ConverterError(f"no layout is named {name!r}; there are {', '.join(known)}{meant(name, known)}")
