"""Files that are part of a checkpoint whose name is another's: given alone they are that checkpoint, or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from converter.core import bounds
from converter.formats import ncnn, openvino
from converter.formats.coreml import model as coreml
from converter.formats.tensorflow import bundle
from converter.formats.tfjs import model as tfjs

NAMING = ("*.index.json", "*.weights.json", "*.onnx")
"""Files that name others beside them: shards, and the weights of a graph."""


def whole_of(path: Path) -> Path | None:
    """The file whose checkpoint another one opens as well: an IR's XML for its ``.bin``; None for all others."""
    try:
        return _whole_of(path)
    except OSError:  # a name too long with another ending: no such file is there
        return None


def _whole_of(path: Path) -> Path | None:
    if path.suffix == ".bin":
        if openvino.matches_weights(path):
            return path.with_suffix(".xml")
        return ncnn.param_of(path) or tfjs.index_of(path) or coreml.model_beside(path)
    if path.suffix == ".pdiparams":
        return next((p for kind in (".pdmodel", ".json") if (p := path.with_suffix(kind)).is_file()), None)
    index = bundle.index_of(path) if ".data-" in path.name or path.suffix == ".meta" else None
    return index or (beside if path.suffix == ".meta" and (beside := path.with_suffix(".index")).is_file() else None)


def named_by(path: Path) -> Path | None:
    """The file beside one that could not be read alone which names it: an index its shard; None where none does."""
    name = os.fsencode(path.name)
    for other in islice(_naming(path.parent), bounds.BESIDE):
        if other != path and other.stat().st_size <= bounds.INDEX and name in other.read_bytes():
            return other
    return None


def _naming(folder: Path) -> Iterator[Path]:
    for pattern in NAMING:
        yield from (path for path in sorted(folder.glob(pattern)) if path.is_file())
