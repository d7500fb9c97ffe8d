"""TensorFlow files, written by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from converter.core.model import Model
from converter.layouts.keras import KERAS2
from converter.layouts.tf_slim import TF_SLIM
from densenet.config import DenseNetConfig
from helpers.networks import SMALL, random_tensors
from helpers.wire import data, fixed32, number, varint

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
CODES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "bfloat16": 14, "float16": 19}
Arrays = dict[str, np.ndarray]
SLIM = replace(SMALL, eps=1.1e-5, padding="same")


def block(entries: Iterable[tuple[bytes, bytes]], *, snappy: bool = False) -> bytes:
    """A block with keys that share what they can, and its trailer."""
    out, last = b"", b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(last, key)) if a != b), min(len(last), len(key)))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    out += bytes(4) + (1).to_bytes(4, "little")
    if snappy:  # literals only: what a compressor may always write
        pieces = [out[i : i + 60] for i in range(0, len(out), 60)]
        out = varint(len(out)) + b"".join(bytes([(len(piece) - 1) << 2]) + piece for piece in pieces)
    return out + bytes([snappy]) + bytes(4)


def table(entries: Iterable[tuple[bytes, bytes]], *, snappy: bool = False, per_block: int = 7) -> bytes:
    items, out, index = list(entries), b"", []
    for i in range(0, len(items), per_block):
        piece = block(items[i : i + per_block], snappy=snappy)
        index.append((items[min(i + per_block, len(items)) - 1][0] + b"~", varint(len(out)) + varint(len(piece) - 5)))
        out += piece
    meta, top = block([]), block(index)
    footer = varint(len(out)) + varint(len(meta) - 5) + varint(len(out) + len(meta)) + varint(len(top) - 5)
    return out + meta + top + footer.ljust(40, b"\0") + MAGIC


def shape(array: np.ndarray) -> bytes:
    return b"".join(data(2, number(1, n)) for n in array.shape)


def write_v2(prefix: Path, arrays: dict[str, np.ndarray], *, shards: int = 1, graph: bytes = b"", **how: int) -> Path:
    contents, items = [b""] * shards, [(b"", number(1, shards))]
    if graph:
        text = varint(len(graph)) + bytes(4) + graph
        entry = number(1, 7) + number(5, len(text))
        contents[0] = text
        items.append((b"_CHECKPOINTABLE_OBJECT_GRAPH", entry))
    for i, (name, array) in enumerate(sorted(arrays.items())):
        raw, shard = array.tobytes(), i % shards
        entry = number(1, CODES[array.dtype.name]) + data(2, shape(array)) + number(3, shard)
        entry += number(4, len(contents[shard])) + number(5, len(raw)) + fixed32(6, bytes(4))
        contents[shard] += raw
        items.append((name.encode(), entry))
    for i, content in enumerate(contents):
        prefix.with_name(f"{prefix.name}.data-{i:05d}-of-{shards:05d}").write_bytes(content)
    index = prefix.with_name(f"{prefix.name}.index")
    index.write_bytes(table(items, **how))
    return index


def write_v1(path: Path, arrays: dict[str, np.ndarray], **how: int) -> Path:
    meta, items = b"", []
    for i, (name, array) in enumerate(arrays.items()):
        code = CODES[array.dtype.name]
        meta += data(1, data(1, name) + data(2, shape(array)) + number(3, code) + data(4, b""))
        flat = array.reshape(-1)
        if code in (1, 2):
            values = data(5 if code == 1 else 6, array.tobytes())
        elif code in (14, 19):
            values = data(13, b"".join(map(varint, flat.view(np.uint16).tolist())))
        else:
            values = data(10 if code == 9 else 7, b"".join(varint(n % 2**64) for n in flat.tolist()))
        items.append((b"\0%05d" % i, data(2, data(1, name) + data(3, number(1, code) + values))))
    path.write_bytes(table([(b"", data(1, meta)), *items], **how))
    return path


def write_graph(path: Path, arrays: dict[str, np.ndarray], eps: float | None = None) -> Path:
    out = data(1, data(1, "input") + data(2, "Placeholder"))
    for name, array in arrays.items():
        tensor = number(1, CODES[array.dtype.name]) + data(2, shape(array)) + data(4, array.tobytes())
        out += data(1, data(1, name) + data(2, "Const") + data(5, data(1, "value") + data(2, data(8, tensor))))
    if eps:
        value = data(2, fixed32(4, np.float32(eps).tobytes()))
        out += data(1, data(1, "norm") + data(2, "FusedBatchNormV3") + data(5, data(1, "epsilon") + value))
    path.write_bytes(out)
    return path


WRITERS = {"v1": write_v1, "v2": write_v2, "graph": write_graph}


def slim(config: DenseNetConfig = SLIM, dtype: type = np.float32) -> tuple[Arrays, Arrays]:
    """A random network in the library layout, and under TF-slim's names."""
    tensors = random_tensors(config, dtype=dtype)
    named = {}
    for name, (leaf, keys) in TF_SLIM.expand(config).items():
        if name in tensors:
            assert leaf.write is not None
            named[f"densenet121/{keys[0]}"] = leaf.write(tensors[name])[0]
    return tensors, named


def same(model: Model, want: dict[str, np.ndarray]) -> None:
    assert set(model.tensors) == set(want)
    for name, array in want.items():
        np.testing.assert_array_equal(model.tensors[name].read(), array, err_msg=name)


def keras_objects(config: DenseNetConfig) -> tuple[dict[str, np.ndarray], tuple[dict[str, np.ndarray], bytes]]:
    """A random network as an object-based checkpoint of Keras: arrays by place, and the graph with names."""
    tensors = random_tensors(config)
    modules = [module.name for module in config.modules()]
    arrays, nodes = {}, b""
    for name, (leaf, keys) in KERAS2.expand(config).items():
        if name in tensors:
            assert leaf.write is not None
            place = f"layer_with_weights-{modules.index(name.rpartition('.')[0])}/{keys[0].rpartition('/')[2]}"
            arrays[f"{place}/.ATTRIBUTES/VARIABLE_VALUE"] = leaf.write(tensors[name])[0]
            attribute = data(1, "VARIABLE_VALUE") + data(2, keys[0]) + data(3, f"{place}/.ATTRIBUTES/VARIABLE_VALUE")
            nodes += data(1, data(2, attribute))
    return tensors, (arrays, nodes)
