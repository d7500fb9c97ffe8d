"""Lua Torch's own files, ``.t7`` (torch/torch7: File.lua, lib/TH/THDiskFile.c, generic/Tensor.c, generic/Storage.c).

No magic number, no header: one object after another until the file ends, nearly always
just one.  A value is a tag and what it takes; tables, torch objects and functions have
an index besides, under which they may be referred to again.  The same sequence is
written as bytes (little-endian; ``long`` has 8 bytes, or 4 from Windows and 32-bit
machines, which nothing in the file says) or as text.  Functions are bytecode: passed
over, never loaded.
"""

from __future__ import annotations

import re
import struct
import warnings
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint, Record, Tensor
from converter.core.errors import UnreadableFile
from converter.core.mapping import WINDOW, Window, content, mapped, steady

NAME = "t7"
INTEGER = struct.Struct("<i")
LINES = 1 << 20
"""Bytes of text in which a newline is looked for at a time."""

NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN, FUNCTION, LEGACY_RECURSIVE_FUNCTION, RECURSIVE_FUNCTION = range(9)
"""The tags, TYPE_* of File.lua."""

DTYPES = {
    "Byte": "u1",
    "Char": "i1",
    "Short": "i2",
    "Int": "i4",
    "Long": "i8",
    "Half": "f2",
    "Float": "f4",
    "Double": "f8",
}
"""Element types as in ``torch.FloatTensor``; cutorch has the same as ``torch.Cuda...``, and calls Float nothing."""

START = re.compile(
    rb"\x04\0\0\0\x01\0\0\0.\0\0\0(V \d|[A-Za-z]\w*\.)"  # a torch object with index 1: a version, or already the class
    rb"|\x03\0\0\0\x01\0\0\0...\0[\x01-\x05]\0\0\0"  # a table with index 1: a count, the tag of its first key
    rb"|4\n1\n\d+\n(V \d|[A-Za-z]\w*\.)"
    rb"|3\n1\n\d+\n[1-5]\n",
    re.DOTALL,
)
CLASS = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class _Storage(Tensor):
    """A flat run of elements; tensors are windows on it."""

    __slots__ = ()


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins like a table or an object of Lua Torch."""
    return START.match(head) is not None


def open_t7(path: Path) -> Checkpoint:
    """Open a Lua Torch file.

    Lua tables become dicts, torch objects Records of their fields, tensors and storages
    Tensors: in place, mapped, or parsed on first use if they are text.

    Raises:
        UnreadableFile: damaged or truncated, or with tensors of an unknown type.
    """
    window = Window(mapped(path))
    is_text = bytes(window.piece(1, 1)) == b"\n"
    streams: list[_Stream] = [_Text(window, path)] if is_text else [_Binary(window, path, n) for n in (8, 4)]
    failures: list[tuple[int, UnreadableFile]] = []
    for stream in streams:
        objects = _Objects(stream)
        try:
            tree = objects.all()
        except UnreadableFile as error:
            failures.append((stream.position, error))
        else:
            return Checkpoint(path, NAME, tree, files=(path,), inert=tuple(objects.classes))
    raise max(failures, key=lambda failure: failure[0])[1]  # what the right size of long stumbled on


class _Bytes:
    """The bytes of a file, taken one piece after the other."""

    def __init__(self, window: Window, path: Path) -> None:
        self.window, self.length = window, len(window.data)
        self.where = str(path)
        self.position = 0

    def damaged(self, what: str) -> UnreadableFile:
        return UnreadableFile(f"{self.where}: damaged or truncated Torch file, byte {self.position}: {what}")

    def take(self, size: int) -> int:
        start = self.position
        if not 0 <= size <= self.length - start:
            raise self.damaged(f"{size} bytes are announced, {self.length - start} are left")
        self.position += size
        return start

    def raw(self, size: int) -> bytes:
        window, at = self.window, self.position - self.window.first
        if at >= 0 and 0 <= size <= len(window.held) - at:  # what is at hand, as nearly all is
            self.position += size
            return bytes(window.held[at : at + size])
        return self.at(self.take(size), size)

    def at(self, start: int, size: int) -> bytes:
        piece = self.window.piece(start, size)
        return bytes(content(piece) if size > WINDOW else piece)

    def mapped(self, size: int, code: str) -> _Storage:
        """The next bytes as a storage of little-endian numbers."""
        start = self.take(size)
        dtype = np.dtype(f"<{code}")
        raw = np.frombuffer(self.window.piece(start, size), dtype)
        return _Storage((size // dtype.itemsize,), dtype, lambda: raw)


class _Binary(_Bytes):
    """Numbers as the writer's machine held them."""

    def __init__(self, window: Window, path: Path, long: int) -> None:
        super().__init__(window, path)
        self.long = long

    def integer(self) -> int:
        window, start = self.window, self.position
        if 0 <= start - window.first <= len(window.held) - 4:  # nearly always, and nearly all of a file is integers
            self.position = start + 4
            return int(INTEGER.unpack_from(window.held, start - window.first)[0])
        return int.from_bytes(window.piece(self.take(4), 4), "little", signed=True)

    def longs(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}{'q' if self.long == 8 else 'i'}", self.raw(count * self.long))

    def double(self) -> float:
        return float(struct.unpack("<d", self.raw(8))[0])

    def elements(self, kind: str, count: int) -> _Storage:
        code = "i4" if kind == "Long" and self.long == 4 else DTYPES[kind]
        return self.mapped(count * np.dtype(code).itemsize, code)


