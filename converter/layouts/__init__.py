"""One file per layout; this is the list of them, in the order they are tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from converter.errors import ConverterError
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
from converter.layouts.parts import StructureReader

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

STRUCTURES: Mapping[str, tuple[str, ...]] = {
    "Keras": ("flyyufelix read_flyyufelix", "keras_numbered read_numbered"),
    "HDF5": ("caffe read_caffe",),
    "Caffe": ("caffe read_caffe",),
    "MXNet": ("mxnet read_gluon",),
    "t7": ("lua read_lua",),
    "TensorFlow": ("flyyufelix read_flyyufelix", "keras_numbered read_numbered", "tf_keras read_tracked"),
    "Paddle": ("paddle read_numbered",),
    "pickle": ("paddle read_numbered",),
    "onnx": ("onnx_graph read_onnx",),
    "torchscript": ("torchscript read_torchscript",),
}
"""By how a format's name begins: readers of files whose names do not tell, as module and function."""


def structure_readers(format_name: str) -> Iterator[StructureReader]:
    """The readers for a format, imported when their turn comes; each leaves what it does not know alone."""
    for beginning, readers in STRUCTURES.items():
        if format_name.startswith(beginning):
            for reader in readers:
                module, function = reader.split()
                yield getattr(import_module(f"converter.layouts.{module}"), function)


def layout_named(name: str) -> Layout:
    """The layout of that name, or in that ``.toml`` file.

    Raises:
        ConverterError: there is none.
    """
    if name.endswith(".toml"):
        from converter.layouts.custom import read_layout  # noqa: PLC0415

        return read_layout(Path(name))
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise ConverterError(f"no layout is named {name!r}; there are {', '.join(layout.name for layout in LAYOUTS)}")
