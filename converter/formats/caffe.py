"""Caffe, ``.caffemodel``: a NetParameter as binary protobuf (BVLC/caffe, src/caffe/proto/caffe.proto).

Every layer carries its name, type, parameters and blobs, in order of execution.  Read
in place, mapped.  Blob ``i`` of a layer is called ``<layer>/<i>``, as Caffe's HDF5
files (``.caffemodel.h5``) have it below ``data/``.

How batch norms and poolings are set is in the file too, and in the ``.prototxt``
beside it, which is what Caffe itself would go by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import UnreadableFile
from converter.core.mapping import content
from converter.formats.caffe_layers import as_text
from converter.formats.damage import naming
from converter.formats.protobuf import BYTES, VARINT, fields, mapped, numbers, real
from converter.formats.prototxt import Message, read_prototxt
from converter.formats.settings import agreed

NAME = "Caffe"

LAYERS, LAYERS_OF_2014 = 100, 2
BEFORE_LAYERS = frozenset((1, 3, 4, 5, 6, 7, 8))
"""Fields of NetParameter that Caffe writes before its layers: name, inputs, state."""

DIMS_OF_2014 = (1, 2, 3, 4)
"""num, channels, height, width of a BlobProto before it had a shape (field 7)."""

DATA: Mapping[int, np.dtype[Any]] = {5: np.dtype("<f4"), 8: np.dtype("<f8")}
BLOBS = 8
"""No layer has more (BVLC/caffe, src/caffe/layers/lstm_layer.cpp: four)."""
EPS = 1e-5
"""Of a BatchNorm that does not say (BatchNormParameter.eps)."""


class Layer(NamedTuple):
    """One layer: what it is, its blobs, and what it says of the network's settings."""

    name: str
    type: str
    blobs: list[Tensor]
    says: Mapping[str, Any]


def matches(path: Path, head: bytes) -> bool:
    """Whether a file is a bare protobuf that soon comes to a layer with a name and a type."""
    if not head or head[0] not in b"\x0a\x1a\x20\x22\x28\x32\x38\x42\xa2":
        return False  # keys of the fields a network can begin with
    try:
        for number, _, value in islice(fields(mapped(path)), 64):
            if number == LAYERS and isinstance(value, memoryview):
                return [field[:2] for field in islice(fields(value), 2)] == [(1, BYTES), (2, BYTES)]
            if number not in BEFORE_LAYERS:
                return False
    except UnreadableFile:
        pass
    return False


def open_caffe(path: Path) -> Checkpoint:
    """Open a ``.caffemodel``.

    Raises:
        UnreadableFile: damaged or truncated, or with layers in the form of before 2015.
        NotADenseNet: its layers are set differently from each other.
    """
    layers: list[Layer] = []
    with naming(path):
        for number, _, value in fields(mapped(path)):
            if number == LAYERS_OF_2014:
                raise UnreadableFile("layers in the form of before 2015 (V1LayerParameter), which has no batch norms")
            if number == LAYERS and isinstance(value, memoryview):
                layers.append(_layer(value))
                if len(layers) > bounds.ARRAYS:
                    raise UnreadableFile(f"more than {bounds.ARRAYS} layers")
    tree: dict[str, Tensor] = {}
    for layer in layers:
        for i, blob in enumerate(layer.blobs):
            if f"{layer.name}/{i}" in tree:
                raise UnreadableFile(f"{path}: two layers are called {layer.name}")
            tree[f"{layer.name}/{i}"] = blob
    beside = _prototxts(path, [layer.name for layer in layers if layer.blobs])
    graph = {file.name: network for file, network in beside.items() if _is_wired(network)}
    with naming(path):
        own = {} if graph else as_text(mapped(path))
        graph = graph or ({"the file itself": own} if _is_wired(own) else {})
        if graph:
            return Checkpoint(path, NAME, tree, {}, (path,), graph=graph)
        settings = agreed(said for layer in layers for said in layer.says.items()) | _settings(beside.values())
    return Checkpoint(path, NAME, tree, {}, (path,), settings=settings)


def _layer(data: memoryview) -> Layer:
    name = kind = ""
    blobs: list[memoryview] = []
    parameters: dict[int, memoryview] = {}
    for number, _, value in fields(data):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            name = _text(value)
        elif number == 2:
            kind = _text(value)
        elif number == 7:
            blobs.append(value)
            if len(blobs) > BLOBS:
                raise UnreadableFile(f"{name} has more than {BLOBS} blobs")
        else:
            parameters[number] = value
    says: dict[str, Any] = {}
    if kind == "BatchNorm":
        found = real(parameters.get(139, memoryview(b"")), 3)  # BatchNormParameter.eps
        says = {"eps": EPS if found is None else found}
    elif kind == "Pooling" and 121 in parameters:
        says = _pooling(parameters[121])
    return Layer(name, kind, [_blob(blob, f"{name}/{i}", kind, i) for i, blob in enumerate(blobs)], says)


def _text(value: memoryview) -> str:
    return str(content(value[:4096]), "utf-8", "replace")


