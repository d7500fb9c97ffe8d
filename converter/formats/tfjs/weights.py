"""The weights of a TensorFlow.js model, as its ``weightsManifest`` lists them.

tfjs-core/src/io/types.ts (WeightsManifestConfig) and io_utils.ts (decodeWeight): groups, each of files that are
concatenated, and of weights that lie one after the other in that: name, shape, dtype and how they were quantised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Tensor
from converter.core.errors import UnreadableFile
from converter.core.mapping import mapped, steady
from converter.formats.companion import companion
from converter.formats.damage import damaged, naming

DTYPES = {name: np.dtype(name) for name in ("float32", "float16", "int32", "uint8", "bool")}
QUANTISED = {name: np.dtype(name) for name in ("float16", "uint16", "uint8")}
"""What weights are stored as where they are quantised; all are computed with in float32."""


def paths_of(manifest: Any) -> list[str]:
    """The files that a manifest names, in order.

    Raises:
        ValueError, LookupError, TypeError: it is none.
    """
    return [str(path) for group in manifest for path in group["paths"]]


def weights_of(path: Path, manifest: Any) -> tuple[dict[str, Tensor], tuple[Path, ...]]:
    """The weights by name, and the files they lie in.

    Args:
        path: the ``model.json``, which stands for the folder.
        manifest: its ``weightsManifest``.

    Raises:
        UnreadableFile: damaged, quantised to 8 bits, or a file is missing or has not the size that is said.
        UnsafeFile: it names a file elsewhere.
    """
    with naming(path), damaged(f"{path}: its weightsManifest is damaged"):
        named = paths_of(manifest)
        groups = [(list(map(str, group["paths"])), list(_entries(group["weights"]))) for group in manifest]
    if sum(len(entries) for _, entries in groups) > bounds.ARRAYS:
        raise UnreadableFile(f"{path}: more than {bounds.ARRAYS} tensors")
    files = {name: companion(path, name) for name in named}
    missing = [name for name, file in files.items() if not file.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UnreadableFile(f"{path}: its weights are in {missing[0]}{more}, which is missing beside it")
    tensors: dict[str, Tensor] = {}
    for paths, entries in groups:
        at, shards = 0, [mapped(files[name]) for name in paths if files[name].stat().st_size]
        size = sum(map(len, shards))
        for name, shape, stored, scale in entries:
            length = prod(shape) * stored.itemsize
            if at + length > size:
                raise UnreadableFile(f"{path}: {name} ends behind the end of {', '.join(paths)}: truncated, or another")
            tensors[name] = _tensor(_pieces(shards, at, length), shape, stored, scale)
            at += length
        if at != size:
            raise UnreadableFile(f"{path}: {', '.join(paths)} has {size - at} bytes more than its weights")
    return tensors, tuple(dict.fromkeys(files.values()))


Scale = tuple[float, float] | None
"""What 16-bit integers are multiplied by, and what is added."""


def _entries(weights: Any) -> Iterator[tuple[str, tuple[int, ...], np.dtype[Any], Scale]]:
    """Name, shape, type as stored, and scale of each weight."""
    for weight in weights:
        name, shape, quantised = str(weight["name"]), tuple(weight["shape"]), weight.get("quantization")
        if len(shape) > bounds.DIMENSIONS or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"{name} has no shape")
        dtype = weight["dtype"]
        if quantised is None:
            if dtype not in DTYPES:
                raise UnreadableFile(f"{name} has type {dtype}, which cannot be read")
            yield name, shape, DTYPES[dtype], None
        elif quantised["dtype"] == "uint8":
            raise UnreadableFile(
                f"its weights are quantised to 8 bits ({name}), which is not read; convert the model again without "
                "quantize_uint8"
            )
        else:
            stored = QUANTISED[quantised["dtype"]]
            scale = None if stored.kind == "f" else (float(quantised["scale"]), float(quantised["min"]))
            yield name, shape, stored, scale


def _pieces(shards: Sequence[Array], start: int, length: int) -> list[Array]:
    """Bytes of files one behind the other."""
    found: list[Array] = []
    for shard in shards:
        if start < len(shard) and length:
            found.append(shard[start : start + length])
            length -= len(found[-1])
        start = max(start - len(shard), 0)
    return found


def _tensor(pieces: Sequence[Array], shape: tuple[int, ...], stored: np.dtype[Any], scale: Scale) -> Tensor:
    def raw() -> Array:
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate([steady(piece) for piece in pieces]) if pieces else np.empty(0, np.uint8)

    plain = Tensor.over(raw, stored.newbyteorder("<"), shape)
    if stored.itemsize != 2:
        return plain

    def read() -> Array:
        if scale is None:
            return plain.read().astype(np.float32)
        values: Array = plain.read() * scale[0] + scale[1]
        return values.astype(np.float32)

    return Tensor(shape, np.dtype(np.float32), read)
