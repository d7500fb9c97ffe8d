"""Element types by the numbers and names that file formats have for them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np


def dtype(name: str) -> np.dtype[Any]:
    """The element type that NumPy or ``ml_dtypes`` calls so."""
    return np.dtype(getattr(ml_dtypes, name, name))


def named(names: str) -> dict[str, np.dtype[Any]]:
    """Element types by their names, which are separated by spaces."""
    return {name: dtype(name) for name in names.split()}


def numbered(names: str, first: int = 0) -> dict[int, np.dtype[Any]]:
    """Element types by their numbers in a format's enumeration, which has the ``names`` in order from ``first`` on.

    ``-`` stands for what no weight is: text, quantised and most complex numbers.
    """
    return {number: dtype(name) for number, name in enumerate(names.split(), first) if name != "-"}
