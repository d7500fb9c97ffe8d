"""Types and shapes of arrays (IV.A.2, datatype and dataspace)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from converter.core.dtypes import Types
from converter.formats.hdf5.counted import NotRead

INTEGER, FLOAT, TEXT, ENUM, VARIABLE = 0, 1, 3, 8, 9
"""Classes of types."""
FLOATS = Types(
    {
        (2, 15, 0, 16, 10, 5, 0, 10, 15): "float16",
        (2, 15, 0, 16, 7, 8, 0, 7, 127): "bfloat16",
        (4, 31, 0, 32, 23, 8, 0, 23, 127): "float32",
        (8, 63, 0, 64, 52, 11, 0, 52, 1023): "float64",
    }
)
"""IEEE's types (and bfloat16) by their bytes, the place of the sign, the first bit and the bits there are, the places
and sizes of exponent and mantissa, and the exponent's bias."""
BOOLEAN = {b"FALSE": 0, b"TRUE": 1}
"""What h5py makes of NumPy's bool."""
MAX_RANK = 32


@dataclass(frozen=True)
class Kind:
    """A type.

    Attributes:
        size: bytes of one value.
        cls: its class.
        dtype: what NumPy calls it; None if it is none of numbers.
        variable: whether it is text of any length, which is in a heap.
    """

    size: int
    cls: int
    dtype: np.dtype[np.generic] | None = None
    variable: bool = False


def kind_of(body: bytes) -> Kind:
    """A type from its message.

    Raises:
        ValueError, struct.error: it is a number of a form that NumPy has not, or no type.
    """
    cls, version = body[0] & 15, body[0] >> 4
    bits, size = int.from_bytes(body[1:4], "little"), struct.unpack_from("<I", body, 4)[0]
    if version not in (1, 2, 3, 4, 5) or not size:
        raise ValueError(f"a type of version {version} and {size} bytes")
    if cls == INTEGER:
        first, count = struct.unpack_from("<HH", body, 8)
        if size not in (1, 2, 4, 8) or first or count != 8 * size or bits & ~0b1001:
            raise NotRead(f"integers of {count} bits in {size} bytes are not read")
        return Kind(size, cls, np.dtype(f"{'<>'[bits & 1]}{'ui'[bits >> 3 & 1]}{size}"))
    if cls == FLOAT:
        first, count, exponent, exponents, mantissa, mantissas, bias = struct.unpack_from("<HHBBBBI", body, 8)
        form = (size, bits >> 8 & 255, first, count, exponent, exponents, mantissa, mantissas, bias)
        if form not in FLOATS or bits >> 4 & 3 != 2 or bits & 0x40:
            raise NotRead(f"floats of {count} bits in {size} bytes are of no form that is read")
        dtype = FLOATS[form]
        return Kind(size, cls, dtype.newbyteorder(">") if bits & 1 else dtype)
    if cls == ENUM:
        return _enum(body, version, bits & 0xFFFF, size)
    return Kind(size, cls, variable=cls == VARIABLE and bits & 15 == 1)


def _enum(body: bytes, version: int, count: int, size: int) -> Kind:
    """Numbers with names: h5py's booleans, or plain integers."""
    base = kind_of(body[8:])
    if base.cls != INTEGER or base.dtype is None or base.size != size:
        return Kind(size, ENUM)
    at, names = 20, []
    for _ in range(count):
        end = body.index(b"\0", at)
        names.append(body[at:end])
        at += end - at + 1 if version >= 3 else -(-(end - at + 1) // 8) * 8
    values = np.frombuffer(body, base.dtype, count, at).tolist()
    boolean = size == 1 and dict(zip(names, values, strict=True)) == BOOLEAN
    return Kind(size, ENUM, np.dtype(np.bool_) if boolean else base.dtype)


def shape_of(body: bytes) -> tuple[int, ...] | None:
    """A shape from its message; None where there are no values at all.

    Raises:
        ValueError, struct.error: it is none.
    """
    version, rank = body[0], body[1]
    if version not in (1, 2) or rank > MAX_RANK:
        raise ValueError(f"a shape of version {version} with {rank} dimensions")
    if version == 2 and body[3] == 2:
        return None
    return struct.unpack_from(f"<{rank}Q", body, 8 if version == 1 else 4)


def limits_of(body: bytes) -> tuple[int, ...]:
    """What a shape can grow to, from its message, which :func:`shape_of` has read; empty if that is not said."""
    rank = body[1]
    return struct.unpack_from(f"<{rank}Q", body, (8 if body[0] == 1 else 4) + 8 * rank) if body[2] & 1 else ()
