"""Recorded references: the oracle's logits in a file, for machines without PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Tensor
from converter.core.errors import UnreadableFile
from converter.core.files import check_replaceable
from converter.core.metadata import SOURCE_KEY, parsed, to_json
from converter.core.model import Images
from converter.core.version import __version__
from converter.formats import open_checkpoint
from converter.formats.npz import write_npz
from converter.parity.compare import FACTOR
from converter.parity.truth import Truth
from converter.parity.verdict import OUR_READING
from converter.use.inputs import remake
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess

RECORD = "densenet-converter recorded reference"
VERSION = 2


def write_record(path: Path, truth: Truth, rests_on: str = OUR_READING, *, force: bool = False) -> None:
    """Write a reference: the oracle's logits, the permitted error of each input, and how to make the inputs again.

    Synthetic inputs are stored as seeds, real images as they are; inputs of graphs that take 8-bit images are not.

    Raises:
        CannotWrite: the folder is missing, not writable or full.
    """
    assert truth.model is not None
    kept = [i for i, batch in enumerate(truth.batches) if batch.pixels is None]
    steps = truth.images.preprocess
    info = {
        "kind": RECORD,
        "version": VERSION,
        "tool": __version__,
        "oracle": "PyTorch float64",
        "rests_on": rests_on,
        "limits": [truth.limits[i] for i in kept],
        "source": truth.model.metadata()[SOURCE_KEY],
        "config": truth.config.to_dict(),
        "preprocess": steps.to_dict() if steps else {},
        "labels": list(truth.images.labels),
        "inputs": [truth.batches[i].spec() for i in kept],
    }
    arrays = {"record": np.frombuffer(to_json(info).encode(), np.uint8)}
    for place, i in enumerate(kept):
        arrays[f"logits_{place}"] = truth.truths[i].astype(np.float64)
        if truth.batches[i].seed is None:
            arrays[f"input_{place}"] = truth.batches[i].array
    write_npz(path, {name: Tensor.of(array) for name, array in arrays.items()}, force=force)


def check_record(path: Path, *, force: bool) -> None:
    """Refuse to replace what is no recorded reference, before the work is done.

    Raises:
        CannotWrite: something else is there.
    """
    check_replaceable(path, lambda path: bool(_said(open_checkpoint(path).tree)), force=force)


def _said(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says beside its arrays.

    Raises:
        ValueError: it is none.
    """
    info = parsed(tree["record"].read().tobytes()) if isinstance(tree.get("record"), Tensor) else None
    if not isinstance(info, dict) or info.get("kind") != RECORD:
        raise ValueError("another kind of file")
    return info


def read_record(path: Path) -> Truth:
    """The inverse of :func:`write_record`; the model and PyTorch's own logits are not recorded.

    Raises:
        UnreadableFile: it is no record.
    """
    tree = open_checkpoint(path).tree
    try:
        info = _said(tree)
        if info.get("version") != VERSION:
            raise UnreadableFile(
                f"{path}: recorded by another version of this tool; record it again with densenet verify --record"
            )
        arrays = {name: tensor.read() for name, tensor in tree.items()}
        truths = [arrays[f"logits_{i}"] for i in range(len(info["inputs"]))]
        limits = [float(limit) for limit in info["limits"]]
        if len(limits) != len(truths):
            raise ValueError("not one limit for each input")
        steps = info.get("preprocess")
        images = Images(Preprocess.from_dict(steps) if steps else None, tuple(info.get("labels", ())))
        config, batches = DenseNetConfig.from_dict(info["config"]), remake(info["inputs"], arrays)
        oracle, rests_on = f"recorded: {info.get('oracle')}", str(info.get("rests_on", OUR_READING))
        own = [limit / FACTOR for limit in limits]
        return Truth(None, config, images, oracle, batches, truths, {}, own, limits, rests_on=rests_on)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableFile(f"{path}: not a recorded reference; write one with densenet verify --record") from error
