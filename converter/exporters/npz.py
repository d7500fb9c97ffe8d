"""npz, as ``numpy.load`` reads it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from converter.checkpoint import Tensor
from converter.errors import CannotExpress
from converter.exporters.atomic import replacing
from converter.exporters.zips import ZipWriter


def write_npz(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as the members of an npz.

    Raises:
        CannotExpress: an element type numpy alone does not know (bfloat16).
        CannotWrite: the target cannot be written.
    """
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "V":
            raise CannotExpress(f"{path}: npz cannot hold {name} of type {tensor.dtype}; use --dtype fp32")
    with replacing(path) as file, ZipWriter(file) as archive:
        for name, tensor in tensors.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(tensor.read(), order="C"), allow_pickle=False)
            archive.add(f"{name}.npy", member.getvalue())
