"""safetensors, written so that the same tensors give the same bytes.

The header keeps the order it is given; tensors are aligned to 8 bytes by the header's
padding and lie in order of decreasing element size, so every one is aligned (the
format's README, "Format" and "Notes").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from converter.checkpoint import Tensor
from converter.errors import CannotExpress
from converter.exporters.atomic import replacing
from converter.formats.safetensors import DTYPES

NAMES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors, one at a time, so that no more than one is in memory.

    ``"format": "pt"`` is added to the metadata: transformers requires it.

    Raises:
        CannotExpress: an element type the format has no name for.
        CannotWrite: the target cannot be written.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    order = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    at = 0
    for name, tensor in order:
        if tensor.dtype not in NAMES:
            raise CannotExpress(f"{path}: safetensors cannot hold {name} of type {tensor.dtype}")
        size = prod(tensor.shape) * tensor.dtype.itemsize
        entry = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        header[name] = entry
        at += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, tensor in order:
            file.write(np.ascontiguousarray(tensor.read()).reshape(-1).view(np.uint8).data)