class _Text(_Bytes):
    """Every write a line, its elements separated by a space; bytes and characters as they are, then a newline."""

    def _short_line(self, count: int, longest: int) -> bytes:
        """The next line, which has ``count`` elements of at most so many characters."""
        room = min(count * (longest + 1), self.length - self.position)
        line, newline, _ = self.at(self.position, room).partition(b"\n")
        if not newline or len(line) < 2 * count - 1:
            raise self.damaged("a line is missing, too short or too long")
        self.position += len(line) + 1
        return line

    def _line(self, count: int, longest: int) -> tuple[int, int]:
        """Where the next line begins and ends, of any length."""
        start = self.position
        end = self._newline(start, min(start + count * (longest + 1), self.length))
        if end < start + 2 * count - 1:
            raise self.damaged("a line is missing, too short or too long")
        self.position = end + 1
        return start, end

    def _newline(self, start: int, stop: int) -> int:
        """Where the next newline is; -1 if there is none."""
        at, step = start, WINDOW
        while at < stop:
            size = min(step, stop - at)
            found = self.at(at, size).find(b"\n")
            if found >= 0:
                return at + found
            at, step = at + size, LINES
        return -1

    def integer(self) -> int:
        return self.longs(1)[0]

    def longs(self, count: int) -> tuple[int, ...]:
        if not count:
            return ()
        values = tuple(map(int, self._short_line(count, 20).split()))
        if len(values) != count:
            raise self.damaged(f"{len(values)} numbers where there should be {count}")
        return values

    def double(self) -> float:
        return float(self._short_line(1, 32))

    def raw(self, size: int) -> bytes:
        taken = super().raw(size)
        self._ends_line(size)
        return taken

    def _ends_line(self, size: int) -> None:
        """Pass over the newline behind so many bytes, which only the end of the file can take the place of."""
        end = self.position
        self.position += bool(size)
        if size and self.at(end, 1) not in (b"\n", b""):
            raise self.damaged(f"no newline after {size} bytes")

    def elements(self, kind: str, count: int) -> _Storage:
        dtype = np.dtype(DTYPES[kind])
        if dtype.itemsize == 1:
            storage = self.mapped(count, DTYPES[kind])
            self._ends_line(count)
            return storage
        if not count:
            return _Storage((0,), dtype, lambda: np.empty(0, dtype))
        start, end = self._line(count, 32)
        line, where = self.window.piece(start, end - start), self.where

        @cache  # all weights of a network are often one storage
        def read() -> Array:
            text = bytes(content(line))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # older numpy warns of what it cannot parse
                    values = np.fromstring(text, np.float32 if kind == "Half" else dtype, sep=" ")
            except ValueError:
                values = np.empty(0)
            if len(values) != count:
                raise UnreadableFile(f"{where}: damaged, the line at byte {start} does not hold {count} numbers")
            values = values.astype(dtype, copy=False)
            values.flags.writeable = False
            return values

        return _Storage((count,), dtype, read)


_Stream = _Binary | _Text


