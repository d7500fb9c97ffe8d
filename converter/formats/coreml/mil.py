"""Core ML's programs: MIL in Protocol Buffers, with large constants in a ``weight.bin``.

coremltools: mlmodel/format/MIL.proto; mlmodel/src/MILBlob/Blob/StorageFormat.hpp for the file of weights: a header of
64 bytes, and for each array at an offset 64 bytes that say type, size and where it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Tensor
from converter.core.dtypes import Types
from converter.core.errors import UnreadableFile
from converter.core.mapping import content, mapped, steady
from converter.formats.companion import companion
from converter.formats.coreml.program import Constant, Operation, Program
from converter.formats.protobuf import fields, message, messages, number, numbers, string, text

TYPES = Types(
    {1: "bool", 10: "float16", 11: "float32", 12: "float64", 13: "bfloat16"}
    | {21: "int8", 22: "int16", 23: "int32", 24: "int64", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64"}
)
"""MIL.proto, DataType: those that numpy has."""
STRING = 2
SENTINEL, RECORD = 0xDEADBEEF, 64
MODEL_PATH = "@model_path/"
COMPRESSED = "constexpr_"
"""How operations begin that make weights of smaller ones."""


class Blobs:
    """The files of weights beside a model."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, tuple[Path, Array]] = {}

    def data(self, name: str) -> tuple[Path, Array]:
        """A file's bytes.

        Raises:
            UnreadableFile: it is missing.
            UnsafeFile: it is elsewhere.
        """
        if name not in self.files:
            file = companion(self.path, name.removeprefix(MODEL_PATH))
            if not file.is_file() or not file.stat().st_size:
                raise UnreadableFile(f"its weights are in {name.removeprefix(MODEL_PATH)}, which is missing beside it")
            self.files[name] = file, mapped(file)
        return self.files[name]

    def tensor(self, name: str, offset: int, kind: np.dtype[Any], shape: tuple[int, ...]) -> Tensor:
        """The array that is said at an offset.

        Raises:
            UnreadableFile: there is none of that size.
        """
        _, data = self.data(name)
        record = steady(data[offset : offset + RECORD]).tobytes() if 0 <= offset < len(data) else b""
        if len(record) < RECORD or int.from_bytes(record[:4], "little") != SENTINEL:
            raise UnreadableFile(f"{name.removeprefix(MODEL_PATH)} is damaged or another model's: no array at {offset}")
        size, start = (int.from_bytes(record[at : at + 8], "little") for at in (8, 16))
        if size != prod(shape) * kind.itemsize or start + size > len(data):
            raise UnreadableFile(
                f"{name.removeprefix(MODEL_PATH)} is damaged or another model's: at {offset} are {size} bytes, "
                f"{kind} of shape {list(shape)} has {prod(shape) * kind.itemsize}"
            )
        return Tensor.over(lambda: data[start : start + size], kind.newbyteorder("<"), shape)


def program_of(data: memoryview, path: Path) -> tuple[Program, list[Path]]:
    """A Program {2: functions {1: name, 2: function}} as operations, and the files that its weights are in.

    Function {1: inputs, 2: opset, 3: block_specializations {1: opset, 2: block}}; Block {2: outputs, 3: operations}.

    Raises:
        UnreadableFile: damaged, its weights are compressed, or a file of weights is missing.
        UnsafeFile: it names a file elsewhere.
    """
    functions = {text(entry, 1): message(entry, 2) for entry in messages(data, 2)}
    if not functions:
        raise UnreadableFile("a program without functions")
    function = functions.get("main", next(iter(functions.values())))
    blocks = {text(entry, 1): message(entry, 2) for entry in messages(function, 3)}
    block = blocks.get(text(function, 2), next(iter(blocks.values()), memoryview(b"")))
    inputs = dict(_typed(value) for value in messages(function, 1))
    blobs, constants, operations = Blobs(path), dict[str, Constant](), list[Operation]()
    found = list(islice(messages(block, 3), bounds.OPERATORS * 2 + 1))
    if len(found) > bounds.OPERATORS * 2:  # as many constants as operators, and more
        raise UnreadableFile(f"more than {bounds.OPERATORS * 2} operations; no DenseNet has so many")
    for each in found:
        kind, outputs = text(each, 1), [text(value, 1) for value in messages(each, 3)]
        if kind.startswith(COMPRESSED):
            raise UnreadableFile(
                f"its weights are compressed ({kind} of {', '.join(outputs)}: quantised, pruned or a palette), which "
                "is not read; give the model before that"
            )
        if kind == "const" and outputs:
            attributes = {text(entry, 1): message(entry, 2) for entry in messages(each, 5)}
            if "val" in attributes and (value := _constant(attributes["val"], blobs)) is not None:
                constants[outputs[0]] = value
            continue
        operations.append(_operation(kind, each, outputs, constants, blobs))
    results = [string(value) for value in messages(block, 2)]
    return Program(inputs, operations, results), [file for file, _ in blobs.files.values()]


