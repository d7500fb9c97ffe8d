"""A bare pickle of numpy arrays: ``pickle.dump`` of a dict of weights, and what Paddle writes.

numpy reduces an array to ``_reconstruct(ndarray, (0,), b"b")`` and a state (version,
shape, dtype, Fortran order, bytes), with protocol 5 to ``_frombuffer(bytes, dtype,
shape, order)``; a dtype to ``dtype(code, False, True)`` and a state whose second
element is the byte order (numpy/_core/src/multiarray/methods.c, descriptor.c).  Up to
protocol 2 there are no bytes: they are text, ``_codecs.encode(text, "latin1")``.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import Any

from converter.core.checkpoint import Checkpoint, Record, Tensor
from converter.core.errors import UnreadableFile
from converter.core.mapping import mapped
from converter.formats.torch.numpy_arrays import DTYPE, NDARRAY, bytes_of, dtype_of, with_arrays
from converter.formats.torch.pickle import ENCODED, Builder, Pickle, StateDict
from converter.formats.torch.tensors import Storage, builders

NAME = "pickle"

JOBLIB = ("joblib.numpy_pickle.NumpyArrayWrapper", "sklearn.externals.joblib.numpy_pickle.NumpyArrayWrapper")
HEAD = re.compile(rb"\x80[\x02-\x05]|\([dl]p\d|[\]}]q[\x00\x01]|\(?c[\w.]+\n\w+\n")
"""PROTO; or, before protocol 2, a container put into the memo, or a global."""


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins like a pickle (torch's own pickles are to be told before)."""
    return HEAD.match(head) is not None


def open_bare_pickle(path: Path) -> Checkpoint:
    """Open a pickle of arrays or tensors.  Other objects become inert records.

    Raises:
        UnreadableFile: damaged or truncated; an array is shorter than its shape says.
        UnsafeFile: the pickle asks for code to be run.
    """
    tree, inert = read_bare_pickle(mapped(path).data, str(path))
    return Checkpoint(path, NAME, tree, files=(path,), inert=inert)


def read_bare_pickle(data: memoryview | bytes, where: str, depth: int = 0) -> tuple[Any, tuple[str, ...]]:
    """What a pickle holds, and the classes that became inert records.

    torch's tensors hand pickle a storage as the bytes of a nested ``torch.save``
    (torch/storage.py, ``_load_from_bytes``); joblib lays an array's bytes into the stream behind
    the object that describes it (joblib/numpy_pickle.py, NumpyArrayWrapper).
    """

    def nested(data: Any) -> Any:
        if isinstance(data, Storage):  # the interpreter found it in the bytes
            return data
        found = bytes_of(data, where)
        if found is None:
            raise UnreadableFile(f"{where}: damaged pickle, a storage that is no bytes")
        return pickle.nested(found[1]())

    known = {**builders(where), **_builders(), "torch.storage._load_from_bytes": nested}
    pickle = Pickle(data, where, builders=known, depth=depth)
    pickle.built = lambda record: _raw_array(pickle, record)
    return with_arrays(pickle.load(), where), tuple(pickle.inert)


def _raw_array(pickle: Pickle, record: Record) -> Any:
    """The array whose bytes follow in the stream, for what describes one; anything else as it is."""
    if record.cls not in JOBLIB or not isinstance(record.state, dict):
        return record
    dtype, shape = dtype_of(record.state.get("dtype")), record.state.get("shape")
    if dtype is None or not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise UnreadableFile(f"{pickle.where}: an array that joblib describes by what is no shape or type of numbers")
    if record.state.get("numpy_array_alignment_bytes") is not None:
        pickle.take(pickle.take(1)[0])
    data = pickle.take(prod(shape) * dtype.itemsize)
    return Tensor.over(lambda: data, dtype, shape, fortran=record.state.get("order") == "F")


def _builders() -> dict[str, Builder]:
    """What may be built: containers; what numpy needs is kept as records until its state is known."""
    kept = [ENCODED, DTYPE, NDARRAY]
    for core in ("numpy.core", "numpy._core"):
        kept += [f"{core}.multiarray._reconstruct", f"{core}.multiarray.scalar", f"{core}.numeric._frombuffer"]
    result: dict[str, Builder] = {name: _keep(name) for name in kept}
    for module in ("builtins", "__builtin__"):
        result |= {f"{module}.{kind.__name__}": kind for kind in (tuple, list, dict)}
        result |= {f"{module}.set": list, f"{module}.frozenset": tuple, f"{module}.bytes": lambda *_: b""}
    return {**result, "collections.OrderedDict": StateDict}


def _keep(name: str) -> Builder:
    return lambda *args: Record(name, args)
