"""safetensors, one file or several with an index (huggingface/safetensors, README "Format").

Eight bytes of header length, a JSON header (name -> dtype, shape, byte range), the
tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint, Tensor
from converter.core.dtypes import Types, name_of
from converter.core.errors import CannotExpress, ForeignFile, UnreadableFile, UnsafeFile
from converter.core.files import replacing
from converter.core.mapping import mapped, steady
from converter.core.metadata import parsed
from converter.formats.damage import typed

NAME = "safetensors"
DTYPES = Types(
    {
        "F64": "float64",
        "F32": "float32",
        "F16": "float16",
        "BF16": "bfloat16",
        "I64": "int64",
        "I32": "int32",
        "I16": "int16",
        "I8": "int8",
        "U64": "uint64",
        "U32": "uint32",
        "U16": "uint16",
        "U8": "uint8",
        "BOOL": "bool",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
    }
)


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins like safetensors: a plausible header length, then ``{``."""
    if len(head) < 9 or head[8:9] != b"{":
        return False
    return int.from_bytes(head[:8], "little") <= bounds.SAFETENSORS_HEADER


def open_safetensors(path: Path) -> Checkpoint:
    """Open one safetensors file.

    Raises:
        UnreadableFile: the header is malformed, or the file is shorter than it says.
    """
    tensors, metadata = _read(path)
    return Checkpoint(path, NAME, tensors, metadata, (path,))


def read_index(path: Path) -> dict[str, str]:
    """The ``weight_map`` of an index (tensor name -> file name), confined to the index' own folder.

    Raises:
        UnreadableFile: no valid index.
        UnsafeFile: it names a file elsewhere.
    """
    try:
        if path.stat().st_size > bounds.INDEX:
            raise ValueError("too large")
        index = parsed(path.read_text("utf-8"), bounds.INDEX)
        weight_map = {str(k): str(v) for k, v in index["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ForeignFile(f"{path}: not an index of a sharded checkpoint (no weight_map)") from error
    for file in set(weight_map.values()):
        if Path(file).name != file or not file:
            raise UnsafeFile(f"{path}: refused, it points to {file!r} outside its own folder")
        if not (path.parent / file).is_file():
            raise UnreadableFile(f"{path}: the shard {file} is missing")
    return weight_map


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or 8 + length > size or length > bounds.SAFETENSORS_HEADER:
            raise UnreadableFile(f"{path}: truncated, its header ends behind the end of the file")
        try:
            header = parsed(file.read(length), bounds.SAFETENSORS_HEADER)
            metadata = header.pop("__metadata__", None) or {}  # MLX writes null
            entries = {
                name: (entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"]) for name, entry in header.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UnreadableFile(f"{path}: not a safetensors header ({typed(error)})") from error
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise UnreadableFile(f"{path}: the metadata of the header is not text")
    if len(entries) > bounds.ARRAYS:
        raise UnreadableFile(f"{path}: more than {bounds.ARRAYS} tensors")
    data = mapped(path)[8 + length :]
    tensors: dict[str, Tensor] = {}
    end_of_last = 0
    for name, (code, shape, start, end) in sorted(entries.items(), key=lambda item: item[1][2:4]):
        if code not in DTYPES:
            raise UnreadableFile(f"{path}: {name} has dtype {code}, which cannot be read")
        if not all(isinstance(n, int) and n >= 0 for n in (*shape, start, end)):
            raise UnreadableFile(f"{path}: {name} has a malformed shape or range")
        dtype = DTYPES[code]
        if end - start != prod(shape) * dtype.itemsize or start != end_of_last:
            raise UnreadableFile(f"{path}: the byte range of {name} does not fit its shape or its neighbours")
        if end > len(data):
            raise UnreadableFile(f"{path}: truncated, {name} ends behind the end of the file")
        end_of_last = end
        tensors[name] = _tensor(data, start, end, dtype, shape)
    if end_of_last != len(data):
        raise UnreadableFile(f"{path}: {len(data) - end_of_last} bytes that belong to no tensor")
    return {name: tensors[name] for name in entries}, metadata


def _tensor(data: Array, start: int, end: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Tensor:
    return Tensor(shape, dtype, lambda: steady(data[start:end]).view(dtype).reshape(shape))


CODES = {name: code for code, name in DTYPES.names.items()}


def write_safetensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    at_last: Callable[[], Mapping[str, str]] = dict,
    force: bool = False,
) -> None:
    """Write tensors, one at a time, so that no more than one is in memory.

    ``"format": "pt"`` is added to the metadata: transformers requires it.  ``at_last`` gives what of the metadata is
    known only when all tensors were read, in texts as long as those that stand for them.

    Raises:
        CannotExpress: an element type the format has no name for.
        CannotWrite: the target cannot be written.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    order = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    at = 0
    for name, tensor in order:
        if name_of(tensor.dtype) not in CODES:
            raise CannotExpress(f"{path}: safetensors cannot hold {name} of type {tensor.dtype}")
        size = prod(tensor.shape) * tensor.dtype.itemsize
        entry = {"dtype": CODES[name_of(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        header[name] = entry
        at += size
    text = _header(header)
    with replacing(path, force=force) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, tensor in order:
            file.write(np.ascontiguousarray(tensor.read()).reshape(-1).view(np.uint8).data)
        if late := at_last():
            known = _header({**header, "__metadata__": {"format": "pt", **metadata, **late}})
            assert len(known) == len(text)
            file.seek(8)
            file.write(known)


def _header(header: Mapping[str, object]) -> bytes:
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)
