"""ncnn's models: a text of layers (``.param``), and their weights one after the other (``.bin``).

Tencent/ncnn: docs/developer-guide/param-and-model-file-structure.md; src/modelbin.cpp says how weights are tagged,
src/layer/*.cpp which a layer loads, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint, Tensor
from converter.core.errors import UnreadableFile
from converter.core.mapping import mapped, steady
from converter.formats.damage import damaged, naming

NAME = "ncnn"
MAGIC, BINARY = b"7767517", (7767517).to_bytes(4, "little")
PLAIN, HALF, INT8, FLOAT = 0, 0x01306B47, 0x000D4B38, 0x0002C056
"""Tags before weights: float32, float16, integers of 8 bits, float32 again; any other begins a table of 256 values."""
ARRAYS = 23300
"""Keys of lists are written as minus this, minus the key."""
TAGGED, BARE = True, False

SILENT = frozenset(
    "Input ReLU Pooling Split Concat Flatten Reshape Permute Dropout Softmax LogSoftmax Sigmoid BinaryOp UnaryOp "
    "Eltwise Noop Clip Swish HardSwish HardSigmoid ELU SELU GELU CELU TanH Mish Squeeze ExpandDims Interp Crop "
    "Reduction Slice Cast Packing Softplus AbsVal Power Exp Log ArgMax Pooling1D Pooling3D ShuffleChannel "
    "PixelShuffle MatMul LRN Normalize".split()
)
"""Layers without weights."""


@dataclass(frozen=True)
class Layer:
    """A line of a ``.param``: parameters by their numbers, weights by the library's leaf names."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[int, float] = field(default_factory=dict)
    lists: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def number(self, key: int, default: float = 0) -> float:
        """A parameter."""
        return self.numbers.get(key, default)

    def int(self, key: int, default: int = 0) -> int:
        """A parameter that is an integer."""
        return int(self.numbers.get(key, default))


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file is a ``.param``."""
    return head.startswith((MAGIC + b"\n", MAGIC + b"\r", BINARY))


def param_of(path: Path) -> Path | None:
    """The ``.param`` beside a ``.bin`` of the same name; None where there is none."""
    param = path.with_suffix(".param")
    if path.suffix != ".bin" or not param.is_file():
        return None
    with param.open("rb") as file:
        return param if matches(param, file.read(512)) else None


def open_bin(path: Path) -> Checkpoint:
    """Open the model that a ``.bin`` belongs to; errors as for :func:`open_ncnn`."""
    return open_ncnn(param_of(path) or path)


def open_ncnn(path: Path) -> Checkpoint:
    """Open a ``.param`` with the ``.bin`` beside it.

    Raises:
        UnreadableFile: damaged, the ``.bin`` is missing or of another size, or its weights have 8 bits.
    """
    with path.open("rb") as file:
        if file.read(4) == BINARY:
            raise UnreadableFile(f"{path}: ncnn's .param in binary, which is not read; give the .param that is text")
    if path.stat().st_size > bounds.NCNN_PARAM:
        raise UnreadableFile(f"{path}: too large for a description of a network")
    with naming(path), damaged(f"{path}: damaged, not ncnn's .param"):
        layers = list(_layers(path.read_text("utf-8")))
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise UnreadableFile(f"{path}: {weights.name}, its weights, is missing beside it")
    if not weights.stat().st_size:
        raise UnreadableFile(f"{weights}: is empty")
    reader = _Reader(mapped(weights), weights)
    with damaged(f"{path}: damaged, not ncnn's .param"):
        graph = [reader.filled(layer) for layer in layers]
    reader.end()
    tree = {f"{layer.name}.{leaf}": tensor for layer in graph for leaf, tensor in layer.weights.items()}
    return Checkpoint(path, NAME, tree, {}, (path, weights), graph=graph)


def _layers(text: str) -> Iterator[Layer]:
    """``kind name inputs outputs input... output... key=value...`` in lines, behind the magic number and two counts."""
    lines = text.split("\n")[2:]
    if len(lines) > bounds.OPERATORS:
        raise UnreadableFile(f"{len(lines)} layers; no DenseNet has so many")
    for line in lines:
        if not line.strip():
            continue
        kind, name, *rest = line.split()
        if "." in kind and "\npnnx." in text:
            raise UnreadableFile("PNNX' own description, of which it makes ncnn's; give the .ncnn.param beside it")
        if "." in kind:
            raise UnreadableFile(f"{kind} {name} is PNNX' and none of ncnn's layers; export the network without it")
        taken, given = int(rest[0]), int(rest[1])
        names = rest[2 : 2 + taken + given]
        if taken < 0 or given < 0 or len(names) != taken + given:
            raise ValueError(f"{name} lacks names")
        numbers: dict[int, float] = {}
        lists: dict[int, tuple[float, ...]] = {}
        for pair in rest[2 + taken + given :]:
            key, _, value = pair.partition("=")
            if int(key) <= -ARRAYS:
                lists[-int(key) - ARRAYS] = tuple(map(float, value.split(",")[1:]))
            elif "," in value:
                lists[int(key)] = tuple(map(float, value.split(",")))
            elif not value.startswith('"'):
                numbers[int(key)] = float(value)
        yield Layer(kind, name, tuple(names[:taken]), tuple(names[taken:]), numbers, lists)


Wanted = Iterator[tuple[str, tuple[int, ...], bool]]
"""What a layer loads: the library's leaf name, a shape, and whether a tag stands before it."""


