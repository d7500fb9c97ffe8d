"""What PyTorch puts in its pickles: storages, tensors, parameters.  Shared by its three containers.

The names and argument orders are those of torch/_utils.py and torch/serialization.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import UnreadableFile
from converter.formats.torch.pickle import Builder, Global, StateDict

DTYPES: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "bool": np.bool_,
    "complex64": np.complex64,
    "complex128": np.complex128,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}
ALIASES = {
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
}
STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "Untyped": "uint8",
}


EXPANDED = 1 << 16
"""Elements a tensor may have beyond its storage's (``expand`` gives strides of 0): enough for any norm."""


class Storage:
    """A flat array of the file, found but not yet read.

    ``fetch`` is set by the container once it knows where the bytes are (in the older
    formats they follow the pickle that names them); ``offset`` counts elements, for
    a storage that is a view of another one.
    """

    __slots__ = ("dtype", "fetch", "key", "numel", "offset", "where")

    def __init__(self, key: str, dtype: np.dtype[Any], numel: int, where: str) -> None:
        self.key = key
        self.dtype = dtype
        self.numel = numel
        self.where = where
        self.offset = 0
        self.fetch: Callable[[], Array] | None = None

    def array(self) -> Array:
        """The elements as a flat read-only array."""
        if self.fetch is None:
            raise UnreadableFile(f"{self.where}: storage {self.key} is not in the file (truncated?)")
        return self.fetch()


def storage_dtype(cls: Any, where: str) -> np.dtype[Any]:
    """The element type of a storage or tensor class such as ``torch.cuda.HalfStorage``.

    Raises:
        UnreadableFile: an element type without a numpy equivalent (quantised, say).
    """
    name = cls.name if isinstance(cls, Global) else type(cls).__name__
    stem = name.removesuffix("Storage").removesuffix("Tensor")
    if stem not in STORAGES:
        raise UnreadableFile(f"{where}: tensors of type {name} cannot be read; save the model in float32 first")
    dtype: np.dtype[Any] = np.dtype(DTYPES[STORAGES[stem]])
    return dtype


def named_dtype(dtype: Any, where: str) -> np.dtype[Any]:
    """The numpy dtype of a pickled ``torch.dtype``."""
    name = dtype.name if isinstance(dtype, Global) else type(dtype).__name__
    name = ALIASES.get(name, name)
    if name not in DTYPES:
        raise UnreadableFile(f"{where}: tensors of type torch.{name} cannot be read; save the model in float32 first")
    found: np.dtype[Any] = np.dtype(DTYPES[name])
    return found


def strided(storage: Storage, dtype: np.dtype[Any], offset: int, shape: Any, stride: Any, where: str) -> Tensor:
    """A tensor as a view of its storage, checked against the storage's declared size.

    Raises:
        UnreadableFile: the view reaches outside its storage.
    """
    shape, stride, offset = tuple(map(int, shape)), tuple(map(int, stride)), int(offset)
    if len(shape) != len(stride) or min((offset, *shape, *stride)) < 0:
        raise UnreadableFile(f"{where}: a tensor has a malformed shape or stride")
    available = storage.numel * storage.dtype.itemsize // dtype.itemsize
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    if prod(shape) > max(available, EXPANDED):
        raise UnreadableFile(f"{where}: a tensor of shape {list(shape)} repeats a storage of {available} too often")
    if prod(shape) and last >= available:
        raise UnreadableFile(f"{where}: a tensor of shape {list(shape)} reaches outside its storage of {available}")

    def read() -> Array:
        flat = storage.array()
        if flat.dtype.newbyteorder("=") != dtype:
            flat = flat.view(dtype)
        if not prod(shape):
            return np.empty(shape, dtype)
        steps = tuple(s * flat.itemsize for s in stride)
        view = np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)
        return view if view.dtype.isnative else view.astype(dtype)

    return Tensor(shape, dtype, read)


def builders(where: str) -> dict[str, Builder]:
    """Builders for the globals of a torch pickle."""

    def rebuild(
        storage: Storage, offset: int, shape: Any, stride: Any, grad: Any = False, hooks: Any = None, flags: Any = None
    ) -> Tensor:
        if isinstance(flags, dict) and any(flags.values()):  # PyTorch's neg and conj bits
            raise UnreadableFile(f"{where}: a lazily negated or conjugated tensor; save it with resolve_neg()")
        return strided(_storage(storage, where), storage.dtype, offset, shape, stride, where)

    def rebuild_v3(
        storage: Storage, offset: int, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
    ) -> Tensor:
        return strided(_storage(storage, where), named_dtype(dtype, where), offset, shape, stride, where)

    def first(data: Any = None, *_: Any) -> Any:
        return data

    result: dict[str, Builder] = {
        "collections.OrderedDict": StateDict,
        "torch._utils._rebuild_tensor": rebuild,
        "torch._utils._rebuild_tensor_v2": rebuild,
        "torch._utils._rebuild_tensor_v3": rebuild_v3,
        "torch._utils._rebuild_parameter": first,
        "torch._utils._rebuild_parameter_with_state": first,
        "torch.nn.parameter.Parameter": first,
        "torch.nn.parameter.Buffer": first,
        "torch._tensor._rebuild_from_type_v2": lambda function, cls, args, state: _call(result, function, args),
        "torch.Size": lambda items=(): tuple(items),
        "builtins.set": lambda items=(): list(items),
        "__builtin__.set": lambda items=(): list(items),
        "builtins.frozenset": lambda items=(): tuple(items),
        "builtins.tuple": lambda items=(): tuple(items),
        "builtins.list": lambda items=(): list(items),
        "builtins.dict": lambda items=(): dict(items),
        "_codecs.encode": lambda text, encoding="latin-1": text.encode("latin-1"),
    }
    for name in (*DTYPES, *ALIASES):
        result[f"torch.{name}"] = lambda *_: None  # values, never called: known so that they are not reported
    for prefix in ("torch.", "torch.cuda.", "torch.storage."):
        for stem in STORAGES:
            result[f"{prefix}{stem}Storage"] = lambda *_: None
    return result


def _call(known: dict[str, Builder], function: Any, args: Any) -> Any:
    build = known.get(str(function)) if isinstance(function, Global) else None
    return build(*args) if build else None


def _storage(storage: Any, where: str) -> Storage:
    if not isinstance(storage, Storage):
        raise UnreadableFile(f"{where}: a tensor without a storage (saved on the meta device?)")
    return storage


def mapped(buffer: Array, start: int, dtype: np.dtype[Any], numel: int, *, big: bool) -> Any:
    """``numel`` elements of a mapped file from byte ``start``, in the file's byte order."""
    raw = buffer[start : start + numel * dtype.itemsize]
    if big == (sys.byteorder == "big") or dtype.itemsize == 1:
        return raw.view(dtype)
    if dtype.kind == "V":  # ml_dtypes know native order only
        return raw.view(f">u{dtype.itemsize}").astype(f"=u{dtype.itemsize}").view(dtype)
    return raw.view(dtype.newbyteorder())
