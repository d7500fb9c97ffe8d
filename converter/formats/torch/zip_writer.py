"""PyTorch's zip container, written without PyTorch; ``torch.load(weights_only=True)`` reads it.

The pickle holds dicts, plain values and tensors in the form torch.save gives them
(torch/serialization.py, torch/_utils.py ``_rebuild_tensor_v2``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Tensor
from converter.core.dtypes import name_of
from converter.core.errors import CannotExpress
from converter.core.files import replacing
from converter.formats.torch.tensors import STORAGES
from converter.formats.zips import ZipWriter, comment_of

CLASSES = {name: f"{stem}Storage" for stem, name in STORAGES.items() if stem != "Untyped"}


def write_torch(
    path: Path,
    tree: Mapping[str, Any],
    metadata: Callable[[], Mapping[str, str]] = dict,
    *,
    force: bool = False,
) -> None:
    """Write a dict of tensors (nested dicts, lists and plain values may stand beside them).

    What is known beside them (``metadata``, asked for when all tensors were read) is the zip's comment, so that
    ``load_state_dict`` finds tensors and nothing else.

    Raises:
        CannotExpress: a value torch's pickles cannot hold, or too much metadata.
        CannotWrite: the target cannot be written.
    """
    tensors: list[Tensor] = []
    pickle = b"\x80\x02" + _encode(tree, tensors, path) + b"."
    folder = path.stem or "archive"
    with replacing(path, force=force) as file, ZipWriter(file) as archive:
        archive.add(f"{folder}/data.pkl", pickle)
        archive.add(f"{folder}/byteorder", b"little")
        for i, tensor in enumerate(tensors):
            array = np.ascontiguousarray(tensor.read()).reshape(-1)
            archive.add(f"{folder}/data/{i}", array.view(np.uint8).data)
        archive.add(f"{folder}/version", b"3\n")
        archive.comment = comment_of(path, metadata())


def _encode(value: Any, tensors: list[Tensor], path: Path) -> bytes:
    if isinstance(value, Tensor):
        return _tensor(value, tensors, path)
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int) and -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    if isinstance(value, int):
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(data)) + data
    if isinstance(value, (list, tuple)):
        members = b"".join(_encode(v, tensors, path) for v in value)
        return b"](" + members + b"e" if isinstance(value, list) else b"(" + members + b"t"
    if isinstance(value, Mapping):
        pairs = b"".join(_encode(k, tensors, path) + _encode(v, tensors, path) for k, v in value.items())
        return b"ccollections\nOrderedDict\n)R(" + pairs + b"u"
    raise CannotExpress(f"{path}: a .pth cannot hold a {type(value).__name__}")


def _tensor(tensor: Tensor, tensors: list[Tensor], path: Path) -> bytes:
    if name_of(tensor.dtype) not in CLASSES:
        raise CannotExpress(f"{path}: a .pth cannot hold a tensor of type {tensor.dtype}")
    cls, numel = CLASSES[name_of(tensor.dtype)], prod(tensor.shape)
    strides = tuple(prod(tensor.shape[i + 1 :]) for i in range(len(tensor.shape)))
    storage = b"(" + _encode("storage", [], path) + f"ctorch\n{cls}\n".encode()
    storage += _encode(str(len(tensors)), [], path) + _encode("cpu", [], path) + _encode(numel, [], path) + b"tQ"
    tensors.append(tensor)
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"".join(_encode(v, [], path) for v in (0, tensor.shape, strides, False))
        + b"ccollections\nOrderedDict\n)RtR"
    )
