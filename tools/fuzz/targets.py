"""What is fuzzed: a file's name, and what reads it."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from math import prod
from pathlib import Path
from typing import Any

from converter.core.checkpoint import Checkpoint, Record, Tensor
from converter.core.errors import ConverterError

MOST = 1 << 24
"""Bytes of tensors read of one file."""
DEEPEST = 40
AGAIN = 64


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes:
        file: what the fuzzed file is called; what else belongs to it lies beside it.
        read: reads it.
    """

    file: str
    read: Callable[[Path], object]


def opened(path: Path) -> Checkpoint:
    """Open a checkpoint and read its tensors."""
    from converter.formats import open_checkpoint

    checkpoint = open_checkpoint(path)
    left = MOST
    for tensor in _tensors(checkpoint.tree, DEEPEST, set()):
        left -= prod(tensor.shape) * tensor.dtype.itemsize
        if left < 0:
            break
        with suppress(ConverterError):
            tensor.read()
    return checkpoint


def _tensors(node: Any, depth: int, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(node, Tensor):
        yield node
    elif depth and id(node) not in seen:
        seen.add(id(node))
        for value in _inside(node):
            yield from _tensors(value, depth - 1, seen)


def _inside(node: Any) -> Iterable[Any]:
    if isinstance(node, Record):
        return node.args, node.state, node.items
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list | tuple) else ()


_judged: Counter[int] = Counter()


def whole(path: Path) -> None:
    """All that ``inspect`` and ``convert`` do with a checkpoint, but for hashing and writing.

    What opens as something before did (the same names, shapes, plain values and graph: other numbers, that is) is
    judged every ``AGAIN``th time only, which is most of the time that it takes.
    """
    from converter.core.source import Source
    from converter.fetch.place import resolve
    from converter.reading.load import inspect_place

    place = resolve(path)
    checkpoint = opened(place.path)
    looks = hash(_looks([checkpoint.tree, checkpoint.settings, checkpoint.metadata, checkpoint.graph], DEEPEST))
    _judged[looks] += 1
    if _judged[looks] % AGAIN != 1:
        return
    left = MOST
    for tensor in inspect_place(place, Source.of(path), hashed=False).model.tensors.values():
        left -= prod(tensor.shape) * tensor.dtype.itemsize
        if left > 0:
            tensor.read()


def _looks(node: Any, depth: int) -> object:
    """What can be hashed of a tree, and tells it from others."""
    if isinstance(node, Tensor):
        return node.shape, str(node.dtype)
    if not depth:
        return None
    if isinstance(node, Mapping):
        return tuple((str(key), _looks(value, depth - 1)) for key, value in node.items())
    if isinstance(node, Record):
        return node.cls, *(_looks(value, depth - 1) for value in _inside(node))
    if isinstance(node, list | tuple):
        return tuple(_looks(value, depth - 1) for value in node)
    if is_dataclass(node):
        return type(node), *(_looks(getattr(node, each.name), depth - 1) for each in fields(node))
    return bytes(node) if isinstance(node, memoryview) else str(node)


def folder(path: Path) -> None:
    """A folder, which a file in it describes."""
    whole(path.parent)


def beside(name: str) -> Callable[[Path], None]:
    """What reads a file of another name, which this one belongs to."""
    return lambda path: whole(path.with_name(name))


def provenance(path: Path) -> None:
    """What a package says of its files."""
    from converter.publish.provenance import read_provenance

    read_provenance(path.parent)


def labels(path: Path) -> None:
    """Class names, as ``--labels`` takes them."""
    from converter.cli.options import said_of_images

    said_of_images(labels=[str(path)])


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
        raise ConverterError(str(error)) from error


def volume(path: Path) -> None:
    """A volume, as ``predict`` reads it."""
    from densenet.images import load
    from densenet.preprocess import Preprocess

    try:
        load(path, Preprocess(resize=None, crop=(8, 8, 8), channels=1, mean=(0.0,), std=(1.0,)))
    except ValueError as error:
        raise ConverterError(str(error)) from error


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


def images(path: Path) -> None:
    """A set of images, as ``evaluate`` goes through it: its classes, and the files of its images, undecoded."""
    from converter.use.sets.find import open_shards
    from converter.use.sets.record import stream

    left = MOST
    found = open_shards([str(path)])
    for _, records in stream(found.blocks()):
        left -= sum(max(len(each.image.data), 1 << 10) for each in records if not isinstance(each.image, Path))
        if left < 0:
            break


