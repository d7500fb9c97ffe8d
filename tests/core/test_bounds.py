"""Every bound at its edge: just within, a file is read; just beyond, it is one line with status 2.

The bound is lowered to what a small file has, so that the edge is met without files of millions of things.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import sets
from helpers.cases import file_of
from helpers.mxnet import params
from helpers.networks import CIFAR, export_model, random_model, random_tensors, save
from helpers.tensorflow import table
from helpers.wire import data, number

import densenet.bounds
from converter import load
from converter.core import bounds
from converter.core.bounds import Bound
from converter.core.errors import ConverterError, UnreadableFile
from converter.core.metadata import parsed
from converter.formats import open_checkpoint
from converter.formats.prototxt import read_prototxt
from converter.use.evaluation.table import read_text
from converter.use.sets.parquet import open_parquet
from converter.use.sets.tar import open_tar
from densenet import images
from densenet.config import DenseNetConfig
from densenet.head import layers_of
from densenet.labels import read_labels
from densenet.preprocess import Preprocess

CONFIG = DenseNetConfig(growth_rate=2, block_config=(1, 1), init_features=4, bn_size=1, num_classes=2, in_channels=1)


@dataclass(frozen=True)
class Edge:
    """A file that meets a bound.

    Attributes:
        words: what is said beyond it.
        make: writes the file and returns it; or what is read without one.
        read: reads it.
        others: other bounds, that the one is met alone.
        least: what refuses the file for certain; below 0 of what is added to a part of the file's size.
    """

    words: str
    make: Callable[[Path], Any]
    read: Callable[[Any], object] = open_checkpoint
    others: Mapping[str, int] = field(default_factory=dict)
    least: int = 0


def _file(content: bytes, name: str = "m.bin") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _npz(compressed: bool = False, **arrays: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (np.savez_compressed if compressed else np.savez)(folder / "m.npz", **arrays)
        return folder / "m.npz"

    return make


def _zip(members: Mapping[str, bytes], name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return folder / name

    return make


def _safetensors(folder: Path) -> Path:
    return save(CONFIG, folder / "m.safetensors")


def _index(folder: Path) -> Path:
    name = _safetensors(folder).name
    index = folder / "m.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(CONFIG.tensors(), name)}))
    return index


def _tar(folder: Path) -> Path:
    with tarfile.open(folder / "m.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("a.txt", "folder/" * 30 + "b.txt", "c.safetensors"):
            info = tarfile.TarInfo(name)
            content = _safetensors(folder).read_bytes() if name.endswith("s") else b"text"
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return folder / "m.tar"


def _gzips(folder: Path) -> Path:
    (folder / "m.gz").write_bytes(gzip.compress(gzip.compress(_safetensors(folder).read_bytes())))
    return folder / "m.gz"


def _pickled(value: Any, protocol: int = 4) -> Callable[[Path], Path]:
    return _file(pickle.dumps(value, protocol), "m.pkl")


def _by_parts() -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, array in random_tensors(CONFIG).items():
        *above, last = name.split(".")
        node = tree
        for step in above:
            node = node.setdefault(step, {})
        node[last] = array
    return tree


def _torch(value: Callable[[Any], Any], **how: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        torch = pytest.importorskip("torch")
        torch.save(value(torch), folder / "m.pth", **how)
        return folder / "m.pth"

    return make


def _tensor_in_a_pickle(folder: Path) -> Path:
    torch = pytest.importorskip("torch")
    return _pickled({"a": torch.zeros(100)})(folder)


SCRIPT = {"m/data.pkl": b"\x80\x02cm\nM\n)\x81.", "m/constants.pkl": b"\x80\x02).", "m/code/x.py": b"x = 1\n" * 10}


def _onnx(folder: Path) -> Path:
    export_model(random_model(CONFIG), folder / "m.onnx")
    return folder / "m.onnx"


SOME = np.concatenate([np.random.default_rng(0).normal(size=1000), np.zeros(5000)])
LAYER = data(100, data(1, "a") + data(2, "Convolution") + data(7, data(5, b"")))
CAFFE = LAYER + LAYER.replace(b"\x0a\x01a", b"\x0a\x01b")
T7 = struct.pack("<iii", 3, 1, 1) + struct.pack("<id", 1, 1.0) + struct.pack("<iiiidii", 3, 2, 1, 1, 2.0, 5, 1)
IR = b'<net version="10"><layers><layer id="0"/></layers></net>'
TFLITE = file_of("tflite-int8").read_bytes()
STEPS = Preprocess(resize=32, crop=(32, 32))


def _image(folder: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (40, 20)).save(folder / "m.png")
    return folder / "m.png"


def _folder(folder: Path) -> Path:
    place = folder / "run"
    place.mkdir()
    for name in ("a.txt", "b.txt"):
        (place / name).write_text("text")
    save(CONFIG, place / "m.safetensors")
    return place


def _table(folder: Path) -> Path:
    (folder / "m.index").write_bytes(table([(b"", number(1, 1)), (b"a", number(1, 99)), (b"ab", number(1, 99))]))
    return folder / "m.index"


def _snappy(folder: Path) -> Path:
    (folder / "m.index").write_bytes(
        table([(b"", number(1, 1)), *((b"a%02d" % i, number(1, 99)) for i in range(40))], snappy=True)
    )
    return folder / "m.index"


def _repeated(folder: Path) -> Path:
    tensor = number(1, 1) + data(2, data(2, number(1, 50))) + data(5, b"\0\0\x80\x3f")
    node = data(1, "c") + data(2, "Const") + data(5, data(1, "value") + data(2, data(8, tensor)))
    return _file(data(1, data(1, "input") + data(2, "Placeholder")) + data(1, node), "m.pb")(folder)


def _shard(folder: Path) -> Path:
    return sets.tar(folder / "shard.tar", map(sets.sample, sets.images(3)))


def _records_of_a_shard(path: Path) -> None:
    found = open_tar(str(path))
    for why in (found.broken, *(record.failed for record in found.part.records())):
        if why:
            raise UnreadableFile(why)


def _parquet(folder: Path) -> Path:
    every = [("a", "1", bytes(1 << 16))] * 20
    return sets.parquet(folder / "shard.parquet", every, compression="zstd", labels=[["1"] * 40] * 20, rows=1)


def _rows(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"image": pyarrow.nulls(900, pyarrow.binary()), "labels": [[1, 2, 3, 4, 5, 6, 7, 8]] * 900})
    parquet.write_table(table, folder / "shard.parquet", compression="zstd")
    return folder / "shard.parquet"


def _records_of_parquet(path: Path) -> None:
    for record in open_parquet(str(path)).part.records():
        if record.failed and "no bytes" not in record.failed:
            raise UnreadableFile(record.failed)


def records(path: Path) -> Any:
    from converter.formats.paddle.params import matches_records

    if not matches_records(path, path.read_bytes()[:512]):
        raise ConverterError("no records")
    return path


def said(read: Callable[[], Any]) -> Any:
    """What densenet's own functions raise, as the command line says it."""
    try:
        return read()
    except ValueError as error:
        raise ConverterError(str(error)) from error