def _operation(
    kind: str, data: memoryview, outputs: list[str], constants: Mapping[str, Constant], blobs: Blobs
) -> Operation:
    """Operation {1: type, 2: inputs {1: parameter, 2: Argument {1: Binding {1: name, 2: value}}}}."""
    inputs: dict[str, list[str | Constant]] = {}
    names: dict[str, str] = {}
    for entry in messages(data, 2):
        parameter = text(entry, 1)
        given = inputs.setdefault(parameter, [])
        for binding in messages(message(entry, 2), 1):
            name = text(binding, 1)
            value = constants.get(name) if name else _constant(message(binding, 2), blobs)
            if value is not None and name:
                names[parameter] = name
            given.append(name if value is None else value)
    return Operation(kind, outputs[0] if outputs else kind, inputs, tuple(outputs), names)


def _typed(value: memoryview) -> tuple[str, tuple[int, ...]]:
    """NamedValueType {1: name, 2: type}, as name and shape."""
    return text(value, 1), _type(message(value, 2))[1]


def _type(data: memoryview) -> tuple[int, tuple[int, ...]]:
    """ValueType {1: TensorType {1: dataType, 3: dimensions {1: constant {1: size}}}}; unknown sizes are 0."""
    tensor = message(data, 1)
    sizes = tuple(number(message(dim, 1), 1) for dim in islice(messages(tensor, 3), bounds.DIMENSIONS + 1))
    if len(sizes) > bounds.DIMENSIONS or min(sizes, default=0) < 0:
        raise UnreadableFile("a value without a definite shape")
    return number(tensor, 1), sizes


def _constant(value: memoryview, blobs: Blobs) -> Constant | None:
    """Value {2: type, 3: immediateValue {1: tensor}, 5: blobFileValue {1: fileName, 2: offset}}; None if it is none."""
    code, shape = _type(message(value, 2))
    blob = message(value, 5)
    if len(blob):
        if code not in TYPES:
            raise UnreadableFile("its weights are compressed to less than 8 bits, which is not read")
        return blobs.tensor(text(blob, 1), number(blob, 2), TYPES[code], shape)
    listed = [text(message(each, 4), 1) for each in _tensors_listed(message(value, 3))]
    if listed:
        return tuple(listed)
    tensor = message(message(value, 3), 1)
    if code == STRING:
        return tuple(string(each, "replace") for each in messages(message(tensor, 4), 1))
    if code not in TYPES:
        return None
    found = _values(tensor, TYPES[code])
    count = prod(shape)
    if found is None or found.size not in (1, count) or count > bounds.COMPUTED:
        raise UnreadableFile(
            f"damaged, a constant of shape {list(shape)} has {0 if found is None else found.size} values"
        )
    if code == 1 and not shape:
        return bool(found.reshape(-1)[0])
    return Tensor.of(np.broadcast_to(found, (count,)).reshape(shape))


def _tensors_listed(immediate: memoryview) -> Iterator[memoryview]:
    """The tensors of an ImmediateValue {3: list {1: values {3: ImmediateValue {1: tensor}}}}."""
    values = islice(messages(message(immediate, 3), 1), bounds.CLASSES)
    return (message(message(value, 3), 1) for value in values)


def _packed(kind: str) -> Callable[[memoryview], Iterator[Array]]:
    """Numbers of a fixed size, each alone or many packed."""
    return lambda data: (
        np.frombuffer(content(v), kind) for n, _, v in fields(data) if n == 1 and not isinstance(v, int)
    )


def _varints(data: memoryview) -> Iterator[Array]:
    pieces = (numbers(value) for n, _, value in fields(data) if n == 1)
    return (np.array(list(piece), np.uint64).view(np.int64) for piece in pieces)


READ: Mapping[int, Callable[[memoryview], Iterator[Array]]] = {
    1: _packed("<f4"),
    2: _varints,
    3: _varints,
    5: _varints,
    6: _packed("<f8"),
}
"""TensorValue {1: floats, 2: ints, 3: bools, 5: longInts, 6: doubles}, each {1: values}."""


def _values(tensor: memoryview, kind: np.dtype[Any]) -> Array | None:
    """The numbers of a TensorValue; those of types of less than 32 bits are bytes (7)."""
    for n, _, value in fields(tensor):
        if isinstance(value, int):
            continue
        if n == 7:
            raw = b"".join(bytes(content(piece)) for piece in messages(value, 1))
            return np.frombuffer(raw, kind.newbyteorder("<")).astype(kind)
        if n in READ:
            pieces = list(READ[n](value))
            return (np.concatenate(pieces) if pieces else np.zeros(0)).astype(kind)
    return None
