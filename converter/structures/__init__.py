"""Networks whose files say what is computed, or only in which order: operations or parts, judged in one place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from converter.core.checkpoint import Checkpoint
from converter.structures.stated import Stated

if TYPE_CHECKING:
    from converter.structures.parts import StructureReader


def structure_readers(checkpoint: Checkpoint) -> Iterator[StructureReader]:
    """The readers for a checkpoint's format, by how its name begins; each leaves what it does not know alone.

    Each is imported when its turn comes: a .pth does not pay for the others.
    """
    format_name = checkpoint.format
    if format_name == "TensorFlow Lite":
        from converter.structures.tflite_graph import read_tflite  # noqa: PLC0415

        yield read_tflite
        return
    if format_name.startswith("TensorFlow"):
        from converter.structures.tf_graph import read_tf_graph  # noqa: PLC0415

        yield read_tf_graph
    if format_name.startswith("Keras"):
        from converter.structures.keras_config import read_keras_config  # noqa: PLC0415

        yield read_keras_config
    if format_name.startswith(("Keras", "TensorFlow")):
        from converter.structures.flyyufelix import read_flyyufelix  # noqa: PLC0415

        yield read_flyyufelix
        from converter.structures.keras_numbered import read_keras_numbered  # noqa: PLC0415

        yield read_keras_numbered
    if format_name.startswith("TensorFlow"):
        from converter.structures.tf_tracked import read_tracked  # noqa: PLC0415

        yield read_tracked
    if format_name.startswith(("HDF5", "Caffe")):
        from converter.structures.caffe import read_caffe  # noqa: PLC0415

        yield read_caffe
    if format_name.startswith("MXNet"):
        from converter.structures.mxnet_symbol import read_symbol  # noqa: PLC0415

        yield read_symbol
        from converter.structures.gluon import read_gluon  # noqa: PLC0415

        yield read_gluon
    if format_name.startswith("t7"):
        from converter.structures.lua import read_lua  # noqa: PLC0415

        yield read_lua
    if format_name.startswith(("Paddle", "pickle", "numpy")):
        from converter.structures.paddle_program import read_program  # noqa: PLC0415

        yield read_program
        from converter.structures.paddle_numbered import read_paddle_numbered  # noqa: PLC0415

        yield read_paddle_numbered
    if format_name == "Core ML":
        from converter.structures.coreml import read_coreml  # noqa: PLC0415

        yield read_coreml
    if format_name == "ncnn":
        from converter.structures.ncnn import read_ncnn  # noqa: PLC0415

        yield read_ncnn
    if format_name.lower().startswith("onnx"):
        from converter.structures.onnx_graph import read_onnx  # noqa: PLC0415

        yield read_onnx
    if format_name.startswith("OpenVINO"):
        from converter.structures.openvino_ir import read_openvino  # noqa: PLC0415

        yield read_openvino
    yield from torch_readers(checkpoint)


def torch_readers(checkpoint: Checkpoint) -> Iterator[StructureReader]:
    """The readers of PyTorch's graphs, whose weights may have names beside."""
    format_name = checkpoint.format
    if format_name.startswith("torch.export"):
        from converter.structures.torch.exported import read_exported  # noqa: PLC0415

        yield read_exported
    if format_name.startswith("torchscript"):
        from converter.structures.torch.script import read_torchscript  # noqa: PLC0415

        yield read_torchscript
    if any(name.startswith("torch.fx.") for name in checkpoint.inert):
        from converter.structures.torch.graph_module import read_graph_module  # noqa: PLC0415

        yield read_graph_module


def stated_by_graph(checkpoint: Checkpoint) -> Stated:
    """What the file's own description of its network says of weights that are taken by their names.

    Raises:
        NotADenseNet: it describes another network.
        UnreadableFile: it is no description of a network.
    """
    if checkpoint.graph is None or not checkpoint.format.startswith("Keras"):
        return Stated(checkpoint.settings)
    from converter.structures.keras_config import stated_by_keras  # noqa: PLC0415

    stated = stated_by_keras(checkpoint)
    return stated._replace(settings={**checkpoint.settings, **stated.settings})