def _blob(data: memoryview, key: str, kind: str, index: int) -> Tensor:
    dims: list[int] = []
    of_2014 = dict.fromkeys(DIMS_OF_2014, 0)
    values: list[tuple[np.dtype[Any], memoryview]] = []
    for number, wire, value in fields(data):
        if number in of_2014 and isinstance(value, int):
            of_2014[number] = value
        elif number == 7 and isinstance(value, memoryview):
            dims = list(islice(_dims(value), bounds.DIMENSIONS + 1))
        elif number in DATA and wire == BYTES and isinstance(value, memoryview):
            values.append((DATA[number], value))
        elif number in DATA:
            raise UnreadableFile(f"{key} has its numbers one by one, not packed")
    shape = tuple(dims) if dims else tuple(of_2014.values())
    if not values:
        raise UnreadableFile(f"{key} has no data")
    dtype, raw = values[0]
    if len(values) > 1 or len(shape) > bounds.DIMENSIONS or prod(shape) * dtype.itemsize != len(raw):
        raise UnreadableFile(f"the data of {key} do not fit its shape")
    return Tensor.over(raw, dtype, _squeezed(shape, kind, index))


def _dims(data: memoryview) -> Iterator[int]:
    """BlobShape.dim, packed or not."""
    for number, _, value in fields(data):
        if number == 1:
            yield from numbers(value)


def _squeezed(shape: tuple[int, ...], kind: str, index: int) -> tuple[int, ...]:
    """A shape without the leading ones that made every blob of 2014 four-dimensional."""
    rank = 1 if index or kind not in ("Convolution", "InnerProduct") else 4 if kind == "Convolution" else 2
    return shape[-rank:] if prod(shape[:-rank]) == 1 else shape


# -- settings ----------------------------------------------------------------------


def _pooling(data: memoryview) -> dict[str, bool]:
    """PoolingParameter, as far as it shows in a DenseNet's output size.

    Field 13 is ``round_mode`` (CEIL 0, FLOOR 1) in BVLC's Caffe and ``ceil_mode`` in forks
    (BVLC/caffe pull request 3057, OpenCV): the same number means opposite things.  But
    both round up where it is absent, so that who wrote it at all wanted down.
    """
    numbers = {number: value for number, wire, value in fields(data) if wire == VARINT}
    return _rounding(numbers.get(1, 0) == 1, numbers.get(2, 0) == 2, bool(numbers.get(12)), 13 not in numbers)


def _rounding(average: bool, of_two: bool, whole: bool, up: bool) -> dict[str, bool]:
    """The config field a pooling speaks for: the stem's takes maxima, a transition's the average of 2x2."""
    if whole or (average and not of_two):
        return {}
    return {"transition_ceil" if average else "stem_ceil": up}


def _prototxts(path: Path, layers: list[str]) -> dict[Path, Message]:
    """The networks described beside the weights: in the file of the same name, or else in any of the folder.

    They describe every one of these ``layers``; a file that can't be read describes nothing.
    """
    same = path.with_suffix(".prototxt")
    found: dict[Path, Message] = {}
    for file in [same, *islice((f for f in sorted(path.parent.glob("*.prototxt")) if f != same), bounds.PROTOTXTS)]:
        try:
            network = read_prototxt(file) if file.is_file() else {}
        except (UnreadableFile, OSError):
            continue
        if layers and {_first(layer, "name") for layer in _described(network)}.issuperset(layers):
            found[file] = network
            if file == same:
                break
    return found


def _described(network: Message) -> list[Message]:
    return [layer for layer in network.get("layer", []) if isinstance(layer, dict)]


def _is_wired(network: Message) -> bool:
    """Whether layers say what they take."""
    return any("bottom" in layer for layer in _described(network))


def _settings(networks: Iterable[Message]) -> dict[str, Any]:
    """What all descriptions of a network agree on."""
    found = [agreed(said for layer in _described(network) for said in _says(layer).items()) for network in networks]
    if not found:
        return {}
    return {name: value for name, value in found[0].items() if all(other.get(name) == value for other in found)}


def _says(layer: Message) -> dict[str, Any]:
    kind = _first(layer, "type")
    if kind == "BatchNorm":
        try:
            return {"eps": float(_first(_message(layer, "batch_norm_param"), "eps") or EPS)}
        except ValueError:
            return {}
    if kind != "Pooling":
        return {}
    pool = _message(layer, "pooling_param")
    down = _first(pool, "ceil_mode") in ("false", "f", "0") or _first(pool, "round_mode") in ("FLOOR", "1")
    whole = _first(pool, "global_pooling") in ("true", "t", "1")
    return _rounding(_first(pool, "pool") in ("AVE", "1"), _first(pool, "kernel_size") == "2", whole, not down)


def _first(message: Message, name: str) -> str:
    value = message.get(name, [""])[0]
    return value if isinstance(value, str) else ""


def _message(message: Message, name: str) -> Message:
    value = message.get(name, [{}])[0]
    return value if isinstance(value, dict) else {}