def _conv(layer: Layer) -> Wanted:
    """Convolution and ConvolutionDepthWise: 0 filters, 1 and 11 the window, 5 bias, 6 size, 7 groups."""
    out, width, size = layer.int(0), layer.int(1), layer.int(6)
    height = layer.int(11, width)
    inner = size // max(out * width * height, 1)
    yield "weight", (out, inner, height, width), TAGGED
    if layer.int(5):
        yield "bias", (out,), BARE


def _inner_product(layer: Layer) -> Wanted:
    """0 outputs, 1 bias, 2 size."""
    out, size = layer.int(0), layer.int(2)
    yield "weight", (out, size // max(out, 1)), TAGGED
    if layer.int(1):
        yield "bias", (out,), BARE


def _batch_norm(layer: Layer) -> Wanted:
    for leaf in ("weight", "running_mean", "running_var", "bias"):
        yield leaf, (layer.int(0),), BARE


def _scale(layer: Layer) -> Wanted:
    """0 size, which is negative where the scale is another input; 1 bias."""
    if layer.int(0) > 0:
        yield "weight", (layer.int(0),), BARE
        if layer.int(1):
            yield "bias", (layer.int(0),), BARE


def _memory(layer: Layer) -> Wanted:
    """MemoryData: 0 width, 1 height, 2 channels, 11 depth; 21 says whether a tag stands before it (0)."""
    sizes = [layer.int(key) for key in (2, 11, 1, 0)]
    yield "weight", tuple(n for n in sizes if n) or (1,), layer.int(21, 1) == 0


LOADED: Mapping[str, Callable[[Layer], Wanted]] = {
    "Convolution": _conv,
    "ConvolutionDepthWise": _conv,
    "InnerProduct": _inner_product,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "Bias": lambda layer: iter([("bias", (layer.int(0),), BARE)]),
    "PReLU": lambda layer: iter([("weight", (layer.int(0),), BARE)]),
    "MemoryData": _memory,
}


class _Reader:
    """Weights one after the other."""

    def __init__(self, data: Array, path: Path) -> None:
        self.data, self.path, self.at = data, path, 0

    def filled(self, layer: Layer) -> Layer:
        """A layer with its weights.

        Raises:
            UnreadableFile: they are not there, have 8 bits, or it is not known which it has.
        """
        if layer.kind in SILENT:
            return layer
        if layer.kind not in LOADED:
            raise UnreadableFile(f"{self.path}: {layer.name} is a {layer.kind} layer, whose weights are not known here")
        scaled = layer.kind in ("Convolution", "ConvolutionDepthWise", "InnerProduct") and layer.int(8)
        if scaled or (layer.kind == "Convolution" and layer.int(19)):
            why = "its weights are quantised to 8 bits" if scaled else "its weights are computed"
            raise UnreadableFile(f"{self.path}: {why} ({layer.name}), which is not read; give the model before that")
        weights = {leaf: self.tensor(layer, shape, tagged) for leaf, shape, tagged in LOADED[layer.kind](layer)}
        return Layer(layer.kind, layer.name, layer.inputs, layer.outputs, layer.numbers, layer.lists, weights)

    def tensor(self, layer: Layer, shape: tuple[int, ...], tagged: bool) -> Tensor:
        """The next weights, in float32."""
        if min(shape) < 1 or prod(shape) > len(self.data):
            raise UnreadableFile(f"{self.path}: {layer.name} has weights of shape {list(shape)}, which cannot be")
        tag = int.from_bytes(self.raw(4, layer).tobytes(), "little") if tagged else PLAIN
        if tag == INT8 or tag not in (PLAIN, HALF, FLOAT):
            raise UnreadableFile(
                f"{self.path}: its weights are quantised to 8 bits ({layer.name}), which is not read; give the model "
                "before that"
            )
        stored = np.dtype("<f2" if tag == HALF else "<f4")
        size = prod(shape) * stored.itemsize
        start = self.at
        self.raw(-(-size // 4) * 4, layer, look=False)
        plain = Tensor.over(lambda: self.data[start : start + size], stored, shape)
        if tag != HALF:
            return plain
        return Tensor(shape, np.dtype(np.float32), lambda: plain.read().astype(np.float32))

    def raw(self, size: int, layer: Layer, *, look: bool = True) -> Any:
        """Some bytes."""
        if self.at + size > len(self.data):
            raise UnreadableFile(f"{self.path}: truncated, or another model's: it ends within {layer.name}")
        self.at += size
        return steady(self.data[self.at - size : self.at]) if look else None

    def end(self) -> None:
        """Check that nothing is left.

        Raises:
            UnreadableFile: there is.
        """
        if self.at != len(self.data):
            raise UnreadableFile(f"{self.path}: has {len(self.data) - self.at} bytes more than its layers load")
