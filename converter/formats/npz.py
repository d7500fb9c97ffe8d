"""npz: a zip of ``.npy`` members (numpy.lib.format), of which some may hold pickled objects."""

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import CannotExpress
from converter.core.files import replacing
from converter.formats.npy import read_npy
from converter.formats.zips import Zip, ZipWriter, comment_of

NAME = "npz"


def matches(archive: Zip) -> bool:
    """Whether every member of the zip is an array."""
    return bool(archive.names) and all(name.endswith(".npy") for name in archive.names)


def open_npz(path: Path) -> Checkpoint:
    """Open an npz as ``numpy.savez`` and ``savez_compressed`` write it."""
    archive = Zip(path)
    tree: dict[str, Any] = {}
    inert: dict[str, None] = {}
    for name in archive.names:
        whole = partial(archive.place, name)
        value, classes = read_npy(archive.head(name, bounds.NPY_HEADER), archive.size(name), whole, str(path), name)
        tree[name.removesuffix(".npy")] = value
        inert |= dict.fromkeys(classes)
    return Checkpoint(path, NAME, tree, archive.metadata, (path,), tuple(inert))


def write_npz(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Callable[[], Mapping[str, str]] = dict,
    *,
    force: bool = False,
) -> None:
    """Write tensors as the members of an npz, and what is known beside them as the zip's comment.

    ``metadata`` is asked for that when all tensors were read.

    Raises:
        CannotExpress: an element type numpy alone does not know (bfloat16), or too much metadata.
        CannotWrite: the target cannot be written.
    """
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "V":
            raise CannotExpress(f"{path}: npz cannot hold {name} of type {tensor.dtype}; use --dtype fp32")
    with replacing(path, force=force) as file, ZipWriter(file) as archive:
        for name, tensor in tensors.items():
            header, array = io.BytesIO(), np.asarray(tensor.read(), order="C")
            np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
            archive.add(f"{name}.npy", header.getvalue(), array.reshape(-1).view(np.uint8).data)
        archive.comment = comment_of(path, metadata())
