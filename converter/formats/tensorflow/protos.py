"""TensorFlow's messages that more than one of its files use (tensorflow/core/framework/*.proto)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import UnreadableFile
from converter.formats.messages import messages, number
from converter.formats.protobuf import fields, varints

DTYPES: Mapping[int, Any] = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    5: np.int16,
    6: np.int8,
    9: np.int64,
    10: np.bool_,
    14: ml_dtypes.bfloat16,
    17: np.uint16,
    19: np.float16,
    22: np.uint32,
    23: np.uint64,
}
"""types.proto, DataType: those that are numbers."""

STRING = 7

MAX_REPEATED = 1 << 24
"""Elements of a tensor that is one value many times, which takes no room in the file."""

REALS: Mapping[int, Any] = {5: np.float32, 6: np.float64}
VARINTS = (7, 10, 11, 13, 16, 17)
"""TensorProto's fields of plain values: ints, int64s, bools, the bits of halves, uint32s, uint64s."""


def shape_of(message: memoryview) -> tuple[int, ...]:
    """TensorShapeProto {2: dim {1: size}}.

    Raises:
        UnreadableFile: a size is unknown.
    """
    shape = tuple(number(dim, 1) for dim in messages(message, 2))
    if min(shape, default=0) < 0:
        raise UnreadableFile("damaged, a tensor without a definite shape")
    return shape


def tensor_of(message: memoryview, shape: tuple[int, ...], code: int) -> Tensor | None:
    """The values of a TensorProto {4: tensor_content, 5: float_val ...}; None for what is no number.

    Raises:
        UnreadableFile: there are fewer values than the shape needs.
    """
    if code not in DTYPES:
        return None
    dtype, count = np.dtype(DTYPES[code]), prod(shape)
    raw, plain = memoryview(b""), dict[int, list[Any]]()
    for n, _, value in fields(message):
        if n == 4 and isinstance(value, memoryview):
            raw = value
        elif n in (*REALS, *VARINTS):
            plain.setdefault(n, []).append(value)
    if len(raw) or not count:
        if len(raw) != count * dtype.itemsize:
            raise UnreadableFile(f"damaged, a tensor of shape {list(shape)} has {len(raw)} bytes of {dtype}")
        return Tensor(shape, dtype, lambda: np.frombuffer(raw, dtype).reshape(shape))
    if len(plain) != 1:
        raise UnreadableFile(f"damaged, a tensor of shape {list(shape)} has no values")
    field, pieces = plain.popitem()
    if field in REALS:
        data = pieces[0] if len(pieces) == 1 else b"".join(map(bytes, pieces))
        if dtype != REALS[field] or len(data) % dtype.itemsize:
            raise UnreadableFile(f"damaged, the values of a tensor are no {dtype}")
        return _spread(np.frombuffer(data, dtype), shape)
    values = chain.from_iterable([piece] if isinstance(piece, int) else varints(piece) for piece in pieces)
    flat = np.fromiter(values, np.uint64)
    is_half = dtype.itemsize == 2 and dtype.kind in "fV"  # stored as their bits
    return _spread(flat.astype(np.uint16).view(dtype) if is_half else flat.astype(dtype), shape)


def _spread(flat: Array, shape: tuple[int, ...]) -> Tensor:
    """Values as a tensor; one value alone stands for as many as the shape has (tensor.proto)."""
    count = prod(shape)
    if len(flat) == 1 < count <= MAX_REPEATED:
        return Tensor.of(np.broadcast_to(flat, shape))
    if len(flat) != count:
        raise UnreadableFile(f"damaged, a tensor of shape {list(shape)} has {len(flat)} values")
    return Tensor.of(flat.reshape(shape))
