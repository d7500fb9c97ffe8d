"""What training code left in a file beside the weights, as plain values: every named one, with its place."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Record, Tensor

TEXTS = r"[US][1-9]\d{0,5}"
"""numpy's types of texts."""


class Entry(NamedTuple):
    """A named value: where it is (``hyper_parameters.class_names``), what it is called, and itself."""

    place: str
    name: str
    value: Any


def entries(tree: Any) -> Iterator[Entry]:
    """Every named value in dicts, lists and records of a tree but tensors, those near the top first."""
    waiting: deque[tuple[str, Any, int]] = deque([("", tree, 0)])
    seen, count = set[int](), 0
    while waiting:
        place, node, depth = waiting.popleft()
        inside = node.state if isinstance(node, Record) else node
        if not isinstance(inside, dict | list | tuple) or id(inside) in seen:
            continue
        seen.add(id(inside))
        named = isinstance(inside, dict)
        for name, value in inside.items() if isinstance(inside, dict) else enumerate(inside):
            if isinstance(value, Tensor) or (named and not isinstance(name, str)):
                continue
            if (count := count + 1) > bounds.ENTRIES:
                return
            there = place if name in ("_modules", "") else f"{place}.{name}" if place else str(name)
            if named:
                yield Entry(there, str(name), value)
            if depth < bounds.ENTRIES_NESTED and isinstance(value, dict | list | tuple | Record):
                waiting.append((there, value, depth + 1))


def listed(value: Any) -> list[Any] | None:
    """The members of a list in whatever form: numpy's, pandas', a deque, fastai's; None if it is no list, or a set."""
    for _ in range(4):  # fastai's CategoryMap keeps an L, which keeps a list
        if type(value) in (list, tuple):  # no set, no name of a class
            return list(value) if len(value) <= bounds.CLASSES else None
        if not isinstance(value, Record):
            return None
        if value.cls.endswith("multiarray._reconstruct"):
            return _texts(value)
        inside = value.state.get("items") if isinstance(value.state, dict) else None
        value = value.items if value.items and inside is None else inside
    return None


def number(value: Any) -> int | float | None:
    """A number in whatever form: Python's, numpy's, a tensor of one; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if isinstance(value, Tensor) and prod(value.shape) == 1 and value.dtype.kind in "iuf":
        single: int | float = value.read().reshape(-1)[0].item()
        return single
    if isinstance(value, Record) and value.cls.endswith("multiarray.scalar") and len(value.args) == 2:
        kind, data = value.args
        code = kind.args[0] if isinstance(kind, Record) and kind.args else None
        order = kind.state[1] if isinstance(kind, Record) and isinstance(kind.state, list | tuple) else "<"
        if isinstance(code, str) and re.fullmatch(r"[iuf][248]|[iu]1", code) and isinstance(data, bytes):
            dtype = np.dtype(code).newbyteorder(">" if order == ">" else "<")
            if len(data) == dtype.itemsize:
                scalar: int | float = np.frombuffer(data, dtype)[0].item()
                return scalar
    return None


def _texts(record: Record) -> list[Any] | None:
    """The texts of a numpy array of one dimension (numpy/_core/src/multiarray/methods.c, array_setstate)."""
    state = record.state
    if not isinstance(state, list | tuple) or len(state) != 5 or not isinstance(state[2], Record):
        return None
    _, shape, dtype, _, data = state
    if not isinstance(shape, list | tuple) or len(shape) != 1 or not dtype.args:
        return None
    if isinstance(data, list | tuple):  # of objects
        return list(data) if len(data) <= bounds.CLASSES else None
    code = dtype.args[0]
    if not isinstance(code, str) or not re.fullmatch(TEXTS, code) or not isinstance(data, bytes):
        return None
    order = dtype.state[1] if isinstance(dtype.state, list | tuple) and len(dtype.state) > 1 else "<"
    kind = np.dtype(code).newbyteorder(">" if order == ">" else "<")
    if shape[0] * kind.itemsize != len(data) or shape[0] > bounds.CLASSES:
        return None
    return [
        text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in np.frombuffer(data, kind)
    ]