class _Objects:
    """Reads objects off a stream and remembers those that may be referred to."""

    def __init__(self, stream: _Stream) -> None:
        self.stream = stream
        self.seen: dict[int, Any] = {}
        self.classes: dict[str, None] = {}
        self.nesting = 0
        self.count = 0

    def all(self) -> Any:
        """The file's object; a list if there are several."""
        objects = []
        try:
            while self.stream.position < self.stream.length:
                objects.append(self.read())
                if objects[-1] is None:
                    raise self.stream.damaged("nil where there should be an object")
        except (ValueError, struct.error) as error:
            raise self.stream.damaged(str(error)) from error
        return objects[0] if len(objects) == 1 else objects

    def read(self) -> Any:
        stream = self.stream
        self.count += 1
        if self.count > bounds.T7_VALUES:
            raise stream.damaged(f"more than {bounds.T7_VALUES} values")
        tag = stream.integer()
        if tag == NIL:
            return None
        if tag == NUMBER:
            number = stream.double()
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        if tag == STRING:
            return self._string()
        if tag == BOOLEAN:
            return bool(stream.integer())
        if not TABLE <= tag <= RECURSIVE_FUNCTION:
            raise stream.damaged(f"unknown type {tag}")
        if self.nesting >= bounds.T7_NESTED:
            raise stream.damaged(f"objects are nested more than {bounds.T7_NESTED} deep")
        self.nesting += 1
        result = self._function() if tag == FUNCTION else self._indexed(tag)
        self.nesting -= 1
        return result

    def _string(self) -> str:
        return str(self.stream.raw(self.stream.integer()), "utf-8", "backslashreplace")

    def _indexed(self, tag: int) -> Any:
        index = self.stream.integer()
        if index in self.seen:
            return self.seen[index]
        if tag == TABLE:
            return self._table(index)
        if tag == TORCH:
            return self._object(index)
        return self._function(index)

    def _function(self, index: int | None = None) -> Record:
        self.stream.raw(self.stream.integer())  # bytecode
        function = Record("function")
        self.classes[function.cls] = None
        if index is not None:
            self.seen[index] = function
        function.state = self.read()  # upvalues
        return function

    def _table(self, index: int) -> dict[Any, Any]:
        table: dict[Any, Any] = {}
        self.seen[index] = table  # before its members: they may refer to it
        count = self.stream.integer()
        if count < 0:
            raise self.stream.damaged(f"a table of {count} entries")
        for _ in range(count):
            key, value = self.read(), self.read()
            if key is None:
                raise self.stream.damaged("a table with the key nil")
            table[key if isinstance(key, (str, int, float)) else f"<{type(key).__name__}>"] = value
        return table

    def _object(self, index: int) -> Any:
        cls = self._string()
        if re.fullmatch(r"V [\d.]+", cls):  # the first files had no version
            cls = self._string()
        if not CLASS.fullmatch(cls):
            raise self.stream.damaged("an object without a class")
        for suffix, read in (("Storage", self._storage), ("Tensor", self._tensor)):
            if cls.startswith("torch.") and cls.endswith(suffix):
                kind = cls.removeprefix("torch.").removesuffix(suffix).removeprefix("Cuda") or "Float"
                if kind not in DTYPES:
                    raise self.stream.damaged(f"{cls} is not a type we read; convert the model to float first")
                self.seen[index] = result = read(kind)
                return result
        self.classes[cls] = None
        record = Record(cls)
        self.seen[index] = record
        record.state = self.read()
        # DataParallelTable.__write (cunn): since its version 2 a list of devices, then the fields.
        if cls == "nn.DataParallelTable" and isinstance(record.state, dict) and "modules" not in record.state:
            record.state = self.read()
        if not isinstance(record.state, dict):
            raise self.stream.damaged(f"{cls} is not stored as a table of fields, so it cannot be read")
        return record

    def _storage(self, kind: str) -> _Storage:
        (count,) = self.stream.longs(1)
        if not 0 <= count <= self.stream.length:  # an element takes a byte at least
            raise self.stream.damaged(f"a storage of {count} elements")
        return self.stream.elements(kind, count)

    def _tensor(self, kind: str) -> Tensor:
        stream = self.stream
        dims = stream.integer()
        if not 0 <= dims <= bounds.DIMENSIONS:
            raise stream.damaged(f"a tensor of {dims} dimensions")
        shape, stride = stream.longs(dims), stream.longs(dims)
        (first,) = stream.longs(1)
        storage = self.read()
        if storage is None:
            storage = _Storage((0,), np.dtype(DTYPES[kind]), lambda: np.empty(0, DTYPES[kind]))
        if not isinstance(storage, _Storage) or storage.dtype.kind != np.dtype(DTYPES[kind]).kind:
            raise stream.damaged("a tensor without a storage of its type")
        if min((first - 1, *shape, *stride)) < 0:
            raise stream.damaged("a tensor with a negative size, stride or offset")
        shape = shape or (0,)  # Lua Torch has no scalars: no dimensions, no elements
        last = first - 1 + sum((n - 1) * step for n, step in zip(shape, stride))
        if prod(shape) and last >= storage.shape[0]:
            raise stream.damaged(f"a tensor of shape {list(shape)} reaches outside its storage of {storage.shape[0]}")
        return _window(storage, shape, stride, first - 1, stream.where)


def _window(storage: _Storage, shape: tuple[int, ...], stride: tuple[int, ...], first: int, where: str) -> Tensor:
    dtype = storage.dtype

    def span() -> Array:
        last = first + sum((n - 1) * step for n, step in zip(shape, stride))
        return steady(storage.read()[first : last + 1])

    def read() -> Array:
        if not prod(shape):
            return np.empty(shape, dtype)
        if prod(shape) > storage.shape[0]:  # expanded: fine as a buffer, but no weight needs it
            raise UnreadableFile(f"{where}: a tensor of shape {list(shape)} repeats a storage of {storage.shape[0]}")
        steps = tuple(step * dtype.itemsize if n > 1 else 0 for n, step in zip(shape, stride))  # any is right for one
        return np.lib.stride_tricks.as_strided(span(), shape, steps, writeable=False)

    return Tensor(shape, dtype, read)