MSGPACK = b"\x81\xa1a\x81\xa1b\x81\xa1c\x01"
EDGES = {
    "DIMENSIONS": Edge("header is damaged", _npz(w=np.zeros((1, 2, 1, 2, 1)))),
    "NAME": Edge("has a name of", _file(params({"arg:weight": np.zeros(3, np.float32)}))),
    "JSON": Edge("bytes, ", _file(b'{"a": [1, 2]}'), lambda path: said(lambda: parsed(path.read_bytes()))),
    "CONTAINERS": Edge("lists and objects", _safetensors),
    "ARRAYS": Edge("tensors", _safetensors),
    "FIELDS": Edge("fields", _file(CAFFE, "m.caffemodel")),
    "NUMBERS": Edge(
        "numbers",
        _file(
            number(1, 8) + data(7, data(5, data(8, "w") + number(2, 1) + data(1, b"\1\1\1") + data(9, bytes(4)))),
            "m.onnx",
        ),
    ),
    "INDEX": Edge("not an index", _index),
    "ARCHIVES": Edge("known format", _gzips),
    "HELD": Edge("objects", lambda _: random_tensors(CIFAR), load),
    "MEMBERS": Edge("members", _tar),
    "TAR_HEADER": Edge("a header of", _tar),
    "INFLATED": Edge("cannot be right", _npz(True, w=np.zeros(5000))),
    "LARGE": Edge("cannot be right", _npz(True, w=np.zeros(5000))),
    "LARGE_INFLATED": Edge("cannot be right", _npz(True, w=SOME), others={"LARGE": 1}),
    "DIRECTORY": Edge("directory", _npz(w=np.zeros(5))),
    "OPCODES": Edge("opcodes", _file(b"\x80\x02}" + b"N0" * 300 + b".", "m.pkl"), least=-(1 << 16)),
    "OBJECTS": Edge("objects", _file(b"\x80\x02(" + b"]" * 300 + b"l.", "m.pkl"), least=-(1 << 16)),
    "MEMO": Edge("remembers", _file(b"\x80\x04}" + b"\x94" * 300 + b".", "m.pkl"), least=-(1 << 16)),
    "COPIES": Edge(
        "copies",
        _file(b"\x80\x02cbuiltins\nlist\nq\0](" + b"N" * 20000 + b"eq\1" + b"0h\0h\1\x85R" * 6 + b".", "m.pkl"),
    ),
    "PICKLES": Edge("within each other", _tensor_in_a_pickle),
    "EXPANDED": Edge("too often", _torch(lambda torch: {"a": torch.zeros(1).expand(100)})),
    "CODE": Edge("too long", _zip(SCRIPT, "m.pt"), lambda path: open_checkpoint(path).graph["code"]["x"]),
    "SAFETENSORS_HEADER": Edge("", _safetensors),
    "NPY_HEADER": Edge("header is damaged", _npz(w=np.zeros(5))),
    "T7_VALUES": Edge("values", _file(T7, "m.t7")),
    "T7_NESTED": Edge("nested", _file(T7, "m.t7")),
    "MSGPACK_VALUES": Edge("too many values", _file(MSGPACK, "m.msgpack")),
    "MSGPACK_NESTED": Edge("nested too deeply", _file(MSGPACK, "m.msgpack")),
    "NCNN_PARAM": Edge("too large", lambda _: file_of("ncnn").with_suffix(".param")),
    "PROTOTXT": Edge("too large", _file(b'name: "a"'), read_prototxt),
    "PROTOTXT_NESTED": Edge("malformed", _file(b"a { b { c { d: 1 } } }"), read_prototxt),
    "IR": Edge("too large", _file(IR, "m.xml")),
    "IR_ELEMENTS": Edge("more elements", _file(IR, "m.xml")),
    "IR_NESTED": Edge("more elements", _file(IR, "m.xml")),
    "TABLES": Edge("tables", _file(TFLITE, "m.tflite")),
    "SNAPPY": Edge("its size cannot be right", _snappy),
    "TABLE_KEYS": Edge("keys are too long", _table),
    "PADDLE_DESC": Edge(
        "",
        _file(struct.pack("<IQIi", 0, 0, 0, 4) + b"\x08\x05\x10\x01" + bytes(4), "m.pdiparams"),
        records,
    ),
    "REPEATED": Edge("values", _repeated),
    "OPERATORS": Edge("operators", _onnx, load),
    "TENSORS": Edge("no named tensors", _safetensors, load),
    "NESTED_NAMES": Edge("", _pickled(_by_parts()), load),
    "FILES": Edge("files", _folder, load),
    "TRUTHS": Edge("bytes", _file(b"a.png 1\n"), read_text),
    "IMAGE": Edge("bytes", _shard, _records_of_a_shard),
    "RECORDS": Edge("samples", _shard, _records_of_a_shard),
    "ROWS": Edge("rows", _rows, _records_of_parquet, least=-(1 << 12)),
    "LISTED": Edge("values", _rows, _records_of_parquet, least=-(1 << 14)),
    "PAGES": Edge("pages", _parquet, _records_of_parquet, least=-(1 << 12)),
    "PAGE_INFLATED": Edge(
        "a page that unpacks", _parquet, _records_of_parquet, others={"LARGE": 1, "LARGE_INFLATED": 999}
    ),
    "PARQUET_FOOTER": Edge("a footer of", _parquet, _records_of_parquet),
    "THRIFT_NESTED": Edge("within each other", _parquet, _records_of_parquet),
    "TEXT": Edge("bytes", _file(b"cat\ndog\n"), lambda path: said(lambda: read_labels(path))),
    "NODES": Edge("nodes", _file(data(1, data(1, "a") + data(2, "Placeholder")) * 9, "m.pb")),
    "PIXELS": Edge("elongated", _image, lambda path: said(lambda: images.load(path, STEPS))),
    "INPUT": Edge("too large", _file(b"x"), lambda path: said(lambda: Preprocess(resize=32, crop=(32, 32)))),
    "WIDTH": Edge("linear", _file(b"x"), lambda path: said(lambda: layers_of("linear:8"))),
}
OF_IMAGES = ("PIXELS", "INPUT", "TEXT", "WIDTH")
UNSAID = """
    CONFIG MANIFEST PROTOTXTS OUTPUTS JOINED COMPUTED FILLED COMPARED REGION HOPS LUA_SEARCH HEAD_LAYERS HEAD_PARTS
    HEAD_MERGED HEAD_TRIED NUMBER ENTRIES ENTRIES_NESTED CLASSES BLOCKS PATH_PARTS NAME_PARTS WRAPPERS SYMBOL_TEXT
    KERAS_NUMBERS KERAS_WIDTH BESIDE LABEL PAGE_HEADER UNPACKED""".split()
