"""TensorFlow's checkpoints: V2 (``.index`` and ``.data-*``), V1 (one file), and SavedModel folders.

Both are sorted string tables.  In V2 the table maps variable names to places in data
files (tensorflow/core/protobuf/tensor_bundle.proto), in V1 it holds the values
(tensorflow/core/util/saved_tensor_slice.proto).  A SavedModel keeps its variables as a
V2 checkpoint.  Object-based checkpoints (``tf.train.Checkpoint``, Keras) name a variable by
its place in a tree of objects; the name it was made with is in the object graph,
and is the one used here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import UnreadableFile
from converter.core.mapping import content
from converter.formats.damage import damaged, naming
from converter.formats.protobuf import mapped, message, messages, number, text
from converter.formats.tensorflow.graph import saved_model
from converter.formats.tensorflow.protos import DTYPES, STRING, shape_of, tensor_of
from converter.formats.tensorflow.sstable import FOOTER, MAGIC, entries, varint

GRAPH = "saved_model.pb"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""What follows an object's path (tensorflow/python/trackable/trackable_utils.py)."""

STATE = re.compile(r"optimizer/|_optimizer|save_counter/|keras_api/|_all_variables/|.*/\.OPTIMIZER_SLOT/")
"""Objects that are no part of the model: training state, metrics, a second list of everything (Keras 3's exports)."""

DATA = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
EPS = re.compile(rb'"momentum": [\d.e-]+, "epsilon": ([\d.e-]+), "center":')
"""A batch norm in Keras' description of a model, keras_metadata.pb."""


def matches(path: Path, head: bytes) -> bool:
    """Whether a file is a table, a data file beside its ``.index``, or ``saved_model.pb``."""
    if path.name == GRAPH:
        return head[:1] in (b"\x08", b"\x12")
    if DATA.fullmatch(path.name):
        return index_of(path) is not None
    if path.stat().st_size < FOOTER:
        return False
    with path.open("rb") as file:
        file.seek(-8, 2)
        return file.read() == MAGIC


def matches_folder(path: Path) -> bool:
    """Whether a folder is a SavedModel, or holds one V2 checkpoint."""
    return (path / GRAPH).is_file() or _index_in(path) is not None


def index_of(path: Path) -> Path | None:
    """The ``.index`` of a V2 checkpoint given by its prefix or a data file, if there is one."""
    data = DATA.fullmatch(path.name)
    index = path.with_name(f"{data[1] if data else path.name}.index")
    return index if index.is_file() else None


def _index_in(folder: Path) -> Path | None:
    index = folder / "variables" / "variables.index"
    if index.is_file():
        return index
    found = [file for file in folder.glob("*.index") if any(folder.glob(f"{_escaped(file.stem)}.data-*"))]
    return found[0] if len(found) == 1 else None


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def open_folder(path: Path) -> Checkpoint:
    """Open a SavedModel, or the one checkpoint in a folder.

    Raises:
        UnreadableFile: it is neither, or damaged.
    """
    index = _index_in(path)
    if (path / GRAPH).is_file():
        return _saved_model(path, index)
    if index is None:
        raise UnreadableFile(f"{path}: a folder without variables/variables.index")
    return open_tensorflow(index)


def _saved_model(path: Path, index: Path | None) -> Checkpoint:
    """A SavedModel: its graph, and its variables if it has some (constants of the graph are weights too)."""
    graph, files, tree = saved_model(path / GRAPH), [path / GRAPH], dict[str, Any]()
    if index is not None:
        with naming(index):
            bundle = _opened(index)
        graph = replace(graph, variables=bundle.variables)
        tree, files = bundle.tree, [index, *bundle.files, *files]
    metadata, settings = path / "keras_metadata.pb", dict[str, Any]()
    if metadata.is_file():
        eps = set(EPS.findall(metadata.read_bytes()))
        if len(eps) == 1:
            files.append(metadata)
            settings = {"eps": float(eps.pop())}
    return Checkpoint(path, "TensorFlow SavedModel", tree, {}, tuple(files), settings=settings, graph=graph)


def open_tensorflow(path: Path) -> Checkpoint:
    """Open a checkpoint, by its table or one of its data files.

    Raises:
        UnreadableFile: damaged or truncated; a data file is missing; a variable is partitioned.
    """
    if path.name == GRAPH:
        return open_folder(path.parent)
    if DATA.fullmatch(path.name):
        path = index_of(path) or path
    folder = path.parent.parent
    if path.parent.name == "variables" and path.stem == "variables" and (folder / GRAPH).is_file():
        return _saved_model(folder, path)
    with naming(path):
        bundle = _opened(path)
    return Checkpoint(path, f"TensorFlow {bundle.version} checkpoint", bundle.tree, files=(path, *bundle.files))


@dataclass(frozen=True)
class _Bundle:
    """A checkpoint's variables by name, training state apart; and by key, with the name of each."""

    version: str
    tree: dict[str, Any]
    files: tuple[Path, ...] = ()
    variables: Mapping[str, tuple[str, Tensor]] = field(default_factory=dict)


