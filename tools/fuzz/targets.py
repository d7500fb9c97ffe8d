"""What is fuzzed: a file's name, and what reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from converter.core.checkpoint import Record, Tensor
from converter.core.errors import ConverterError

MOST = 1 << 26
"""Bytes of tensors read of one file."""
DEEPEST = 40


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes:
        file: what the fuzzed file is called; what else belongs to it lies beside it.
        read: reads it.
    """

    file: str
    read: Callable[[Path], object]


def opened(path: Path) -> None:
    """Open a checkpoint and read its tensors."""
    from converter.formats import open_checkpoint

    left = MOST
    for tensor in _tensors(open_checkpoint(path).tree, DEEPEST, set()):
        left -= prod(tensor.shape) * tensor.dtype.itemsize
        if left < 0:
            return
        try:
            tensor.read()
        except ConverterError:
            continue


def _tensors(node: Any, depth: int, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(node, Tensor):
        yield node
    elif depth and id(node) not in seen:
        seen.add(id(node))
        inner: list[Any] = []
        if isinstance(node, Record):
            inner = [node.args, node.state, node.items]
        elif isinstance(node, dict):
            inner = list(node.values())
        elif isinstance(node, list | tuple):
            inner = list(node)
        for value in inner:
            yield from _tensors(value, depth - 1, seen)


def whole(path: Path) -> None:
    """All that ``inspect`` and ``convert`` do with a checkpoint, but for writing."""
    from converter import load

    opened(path)
    left = MOST
    for tensor in load(path).tensors.values():
        left -= prod(tensor.shape) * tensor.dtype.itemsize
        if left > 0:
            tensor.read()


def labels(path: Path) -> None:
    """Class names, as ``--labels`` takes them."""
    from converter.cli.options import said_of_images

    said_of_images(labels=path)


def layout(path: Path) -> None:
    """A layout, as ``--layout`` takes it, tried on a small network."""
    from converter.layouts.custom import read_layout
    from densenet.config import DenseNetConfig

    read_layout(path).expand(DenseNetConfig(growth_rate=2, block_config=(1, 2), init_features=4))


def preprocess(path: Path) -> None:
    """Steps, as ``--preprocess`` and a file's metadata give them."""
    from converter.cli.options import said_of_images

    said_of_images(preprocess=path)


def image(path: Path) -> None:
    """An image, as ``predict`` reads it."""
    from densenet.images import load
    from densenet.preprocess import Preprocess

    try:
        load(path, Preprocess(resize=32, crop=(32, 32)))
    except ValueError as error:
        raise ConverterError from error


def volume(path: Path) -> None:
    """A volume, as ``predict`` reads it."""
    from densenet.images import load
    from densenet.preprocess import Preprocess

    try:
        load(path, Preprocess(resize=None, crop=(8, 8, 8), channels=1, mean=(0.0,), std=(1.0,)))
    except ValueError as error:
        raise ConverterError from error


def table(path: Path) -> None:
    """A table or list of truths, as ``evaluate --truths`` takes it."""
    from converter.use.evaluation.table import listed, read_sheet, read_text

    text = read_text(path)
    (read_sheet if path.suffix == ".csv" else listed)(path, text)


def record(path: Path) -> None:
    """A recorded reference, as ``verify --against`` takes it."""
    from converter.parity.record import read_record

    read_record(path)


def array(path: Path) -> None:
    """Arrays of images, as ``verify --images`` takes them."""
    from converter.formats.npy import read_array

    read_array(path)


READERS = {
    "safetensors": Reader("m.safetensors", whole),
    "safetensors-index": Reader("m.safetensors.index.json", whole),
    "npz": Reader("m.npz", whole),
    "npy": Reader("m.npy", whole),
    "torch-zip": Reader("m.pth", whole),
    "torch-legacy": Reader("m.pth", whole),
    "torch-tar": Reader("m.pth", whole),
    "torch-module": Reader("m.pt", whole),
    "torch-distributed": Reader(".metadata", whole),
    "torchscript": Reader("m.pt", whole),
    "torch-export": Reader("m.pt2", whole),
    "pickle": Reader("m.pkl", whole),
    "packed": Reader("m.gz", whole),
    "tar": Reader("m.tar", whole),
    "onnx": Reader("m.onnx", whole),
    "hdf5": Reader("m.h5", whole),
    "keras-zip": Reader("m.keras", whole),
    "keras-index": Reader("m.weights.json", whole),
    "tf-bundle": Reader("m.index", whole),
    "tf-table": Reader("m.ckpt", whole),
    "tf-graph": Reader("m.pb", whole),
    "tf-saved-model": Reader("saved_model.pb", whole),
    "paddle-program": Reader("inference.pdmodel", whole),
    "paddle-records": Reader("inference.pdiparams", whole),
    "paddle-json": Reader("inference.json", whole),
    "caffe": Reader("m.caffemodel", whole),
    "prototxt": Reader("m.prototxt", lambda path: whole(path.with_suffix(".caffemodel"))),
    "mxnet": Reader("m-0000.params", whole),
    "mxnet-symbol": Reader("m-symbol.json", lambda path: whole(path.with_name("m-0000.params"))),
    "mindspore": Reader("m.ckpt", whole),
    "t7": Reader("m.t7", whole),
    "config-beside": Reader("config.json", lambda path: whole(path.with_name("model.safetensors"))),
    "layout": Reader("mine.toml", layout),
    "labels": Reader("labels.json", labels),
    "preprocess": Reader("steps.json", preprocess),
    "table": Reader("truths.csv", table),
    "list": Reader("truths.txt", table),
    "record": Reader("record.npz", record),
    "array": Reader("images.npy", array),
    "image": Reader("image.png", image),
    "dicom": Reader("image.dcm", image),
    "nifti": Reader("image.nii", volume),
}
