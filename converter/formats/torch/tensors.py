"""What PyTorch puts in its pickles: storages, tensors, parameters.  Shared by its three containers.

The names and argument orders are those of torch/_utils.py and torch/serialization.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Record, Tensor, Unordered
from converter.core.dtypes import named
from converter.core.errors import UnreadableFile
from converter.core.mapping import steady
from converter.formats.torch.pickle import Builder, Global, StateDict

DTYPES = named(
    """float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool complex64 complex128
    float8_e4m3fn float8_e5m2"""
)
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
ALIASES = {stem.lower(): STORAGES[stem] for stem in ("Double", "Float", "Half", "Long", "Int", "Short")}
"""Other names that element types have in ``torch``."""
QUANTISED = {"QInt8": "Char", "QUInt8": "Byte", "QInt32": "Int"}
"""Storages of quantised tensors, and as which they are found; they are not read."""


class Storage:
    """A flat array of the file, found but not yet read.

    ``fetch`` is set once the container knows where the bytes are: in the older formats
    they follow the pickle that names them.
    """

    __slots__ = ("dtype", "fetch", "key", "numel", "views", "where")

    def __init__(self, key: str, dtype: np.dtype[Any], numel: int, where: str) -> None:
        self.key = key
        self.dtype = dtype
        self.numel = numel
        self.where = where
        self.fetch: Callable[[], Array] | None = None
        self.views: dict[Any, Tensor] = {}

    def array(self) -> Array:
        """The elements as a flat read-only array."""
        if self.fetch is None:
            raise UnreadableFile(f"{self.where}: storage {self.key} is not in the file (truncated?)")
        return self.fetch()

    def lies_in(self, bytes_of: Callable[[], Array], start: int = 0, *, big: bool = False) -> None:
        """Say where the elements are: in bytes that are had on demand, from ``start`` on, in that byte order."""
        self.fetch = lambda: _elements(bytes_of(), start, self.dtype, self.numel, big=big)

    def window(self, key: Any, offset: int, numel: int) -> Storage:
        """A storage that is a piece of this one.

        Raises:
            UnreadableFile: it reaches outside.
        """
        if offset < 0 or offset + numel > self.numel:
            raise UnreadableFile(f"{self.where}: a storage view reaches outside its storage")
        view = Storage(str(key), self.dtype, int(numel), self.where)
        view.fetch = lambda: self.array()[offset : offset + view.numel]
        return view


def storage_dtype(cls: Any, where: str) -> np.dtype[Any]:
    """The element type of a storage or tensor class such as ``torch.cuda.HalfStorage``.

    Raises:
        UnreadableFile: an element type without a numpy equivalent.
    """
    name = cls.name if isinstance(cls, Global) else type(cls).__name__
    stem = name.removesuffix("Storage").removesuffix("Tensor")
    stem = QUANTISED.get(stem, stem)
    if stem not in STORAGES:
        raise UnreadableFile(f"{where}: tensors of type {name} cannot be read; save the model in float32 first")
    return DTYPES[STORAGES[stem]]


def named_dtype(dtype: Any, where: str) -> np.dtype[Any]:
    """The numpy dtype of a pickled ``torch.dtype``."""
    name = dtype.name if isinstance(dtype, Global) else type(dtype).__name__
    name = ALIASES.get(name, name)
    if name not in DTYPES:
        raise UnreadableFile(f"{where}: tensors of type torch.{name} cannot be read; save the model in float32 first")
    return DTYPES[name]


def strided(storage: Storage, dtype: np.dtype[Any], offset: int, shape: Any, stride: Any, where: str) -> Tensor:
    """A tensor as a view of its storage, checked against the storage's declared size.

    The same view is the same object: that is how aliases are known.

    Raises:
        UnreadableFile: the view reaches outside its storage.
    """
    shape, stride, offset = tuple(map(int, shape)), tuple(map(int, stride)), int(offset)
    if len(shape) != len(stride) or min((offset, *shape, *stride)) < 0:
        raise UnreadableFile(f"{where}: a tensor has a malformed shape or stride")
    known = storage.views.get((dtype, offset, shape, stride))
    if known is not None:
        return known
    available = storage.numel * storage.dtype.itemsize // dtype.itemsize
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    if prod(shape) > max(available, bounds.EXPANDED):
        raise UnreadableFile(f"{where}: a tensor of shape {list(shape)} repeats a storage of {available} too often")
    if prod(shape) and last >= available:
        raise UnreadableFile(f"{where}: a tensor of shape {list(shape)} reaches outside its storage of {available}")

    def read() -> Array:
        flat = storage.array()
        if flat.dtype.newbyteorder("=") != dtype:
            flat = flat.view(dtype)
        if not prod(shape):
            return np.empty(shape, dtype)
        steps = tuple(s * flat.itemsize if n > 1 else 0 for n, s in zip(shape, stride))  # any is right for one
        span = steady(flat[offset : last + 1])
        view = np.lib.stride_tricks.as_strided(span, shape, steps, writeable=False)
        return view if view.dtype.isnative else view.astype(dtype)

    tensor = storage.views[dtype, offset, shape, stride] = Tensor(shape, dtype, read)
    return tensor


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
        "torch._tensor._rebuild_from_type_v2": lambda function, cls, args, state: _subclass(
            result, function, cls, args, state
        ),
        "torch._utils._rebuild_device_tensor_from_numpy": first,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": first,
        **dict.fromkeys(("torch.Size", "builtins.frozenset", "builtins.tuple"), tuple),
        **dict.fromkeys(("builtins.set", "__builtin__.set"), Unordered),
        "builtins.list": list,
        "builtins.dict": dict,
        "dill._dill._create_array": lambda function, args, state, *_: Record(str(function), tuple(args), state),
        "_codecs.encode": lambda text, encoding="latin-1": text.encode("latin-1"),
    }
    values = [f"torch.{name}" for name in (*DTYPES, *ALIASES)]  # never called: known so that they are not reported
    stems = (*STORAGES, *QUANTISED)
    values += [f"{module}.{stem}Storage" for module in ("torch", "torch.cuda", "torch.storage") for stem in stems]
    return {**result, **dict.fromkeys(values, lambda *_: None)}


DTENSORS = (
    "torch.distributed.tensor.DTensor",
    "torch.distributed._tensor.DTensor",
    "torch.distributed._tensor.api.DTensor",
)
SHARDED = ("torch.distributed._shard.sharded_tensor.api.ShardedTensor",)
PLACEMENTS = ("Shard", "Replicate", "_StridedShard")


def _subclass(known: dict[str, Builder], function: Any, cls: Any, args: Any, state: Any) -> Any:
    """A tensor of a subclass: the plain tensor it is built as, or a record under the subclass's name."""
    build = known.get(str(function)) if isinstance(function, Global) else None
    if build is not None:
        return build(*args)
    parts = state if isinstance(state, tuple) else (state,)
    values = {k: v for part in parts if isinstance(part, dict) for k, v in part.items()}
    if str(cls) in DTENSORS and (local := _only_shard(args, values)) is not None:
        return local
    if str(cls) in SHARDED and (local := _only_part(parts)) is not None:
        return local
    return Record(str(cls), tuple(args) if isinstance(args, (tuple, list)) else (args,), state)


