"""msgpack as flax writes it (flax/serialization.py): maps of maps, whose arrays are extensions.

msgpack's specification (github.com/msgpack/msgpack/blob/master/spec.md).  Extension 1 is an array, 3 a scalar: each a
msgpack list of shape, dtype's name and bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.dtypes import named
from converter.core.errors import UnreadableFile
from converter.core.mapping import Window, mapped, steady
from converter.formats.damage import damaged

NAME = "msgpack"
ARRAY, SCALAR = 1, 3
"""flax' extensions; 2 is a complex number."""
DTYPES = named("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64")
NUMBERS = dict(zip(range(0xCA, 0xD4), ">f >d >B >H >I >Q >b >h >i >q".split()))
LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
"""How many bytes say the length of bytes, text, lists and maps."""
FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
PLAIN = {0xC0: None, 0xC2: False, 0xC3: True}


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins with a map that is not empty, and a name in it."""
    start = 1 if 0x81 <= head[0] <= 0x8F else 3 if head[0] == 0xDE else 0
    if not start or len(head) < start + 2:
        return False
    first = head[start]
    size, at = (first & 0x1F, start + 1) if 0xA0 < first <= 0xBF else (head[start + 1] * (first == 0xD9), start + 2)
    name = head[at : at + size]
    return bool(size) and len(name) == size and name.isascii() and name.decode("ascii").isprintable()


def open_msgpack(path: Path) -> Checkpoint:
    """Open a msgpack file.

    Raises:
        UnreadableFile: damaged, or not flax'.
    """
    reader = _Reader(mapped(path), str(path))
    with damaged(f"{path}: damaged msgpack", ValueError, KeyError, TypeError, struct.error):
        tree = reader.value(0)
    if reader.at != len(reader.data) or not isinstance(tree, dict):
        raise UnreadableFile(f"{path}: damaged msgpack, {len(reader.data) - reader.at} bytes behind its map")
    return Checkpoint(path, NAME, tree, {}, (path,))


class _Reader:
    """One value after another, from ``at`` on."""

    def __init__(self, data: Any, where: str) -> None:
        self.data, self.where, self.at = data, where, 0
        self.window = Window(data)
        self.left = int(bounds.MSGPACK_VALUES)

    def value(self, depth: int) -> Any:
        """The next value."""
        self.left -= 1
        if self.left < 0 or depth > bounds.MSGPACK_NESTED:
            raise UnreadableFile(f"{self.where}: a msgpack of too many values, or nested too deeply")
        first = self.number(">B")
        if first <= 0x7F or first >= 0xE0:
            return first if first <= 0x7F else first - 256
        if first in PLAIN:
            return PLAIN[first]
        if first in NUMBERS:
            return self.number(NUMBERS[first])
        if first in FIXED_EXTENSIONS or first in EXTENSIONS:
            length = FIXED_EXTENSIONS.get(first) or self.length(EXTENSIONS[first])
            return self.extension(self.number(">b"), length)
        make, length = self.container(first)
        return make(length, depth)

    def container(self, first: int) -> tuple[Callable[[int, int], Any], int]:
        """What a map, list, text or bytes is read with, and its length."""
        if first <= 0x8F:
            return self.map, first & 0x0F
        if first <= 0x9F:
            return self.list, first & 0x0F
        if first <= 0xBF:
            return self.text, first & 0x1F
        kinds = (self.bytes, self.text, self.list, self.map)
        return kinds[(first >= 0xD9) + (first >= 0xDC) + (first >= 0xDE)], self.length(LENGTHS[first])

    def raw(self, size: int) -> memoryview:
        """Some bytes."""
        if size > len(self.data) - self.at:
            raise UnreadableFile(f"{self.where}: truncated msgpack")
        self.at += size
        return self.window.piece(self.at - size, size)

    def number(self, form: str) -> Any:
        """A number of a form."""
        return struct.unpack(form, self.raw(struct.calcsize(form)))[0]

    def length(self, size: int) -> int:
        """A length of so many bytes."""
        return int.from_bytes(self.raw(size), "big")

    def text(self, size: int, _: int) -> str:
        """A text."""
        if size > bounds.NAME:
            raise UnreadableFile(f"{self.where}: a name of more than {bounds.NAME} characters")
        return str(self.raw(size), "utf-8")

    def bytes(self, size: int, _: int) -> memoryview:
        """Bytes, of which only arrays make something."""
        return self.raw(size)

    def list(self, size: int, depth: int) -> list[Any]:
        """A list."""
        return [self.value(depth + 1) for _ in range(min(size, self.left + 1))]

    def map(self, size: int, depth: int) -> dict[str, Any]:
        """A map, whose keys are text."""
        result: dict[str, Any] = {}
        for _ in range(min(size, self.left + 1)):
            name = self.value(depth + 1)
            if not isinstance(name, str) or name in result:
                raise UnreadableFile(f"{self.where}: damaged msgpack, a name that is no text, or there twice")
            result[name] = self.value(depth + 1)
        return result

    def extension(self, kind: int, length: int) -> Any:
        """An array, a scalar as an array without dimensions, or nothing that is known."""
        end = self.at + length
        if kind not in (ARRAY, SCALAR) or end > len(self.data):
            self.raw(length)
            return None
        if self.number(">B") != 0x93:
            raise UnreadableFile(f"{self.where}: damaged msgpack, an array without shape, type and bytes")
        shape, dtype = self.value(0), self.value(0)
        make, size = self.container(self.number(">B"))
        if make != self.bytes or self.at + size != end or dtype not in DTYPES or len(shape) > bounds.DIMENSIONS:
            raise UnreadableFile(f"{self.where}: damaged msgpack, an array of type {dtype!r} and shape {shape}")
        if not all(isinstance(n, int) and n >= 0 for n in shape):
            raise UnreadableFile(f"{self.where}: damaged msgpack, an array of shape {shape}")
        start, self.at, element = self.at, end, DTYPES[dtype]
        if int(np.prod([1, *shape], dtype=object)) * element.itemsize != size:
            raise UnreadableFile(f"{self.where}: damaged msgpack, an array of shape {shape} has {size} bytes")
        return Tensor.over(lambda: steady(self.data[start : start + size]), element, shape)
