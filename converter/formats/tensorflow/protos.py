"""TensorFlow's messages that more than one of its files use (tensorflow/core/framework/*.proto)."""

from __future__ import annotations

from itertools import islice
from math import prod
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Tensor
from converter.core.dtypes import numbered
from converter.core.errors import UnreadableFile
from converter.core.mapping import content
from converter.formats.protobuf import as_varint, fields, message, messages, number, weights

DTYPES = numbered(
    "float32 float64 int32 uint8 int16 int8 - - int64 bool - - - bfloat16 - - uint16 - float16 - - uint32 uint64", 1
)
"""types.proto, DataType: those that are numbers."""

STRING = 7


REALS = {5: np.dtype("f4"), 6: np.dtype("f8")}
VARINTS = (7, 10, 11, 13, 16, 17)
"""TensorProto's fields of plain values: ints, int64s, bools, the bits of halves, uint32s, uint64s."""


def shape_of(owner: memoryview) -> tuple[int, ...]:
    """The shape in field 2 of a message that describes a tensor: TensorShapeProto {2: dim {1: size}}.

    Raises:
        UnreadableFile: a size is unknown.
    """
    shape = tuple(number(dim, 1) for dim in islice(messages(message(owner, 2), 2), bounds.DIMENSIONS + 1))
    if min(shape, default=0) < 0 or len(shape) > bounds.DIMENSIONS:
        raise UnreadableFile("damaged, a tensor without a definite shape")
    return shape


def tensor_of(proto: memoryview, shape: tuple[int, ...], code: int) -> Tensor | None:
    """The values of a TensorProto {4: tensor_content, 5: float_val ...}; None for what is no number.

    Raises:
        UnreadableFile: there are fewer values than the shape needs.
    """
    if code not in DTYPES:
        return None
    kind, count = DTYPES[code], prod(shape)
    raw, plain = memoryview(b""), dict[int, list[Any]]()
    for n, _, value in fields(proto):
        if n == 4 and isinstance(value, memoryview):
            raw = value
        elif n in (*REALS, *VARINTS):
            plain.setdefault(n, []).append(value)
    if len(raw) or not count:
        if len(raw) != count * kind.itemsize:
            raise UnreadableFile(f"damaged, a tensor of shape {list(shape)} has {len(raw)} bytes of {kind}")
        return Tensor.over(raw, kind, shape)
    if not plain and count <= bounds.REPEATED:  # what is not said is zero
        return Tensor(shape, kind, lambda: np.broadcast_to(np.zeros((), kind), shape))
    if len(plain) != 1:
        raise UnreadableFile(f"damaged, a tensor of shape {list(shape)} has no values")
    field, pieces = plain.popitem()
    if field in REALS:
        data = content(pieces[0]) if len(pieces) == 1 else b"".join(map(content, pieces))
        if kind != REALS[field] or len(data) % kind.itemsize:
            raise UnreadableFile(f"damaged, the values of a tensor are no {kind}")
        return _spread(np.frombuffer(data, kind), shape)
    flat = weights(b"".join(as_varint(piece) if isinstance(piece, int) else piece for piece in pieces))
    is_half = kind.itemsize == 2 and kind.kind in "fV"  # stored as their bits
    return _spread(flat.astype(np.uint16).view(kind) if is_half else flat.astype(kind), shape)


def _spread(flat: Array, shape: tuple[int, ...]) -> Tensor:
    """Values as a tensor; the last of too few stands for all that follow (tensor.proto)."""
    count = prod(shape)
    if len(flat) == 1 < count <= bounds.REPEATED:
        return Tensor.of(np.broadcast_to(flat, shape))
    if 1 < len(flat) < count <= bounds.REPEATED:
        return Tensor.of(np.concatenate([flat, np.broadcast_to(flat[-1:], (count - len(flat),))]).reshape(shape))
    if len(flat) != count:
        raise UnreadableFile(f"damaged, a tensor of shape {list(shape)} has {len(flat)} values")
    return Tensor.of(flat.reshape(shape))