def _only_shard(args: Any, state: Mapping[str, Any]) -> Tensor | None:
    """The local part of a distributed tensor, where it is all of it."""
    local, spec = state.get("_local_tensor"), state.get("_spec")
    whole = next((tuple(a) for a in args if isinstance(a, tuple) and all(isinstance(n, int) for n in a)), None)
    if not isinstance(local, Tensor) or not isinstance(spec, Record) or local.shape != whole:
        return None
    values = spec.state if isinstance(spec.state, dict) else {}
    placements = values.get("placements")
    known = isinstance(placements, (tuple, list)) and all(
        isinstance(p, Record) and p.cls.rpartition(".")[2] in PLACEMENTS for p in placements
    )
    return local if known else None  # a partial sum is not all of it


def _only_part(state: tuple[Any, ...]) -> Tensor | None:
    """The local shard of a ShardedTensor, where it is all of it; its state is (local shards, metadata ...)."""
    shards, whole = (*state, None, None)[:2]
    parts = shards if isinstance(shards, list) and len(shards) == 1 else []
    values = [part.state for part in (*parts, whole) if isinstance(part, Record) and isinstance(part.state, dict)]
    local, size = values[0].get("tensor") if values else None, values[-1].get("size") if values else None
    return local if isinstance(local, Tensor) and isinstance(size, tuple) and local.shape == tuple(size) else None


def _storage(storage: Any, where: str) -> Storage:
    if not isinstance(storage, Storage):
        raise UnreadableFile(f"{where}: a tensor without a storage (saved on the meta device?)")
    return storage


def _elements(buffer: Array, start: int, dtype: np.dtype[Any], numel: int, *, big: bool) -> Any:
    """``numel`` elements of a buffer from byte ``start``, in the file's byte order."""
    raw = buffer[start : start + numel * dtype.itemsize]
    if big == (sys.byteorder == "big") or dtype.itemsize == 1:
        return raw.view(dtype)
    if dtype.kind == "V":  # ml_dtypes know native order only
        return steady(raw).view(f">u{dtype.itemsize}").astype(f"=u{dtype.itemsize}").view(dtype)
    return raw.view(dtype.newbyteorder())