"""What is beyond them is not looked at, or not found: the tests of their readers say what becomes of the file."""
NOT_MET = """
    METADATA CHUNKS GRAPH_CODE FUNCTION_NODES CALLS STEPS LUA_NESTED EXPORTED_INPUTS MODULES SCRIPT_WORK SCRIPT_CALLS
    SCRIPT_LIST KERAS_LAYERS DOWNLOAD""".split()
"""Not met here: they take graphs that frameworks trace, or a server."""


def table_of_bounds() -> dict[str, Bound]:
    return {
        name: value
        for module in (bounds, densenet.bounds)
        for name, value in vars(module).items()
        if isinstance(value, Bound)
    }


@pytest.mark.parametrize("name", EDGES)
def test_the_edge_of_a_bound(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = EDGES[name]
    path = edge.make(tmp_path)
    for other, most in edge.others.items():
        monkeypatch.setattr(bounds, other, most)

    def refusal(most: int) -> str | None:
        monkeypatch.setattr(densenet.bounds if name in OF_IMAGES else bounds, name, most)
        try:
            edge.read(path)
        except ConverterError as error:
            assert error.exit_status == 2
            return str(error)
        return None

    within = int(table_of_bounds()[name])
    beyond = edge.least
    assert refusal(within) is None
    assert refusal(beyond) is not None
    while within - beyond > 1:
        middle = (within + beyond) // 2
        if refusal(middle) is None:
            within = middle
        else:
            beyond = middle
    line = refusal(beyond)
    assert line is not None
    assert edge.words in line
    assert "\n" not in line


def test_every_bound_is_tested_and_says_of_what_it_is_and_why() -> None:
    found = table_of_bounds()
    assert sorted(found) == sorted([*EDGES, *UNSAID, *NOT_MET])
    assert all(bound > 0 and bound.unit and bound.why for bound in found.values())
