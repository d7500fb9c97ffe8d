"""numpy's arrays in pickles, whoever wrote those."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from converter.core.checkpoint import Record, Tensor
from converter.core.errors import UnreadableFile
from converter.formats.damage import damaged
from converter.formats.torch.pickle import ENCODED, Global

ARRAY = re.compile(r"numpy\.(_core|core)\.multiarray\._reconstruct")
BUFFER = re.compile(r"numpy\.(_core|core)\.numeric\._frombuffer")
DTYPE = "numpy.dtype"
NDARRAY = "numpy.ndarray"


CODE = re.compile(r"(?:[iu][1248]|f[248]|b1)")
"""Numbers and truth values; nothing else can be a weight."""


def is_array(name: str) -> bool:
    """Whether a global in a pickle is one of those that make numpy's arrays."""
    return bool(ARRAY.fullmatch(name) or BUFFER.fullmatch(name))


def with_arrays(tree: Any, where: str) -> Any:
    """The tree with Tensors in place of records of numpy's arrays.

    A tuple ``(name, array)`` is how Paddle pickles a tensor inside other objects
    (python/paddle/framework/io.py, ``reduce_varbase``); it becomes the array.  Every object is
    visited once, without recursion: a pickle can refer to itself.
    """
    root = [tree]
    todo: list[Any] = [root]
    done: dict[int, Any] = {}
    alive: list[Any] = []  # an id is an object's only while that lives

    def replaced(node: Any) -> Any:
        if isinstance(node, Global) or not isinstance(node, (dict, list, tuple, Record)):
            return node
        if id(node) not in done:
            alive.append(node)
            done[id(node)] = result = _replacement(node, where)
            if not isinstance(result, Tensor):
                done[id(result)] = result
                todo.append(result)
        return done[id(node)]

    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            for key, value in node.items():
                node[key] = replaced(value)
        elif isinstance(node, list):
            node[:] = map(replaced, node)
        else:
            node.state = replaced(node.state)
    return root[0]


def _replacement(node: Any, where: str) -> Any:
    """A Tensor for what is an array; a list for any other tuple, so that its members can be replaced."""
    if isinstance(node, Record):
        return _array(node, where) or node
    if isinstance(node, tuple):
        pair = len(node) == 2 and isinstance(node[0], str) and isinstance(node[1], Record)
        return (_array(node[1], where) if pair else None) or list(node)
    return node


def _array(record: Record, where: str) -> Tensor | None:
    """The tensor a record stands for, if it stands for an array of numbers."""
    if ARRAY.fullmatch(record.cls) and isinstance(record.state, tuple) and len(record.state) == 5:
        _version, shape, code, fortran, data = record.state
    elif BUFFER.fullmatch(record.cls) and len(record.args) == 4:
        data, code, shape, order = record.args
        fortran = order == "F"
    else:
        return None
    dtype, raw = dtype_of(code), bytes_of(data, where)
    if dtype is None or raw is None:
        return None
    size, fetch = raw
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise UnreadableFile(f"{where}: damaged pickle, an array has a malformed shape")
    if size != prod(shape) * dtype.itemsize:
        raise UnreadableFile(f"{where}: damaged pickle, an array of shape {list(shape)} has {size} bytes of {dtype}")
    return Tensor.over(fetch, dtype, shape, fortran=fortran)


def dtype_of(record: Any) -> np.dtype[Any] | None:
    """The type a pickled dtype stands for, if it is one of numbers."""
    if not isinstance(record, Record) or record.cls != DTYPE or not record.args:
        return None
    code, state = record.args[0], record.state
    if not isinstance(code, str) or not CODE.fullmatch(code):
        return None
    big = isinstance(state, tuple) and len(state) > 1 and state[1] == ">"
    return np.dtype((">" if big else "<") + code)


def bytes_of(data: Any, where: str) -> tuple[int, Callable[[], bytes | memoryview]] | None:
    """Size of an array's data, and how to get it."""
    if isinstance(data, (bytes, memoryview)):
        return len(data), lambda: data
    if isinstance(data, Record) and data.cls == ENCODED and data.args:
        data = data.args[0]
    if not isinstance(data, str):  # Python 2's bytes also come as text
        return None

    def encoded() -> bytes:
        with damaged(f"{where}: damaged pickle, the bytes of an array are no bytes", UnicodeEncodeError):
            return data.encode("latin-1")

    return len(data), encoded
