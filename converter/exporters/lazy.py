"""An ONNX model whose weights are read, folded and cast when they are written: one at a time.

The libraries build a message whole before they write it, weights inside, at several times the file.  Here the message
holds everything but the weights' values, and what protobuf would write of both is written piece by piece (onnx.proto;
protobuf.dev/programming-guides/encoding): byte for byte what ``SerializeToString`` of the whole gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import onnx

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import CannotExpress, CannotWrite
from converter.core.files import scratch

Message = TypeVar("Message", onnx.ModelProto, onnx.GraphProto)

GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER
WEIGHTS = "weights"
SMALL = 1024
LARGEST = 2**31 - 1
"""Bytes a protobuf message can have."""


@dataclass(frozen=True)
class LazyModel:
    """A model in two parts.

    Attributes:
        proto: the message; its initializers have a name, a shape and a type.
        values: what the initializers hold, by name.
    """

    proto: onnx.ModelProto
    values: Mapping[str, Tensor]

    @classmethod
    def of(cls, proto: onnx.ModelProto, values: Mapping[str, Tensor]) -> LazyModel:
        """A model with these initializers, in this order, and none else.

        Raises:
            CannotExpress: they are more than an ONNX file holds.
        """
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(described(name, tensor) for name, tensor in values.items())
        size = sum(prod(tensor.shape) * tensor.dtype.itemsize for tensor in values.values())
        if size + proto.ByteSize() + 32 * len(values) > LARGEST:
            raise CannotExpress(f"its weights are {size / 1e9:.1f} GB; an ONNX file holds 2")
        return cls(proto, values)

    def derived(self, values: Mapping[str, Tensor] | None = None) -> LazyModel:
        """A copy whose message may be changed, with the same values or others of the same names."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return LazyModel.of(proto, self.values if values is None else values)

    def write(self, file: IO[bytes]) -> None:
        """Write it, with one tensor in memory at a time."""
        model, graph = self.proto, self.proto.graph
        before, behind = (_fields(graph, side) for side in (lambda n: n < INITIALIZER, lambda n: n > INITIALIZER))
        sizes = [_size(tensor) for tensor in graph.initializer]
        heads = [_head(tensor, size) for tensor, size in zip(graph.initializer, sizes)]
        whole = len(before) + sum(map(len, heads)) + sum(sizes) + len(behind)
        file.write(_fields(model, lambda n: n < GRAPH) + _key(GRAPH) + _varint(whole) + before)
        for head, size, tensor in zip(heads, sizes, graph.initializer):
            data = _bytes(self.values[tensor.name].read())
            assert len(data) == size, tensor.name
            file.write(head)
            file.write(data)
        file.write(behind + _fields(model, lambda n: n > GRAPH))

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A file of it for a runtime to load, its large weights in another beside it; both are gone after the block.

        A runtime maps those: loaded from one file or from memory they are there three times.

        Raises:
            CannotWrite: there is no room for temporary files.
        """
        with scratch() as folder:
            try:
                path = self._in_two(folder)
            except OSError as error:
                why = f"cannot be written ({error.strerror or error}); set TMPDIR to a folder with room"
                raise CannotWrite(f"temporary files: {why}") from error
            yield path

    def _in_two(self, folder: Path) -> Path:
        path = folder / "model.onnx"
        with path.open("wb") as file, (folder / WEIGHTS).open("wb") as weights:
            self.write_in_two(file, weights, WEIGHTS)
        return path

    def write_in_two(self, file: IO[bytes], weights: IO[bytes], location: str) -> None:
        """Write it with its large weights in another file, which is called ``location`` beside it."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for tensor in proto.graph.initializer:
            data = _bytes(self.values[tensor.name].read())
            if len(data) < SMALL:  # shapes are inferred from some
                tensor.raw_data = bytes(data)
                continue
            place = {"location": location, "offset": weights.tell(), "length": weights.write(data)}
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
        file.write(proto.SerializeToString())

    def whole(self) -> onnx.ModelProto:
        """The model as one message, weights inside."""
        result = onnx.ModelProto()
        result.CopyFrom(self.proto)
        for tensor in result.graph.initializer:
            tensor.raw_data = bytes(_bytes(self.values[tensor.name].read()))
        return result


def described(name: str, tensor: Tensor) -> onnx.TensorProto:
    """An initializer without its values."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(tensor.dtype)
    return onnx.TensorProto(dims=tensor.shape, data_type=kind, name=name)


def _fields(message: Message, wanted: Callable[[int], bool]) -> bytes:
    """Those fields of a message whose numbers are wanted, serialised."""
    part = type(message)()
    part.CopyFrom(message)
    for field, _ in message.ListFields():
        if not wanted(field.number):
            part.ClearField(field.name)
    data: bytes = part.SerializeToString()
    return data


def _size(tensor: onnx.TensorProto) -> int:
    """Bytes of an initializer's values."""
    size: int = prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return size


def _head(tensor: onnx.TensorProto, size: int) -> bytes:
    """What stands before an initializer's values."""
    head: bytes = tensor.SerializeToString() + _key(RAW_DATA) + _varint(size)
    return _key(INITIALIZER) + _varint(len(head) + size) + head


def _key(number: int) -> bytes:
    """The key of a field that is bytes or a message."""
    return _varint(number << 3 | 2)


def _varint(number: int) -> bytes:
    result = bytearray()
    while number > 0x7F:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*result, number])


def _bytes(array: Array) -> memoryview:
    """An array's values as ONNX stores them."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data
