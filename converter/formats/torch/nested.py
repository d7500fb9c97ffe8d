"""A checkpoint as bytes in a pickle: ``pickle.dumps(model)`` in a dict, skorch's attributes, plain tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from converter.core.errors import UnreadableFile
from converter.formats.torch import legacy
from converter.formats.torch.bare_pickle import matches, read_bare_pickle
from converter.formats.torch.zip import pickle_in, read_pickle
from converter.formats.zips import Zip


def read_nested(data: memoryview | bytes, where: str, depth: int) -> tuple[Any, tuple[str, ...]]:
    """What such bytes hold, and the classes that became inert records.

    Raises:
        UnreadableFile: they are no checkpoint, or a damaged one.
        UnsafeFile: they ask for code to be run.
    """
    head = bytes(data[:512])
    if head.startswith(b"PK"):
        archive = Zip(Path(where), np.frombuffer(data, np.uint8))
        name = pickle_in(archive)
        if name is None:
            raise UnreadableFile(f"{where}: a zip in a pickle that is none of torch's")
        return read_pickle(archive, name, depth)
    if legacy.matches(Path(where), head):
        return legacy.read_legacy(np.frombuffer(data, np.uint8), where, depth)
    if not matches(Path(where), head):
        raise UnreadableFile(f"{where}: bytes that are no checkpoint")
    return read_bare_pickle(data, where, depth)
