"""Element types by the numbers and names that file formats have for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

import numpy as np

Code = TypeVar("Code")


class Types(Mapping[Code, np.dtype[Any]]):
    """Element types by a format's numbers or names for them, each looked up when it is asked for."""

    def __init__(self, names: Mapping[Code, str]) -> None:
        self.names = names

    def __getitem__(self, code: Code) -> np.dtype[Any]:
        return dtype(self.names[code])

    def __iter__(self) -> Iterator[Code]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, code: object) -> bool:
        return code in self.names

    def __or__(self, other: Types[Code]) -> Types[Code]:
        return Types({**self.names, **other.names})


@cache
def dtype(name: str) -> np.dtype[Any]:
    """The element type that NumPy or ``ml_dtypes`` calls so."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes  # noqa: PLC0415 (for few files; takes as long as reading one)

        return np.dtype(getattr(ml_dtypes, name, name))


@cache
def name_of(dtype: np.dtype[Any]) -> str:
    """The inverse of :func:`dtype`; NumPy itself puts a name together anew each time."""
    return str(dtype)


def named(names: str) -> Types[str]:
    """Element types by their names, which are separated by spaces."""
    return Types({name: name for name in names.split()})


def numbered(names: str, first: int = 0) -> Types[int]:
    """Element types by their numbers in a format's enumeration, which has the ``names`` in order from ``first`` on.

    ``-`` stands for what no weight is: text, quantised and most complex numbers.
    """
    return Types({number: name for number, name in enumerate(names.split(), first) if name != "-"})
