"""What a format reader returns: named arrays that are not read yet, and what else the file said."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from converter.core.mapping import steady

Array = np.ndarray[Any, Any]
Raw = Array | memoryview | bytes


def computed_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of what is computed from values of this one: its own, but no coarser than float32."""
    return dtype if dtype.itemsize >= 4 else np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One array of a file: shape and dtype are known, the values come from ``read()``.

    ``read()`` returns what lies in the file as it is where the format permits, read-only.
    bfloat16 has the dtype of the ``ml_dtypes`` package.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Array]

    @classmethod
    def of(cls, array: Array) -> Self:
        """An array that is already in memory (or mapped)."""
        return cls(array.shape, array.dtype, lambda: array)

    @classmethod
    def over(
        cls, raw: Raw | Callable[[], Raw], dtype: np.dtype[Any], shape: Iterable[int], *, fortran: bool = False
    ) -> Self:
        """An array whose values are exactly these bytes.

        Args:
            raw: the bytes, flat, or what gives them.
            dtype: the element type, in the bytes' own order.
            shape: the sizes, whose product times the element's size is that of ``raw``.
            fortran: whether the first index runs fastest.
        """
        sizes, native = tuple(shape), dtype.newbyteorder("=")

        def read() -> Array:
            flat = steady(np.frombuffer(raw() if callable(raw) else raw, np.uint8)).view(dtype)
            array = flat.reshape(sizes[::-1]).transpose() if fortran else flat.reshape(sizes)
            return array if dtype.isnative else array.astype(native)

        return cls(sizes, native, read)


class Unordered(list[Any]):
    """A set of the file: its members may be unhashable records, and have no order that means anything."""


@dataclass(slots=True, eq=False)
class Record:
    """A pickled object of some class, kept as plain data: nothing of that class was imported or run.

    ``state`` is what BUILD would have handed to ``__setstate__`` or ``__dict__``.
    """

    cls: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """An opened file.

    Attributes:
        path: the file (for a sharded checkpoint its index).
        format: name of the container, e.g. ``torch zip``.
        tree: nested dicts, lists and Records whose leaves are Tensors and plain values.
        metadata: what the container itself says in text.
        files: every file read, in order; the source's hash covers them all.
        inert: classes named by the file that became inert records.
        settings: config fields that the reader found stated beside the tensors.
        graph: the description of the network the file holds, as its format has it; None if it has none.
        head: which of several heads of that graph is to be read, where somebody says it.
        held: it is no file but in memory, and ``path`` only what it is called.
    """

    path: Path
    format: str
    tree: Any
    metadata: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    inert: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    graph: Any = None
    head: str = ""
    held: bool = False


def child_items(node: Any) -> Iterator[tuple[str, Any]]:
    """The named members of a dict, list or record of a tree."""
    if isinstance(node, Record):
        node = node.state
    if isinstance(node, dict):
        yield from ((str(k), v) for k, v in node.items())
    elif isinstance(node, (list, tuple)):
        yield from ((str(i), v) for i, v in enumerate(node))