def summed(read: Callable[[Path], object]) -> Callable[[Path], None]:
    """The same of a tar, whose headers get the sums that no chance would find."""

    def summing(path: Path) -> None:
        data = bytearray(path.read_bytes())
        for at in range(0, len(data) - 511, 512):
            if data[at + 257 : at + 262] == b"ustar":
                data[at + 148 : at + 156] = b" " * 8
                data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
        path.write_bytes(data)
        read(path)

    return summing


def rows(path: Path) -> None:
    """Rows of an interrupted run or a shard: what a frame holds, whose checksum no chance would find."""
    from converter.use.journal import HEAD, KIND, read_journal

    content = path.read_bytes()
    frame = HEAD.pack(len(content), zlib.crc32(content)) + content
    path.write_bytes(json.dumps({"kind": KIND}).encode() + b"\n" + frame)
    with read_journal(path) as kept:
        for block in kept.known:
            kept.rows(block)


READERS = {
    "safetensors": Reader("m.safetensors", whole),
    "safetensors-index": Reader("m.safetensors.index.json", whole),
    "npz": Reader("m.npz", whole),
    "npy": Reader("m.npy", whole),
    "torch-zip": Reader("m.pth", whole),
    "torch-legacy": Reader("m.pth", whole),
    "torch-tar": Reader("m.pth", summed(whole)),
    "torch-module": Reader("m.pt", whole),
    "torch-distributed": Reader(".metadata", whole),
    "torch-shard": Reader("__0_0.distcp", whole),
    "torchscript": Reader("m.pt", whole),
    "torch-export": Reader("m.pt2", whole),
    "pickle": Reader("m.pkl", whole),
    "packed": Reader("m.gz", whole),
    "tar": Reader("m.tar", summed(whole)),
    "onnx": Reader("m.onnx", whole),
    "openvino": Reader("m.xml", whole),
    "tflite": Reader("m.tflite", whole),
    "ort": Reader("m.ort", whole),
    "hdf5": Reader("m.h5", whole),
    "keras-zip": Reader("m.keras", whole),
    "keras-index": Reader("m.weights.json", whole),
    "tf-bundle": Reader("m.index", whole),
    "tf-data": Reader("m.data-00000-of-00001", beside("m.index")),
    "tf-table": Reader("m.ckpt", whole),
    "tf-graph": Reader("m.pb", whole),
    "tfjs-layers": Reader("model.json", whole),
    "tfjs-graph": Reader("model.json", whole),
    "tf-saved-model": Reader("saved_model.pb", whole),
    "paddle-program": Reader("inference.pdmodel", whole),
    "paddle-records": Reader("inference.pdiparams", whole),
    "paddle-params": Reader("m.pdparams", whole),
    "paddle-json": Reader("inference.json", whole),
    "caffe": Reader("m.caffemodel", whole),
    "prototxt": Reader("m.prototxt", beside("m.caffemodel")),
    "mxnet": Reader("m-0000.params", whole),
    "mxnet-symbol": Reader("m-symbol.json", beside("m-0000.params")),
    "coreml-program": Reader("model.mlmodel", whole),
    "coreml-network": Reader("DenseNet.mlmodel", whole),
    "coreml-weights": Reader("weights/weight.bin", whole),
    "coreml-manifest": Reader("Manifest.json", folder),
    "ncnn": Reader("densenet.ncnn.param", whole),
    "ncnn-bin": Reader("densenet.ncnn.bin", whole),
    "msgpack": Reader("densenet.msgpack", whole),
    "keras-preset": Reader("task.json", whole),
    "mindspore": Reader("m.ckpt", whole),
    "t7": Reader("m.t7", whole),
    "config-beside": Reader("config.json", beside("model.safetensors")),
    "layout": Reader("mine.toml", layout),
    "mlflow": Reader("MLmodel", folder),
    "mmdeploy": Reader("deploy.json", folder),
    "labels": Reader("labels.json", labels),
    "labels-text": Reader("labels.txt", labels),
    "preprocess": Reader("steps.json", preprocess),
    "table": Reader("truths.csv", table),
    "list": Reader("truths.txt", table),
    "provenance": Reader("provenance.json", provenance),
    "record": Reader("record.npz", record),
    "array": Reader("images.npy", array),
    "images-tar": Reader("val.tar", summed(images)),
    "images-parquet": Reader("val.parquet", images),
    "rows": Reader("table.csv.1-of-2", rows),
    "image": Reader("image.png", image),
    "dicom": Reader("image.dcm", image),
    "nifti": Reader("image.nii", volume),
}
