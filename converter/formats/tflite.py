"""TensorFlow Lite's models, LiteRT's today (tensorflow/compiler/mlir/lite/schema/schema.fbs): operators in order, and
the values between them, of which those with a buffer are constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.dtypes import numbered
from converter.core.errors import UnreadableFile
from converter.core.mapping import steady
from converter.core.metadata import MEMBER, from_member
from converter.formats.damage import damaged, naming
from converter.formats.flatbuffer import Buffer, Table

NAME = "TensorFlow Lite"
MAGIC = b"TFL3"
DTYPES = numbered("float32 float16 int32 uint8 int64 - bool int16 - int8 float64 - uint64 - - uint32 uint16 - bfloat16")
"""TensorType; texts, complex numbers and what is smaller than a byte are no weights."""
OLD_CODES = 127
"""The last operator that fits into the field which older files have for it."""


@dataclass(frozen=True)
class Value:
    """What operators take and make.

    Attributes:
        name: the file's, made unique.
        shape: unknown sizes as None.
        constant: its values, where it is one; None for types that no weight has, too.
        kind: its TensorType.
        quantised: whether it stands for other numbers, by a scale.
        sparse: whether its zeros are left out.
    """

    name: str
    shape: tuple[int | None, ...]
    constant: Tensor | None
    kind: int
    quantised: bool
    sparse: bool


@dataclass(frozen=True)
class Operator:
    """One operator; what it takes and makes by the numbers of values, -1 where it takes nothing.

    Attributes:
        code: BuiltinOperator.
        custom: its name, where it is none of those.
        options: its table of attributes, which depends on the code.
    """

    code: int
    custom: str
    inputs: list[int]
    outputs: list[int]
    options: Table | None


@dataclass(frozen=True)
class Description:
    """The first graph of a model, which is the one that is run."""

    values: list[Value]
    operators: list[Operator]
    inputs: list[int]
    outputs: list[int]


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file is a model, by its identifier."""
    return head[4:8] == MAGIC


def open_tflite(path: Path) -> Checkpoint:
    """Open a model; the tree has its constants of numbers that are no integers, by their names.

    Raises:
        UnreadableFile: malformed or truncated.
    """
    with naming(path), damaged("damaged, no model of TensorFlow Lite", ValueError, why=str):
        root = Buffer(path).root()
        found = _description(root)
        tensors = {
            value.name: value.constant
            for value in found.values
            if value.constant is not None and value.shape and value.constant.dtype.kind in "fV"
        }
        if len(tensors) > bounds.ARRAYS:
            raise UnreadableFile(f"more than {bounds.ARRAYS} constants")
        said = _said(root)
    return Checkpoint(path, NAME, tensors, said, (path,), graph=found)


def _said(root: Table) -> dict[str, str]:
    """What this tool wrote into it: Model {4: buffers, 6: metadata {0: name, 1: buffer}}."""
    number = next((entry.number(1, "<I") for entry in root.tables(6) if entry.text(0) == MEMBER), None)
    buffer = next(islice(root.tables(4), number, None), None) if number is not None else None
    return from_member(steady(buffer.raw(0)).tobytes()) if buffer is not None else {}


def _description(root: Table) -> Description:
    """Model {1: operator_codes, 2: subgraphs {0: tensors, 1: inputs, 2: outputs, 3: operators}, 4: buffers}."""
    graph = next(root.tables(2), None)
    if graph is None:
        raise UnreadableFile("no model of TensorFlow Lite, it has no graph")
    codes = [_code(code) for code in root.tables(1)]
    buffers = list(root.tables(4))
    values = list(_values(graph, buffers))
    operators = []
    for operator in graph.tables(3):  # {0: opcode_index, 1: inputs, 2: outputs, 4: builtin_options}
        index = operator.number(0, "<I")
        if index >= len(codes):
            raise UnreadableFile("damaged, an operator of a kind it has not")
        taken, made = operator.numbers(1), operator.numbers(2)
        if max([*taken, *made], default=-1) >= len(values) or min(made, default=0) < 0:
            raise UnreadableFile("damaged, an operator takes a value that it has not")
        code, custom = codes[index]
        operators.append(Operator(code, custom, taken, made, operator.table(4)))
    inputs, outputs = graph.numbers(1), graph.numbers(2)
    if not all(0 <= i < len(values) for i in (*inputs, *outputs)):
        raise UnreadableFile("damaged, its results are values that it has not")
    return Description(values, operators, inputs, outputs)


def _code(table: Table) -> tuple[int, str]:
    """OperatorCode {0: deprecated_builtin_code, 1: custom_code, 3: builtin_code}."""
    old, new = table.number(0, "<b"), table.number(3)
    return (new if old == OLD_CODES else max(old, new)), table.text(1)


def _values(graph: Table, buffers: list[Table]) -> Iterator[Value]:
    """Tensor {0: shape, 1: type, 2: buffer, 3: name, 4: quantization {2: scale}, 6: sparsity, 7: shape_signature}."""
    seen: set[str] = set()
    for i, table in enumerate(graph.tables(0)):
        name = table.text(3).partition(";")[0].replace(":", "_") or f"value {i}"  # what was fused has several
        name = f"{name} #{i}" if name in seen else name
        seen.add(name)
        sizes, kind, number = table.numbers(0), table.number(1, "<b"), table.number(2, "<I")
        quantised = table.table(4)
        shape = table.numbers(7) or sizes
        if len(shape) > bounds.DIMENSIONS or len(sizes) > bounds.DIMENSIONS or min(sizes, default=0) < 0:
            raise UnreadableFile(f"{name} has a malformed shape")
        if number >= len(buffers):
            raise UnreadableFile(f"{name} is said to be in a buffer that is not there")
        yield Value(
            name,
            tuple(n if n >= 0 else None for n in shape),
            _constant(name, buffers[number], kind, sizes) if number else None,
            kind,
            quantised is not None and quantised.has(2),
            table.table(6) is not None,
        )


def _constant(name: str, buffer: Table, kind: int, shape: list[int]) -> Tensor | None:
    """The values in a buffer {0: data, 1: offset, 2: size}; None where it is empty, as those of feature maps are."""
    whole = buffer.buffer.data
    at, size = buffer.number(1, "<Q"), buffer.number(2, "<Q")
    raw = whole[at : at + size] if at > 1 else buffer.raw(0)  # of large models they stand behind the tables
    if at > 1 and at + size > len(whole):
        raise UnreadableFile(f"{name} ends behind the end of the file")
    if not len(raw) or kind not in DTYPES:
        return None
    if len(raw) != prod(shape) * DTYPES[kind].itemsize:
        raise UnreadableFile(f"{name} of shape {shape} has {len(raw)} bytes of {DTYPES[kind]}")
    return Tensor.over(raw.data, DTYPES[kind], shape)