def _opened(path: Path) -> _Bundle:
    table = entries(mapped(path))
    key, header = next(table, (b"?", memoryview(b"")))
    if key:
        raise UnreadableFile("a table of something else")
    if bytes(header[:1]) == b"\x0a":
        return _Bundle("V1", dict(_v1(header, table)))
    return _v2(path, header, table)


# -- V2 -----------------------------------------------------------------------------------


def _v2(path: Path, header: memoryview, table: Iterator[tuple[bytes, memoryview]]) -> _Bundle:
    """BundleHeaderProto {1: num_shards, 2: endianness}; BundleEntryProto {1: dtype, 2: shape, 3: shard_id,
    4: offset, 5: size, 7: slices}."""
    shards = number(header, 1)
    if number(header, 2):
        raise UnreadableFile("a big-endian checkpoint, which is not read")
    opened: dict[Path, memoryview] = {}
    tensors: dict[str, Tensor] = {}
    graph, count = memoryview(b""), 0
    for key, entry in table:
        if (count := count + 1) > bounds.ARRAYS:
            raise UnreadableFile(f"more than {bounds.ARRAYS} variables")
        name, code, shard = _name(key), number(entry, 1), number(entry, 3)
        if code not in (*DTYPES, STRING):
            continue
        if any(True for _ in messages(entry, 7)):
            raise UnreadableFile(f"{name} is a partitioned variable, which is not read")
        start, size = number(entry, 4), number(entry, 5)
        file = path.with_name(f"{path.name.removesuffix('.index')}.data-{shard:05d}-of-{shards:05d}")
        if file not in opened:
            if not 0 <= shard < shards or not file.is_file():
                raise UnreadableFile(f"the data file {file.name} is missing")
            opened[file] = mapped(file)
        data = opened[file]
        if min(start, size) < 0 or start + size > len(data):
            raise UnreadableFile(f"{name} ends behind the end of {file.name} (truncated?)")
        if code == STRING:
            if name == OBJECT_GRAPH:
                graph = content(data[start : start + size])
            continue
        shape, dtype = shape_of(entry), DTYPES[code]
        if size != prod(shape) * dtype.itemsize:
            raise UnreadableFile(f"damaged, {name} of shape {list(shape)} has {size} bytes of {dtype}")
        tensors[name] = Tensor.over(data[start : start + size], dtype, shape)
    tree = _named(tensors, _full_names(graph))
    called = {id(tensor): name for name, tensor in tree.items() if isinstance(tensor, Tensor)}
    variables = {key: (called.get(id(tensor), key), tensor) for key, tensor in tensors.items()}
    return _Bundle("V2", tree, tuple(opened), variables)


def _name(key: bytes) -> str:
    with damaged("damaged, a name is not text", UnicodeDecodeError):
        return key.decode()


def _full_names(graph: memoryview) -> dict[str, str]:
    """Checkpoint key to variable name: TrackableObjectGraph {1: nodes {2: attributes {2: full_name,
    3: checkpoint_key}}}, stored as one string: its length, a checksum, the bytes."""
    if not len(graph):
        return {}
    size, at = varint(graph, 0)
    if at + 4 + size != len(graph):
        raise UnreadableFile("damaged, the object graph is not complete")
    return {
        text(attribute, 3): text(attribute, 2)
        for node in messages(graph[at + 4 :], 1)
        for attribute in messages(node, 2)
    }


def _named(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Any]:
    """Variables under the names they were made with, if those tell them apart; training state set aside."""
    state = {key: tensor for key, tensor in tensors.items() if key.endswith(VALUE) and STATE.match(key)}
    variables = {key: tensor for key, tensor in tensors.items() if key not in state}
    made = {key: names.get(key) or key for key in variables}
    times = Counter(made.values())
    twice = [key for key, name in made.items() if times[name] > 1]
    if any(variables[key].shape for key in twice):
        made = {key: key for key in variables}
    else:  # sums and counts of metrics are all called alike
        made |= {key: key for key in twice}
    named = {made[key]: tensor for key, tensor in variables.items()}
    return {**named, **({"optimizer": state} if state else {})}


# -- V1 -----------------------------------------------------------------------------------


def _v1(header: memoryview, table: Iterator[tuple[bytes, memoryview]]) -> dict[str, Tensor]:
    """SavedTensorSlices {1: meta {1: tensor {1: name, 2: shape, 3: type, 4: slice}}, 2: data {1: name, 3: tensor}}.

    The keys of the table repeat name and slice in an encoding of their own and are not looked at.
    """
    said = {text(m, 1): m for meta in messages(header, 1) for m in messages(meta, 1)}
    tensors: dict[str, Tensor] = {}
    for _, value in table:
        for slice_ in messages(value, 2):
            name = text(slice_, 1)
            if name not in said or name in tensors:
                raise UnreadableFile(f"{name} is stored in several slices or undeclared, which is not read")
            shape = shape_of(said[name])
            with naming(name):
                tensor = tensor_of(message(slice_, 3), shape, number(said[name], 3))
            if tensor is not None:
                tensors[name] = tensor
    missing = [name for name in said if name not in tensors and number(said[name], 3) in DTYPES]
    if missing:
        raise UnreadableFile(f"truncated, {missing[0]} has no values")
    return tensors
