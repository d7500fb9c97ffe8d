"""Recorded references: the oracle's logits in a file, for machines without PyTorch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import UnreadableFile
from converter.core.metadata import SOURCE_KEY, to_json
from converter.core.model import Images, Model
from converter.core.version import __version__
from converter.formats import open_checkpoint
from converter.formats.npz import write_npz
from converter.parity.verdict import OUR_READING
from converter.use.inputs import Batch, remake
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess

RECORD = "densenet-converter recorded reference"
VERSION = 2


@dataclass(frozen=True)
class Recorded:
    """What a recorded reference says: its network, its oracle, inputs with the oracle's logits and their limits.

    ``rests_on`` is as in a :class:`converter.Verification`.
    """

    config: DenseNetConfig
    images: Images
    oracle: str
    batches: list[Batch]
    truths: list[Array]
    limits: list[float]
    rests_on: str = OUR_READING


def write_record(
    path: Path,
    model: Model,
    batches: Sequence[Batch],
    truths: Sequence[Array],
    limits: Sequence[float],
    rests_on: str = OUR_READING,
) -> None:
    """Write a reference: the oracle's logits, the permitted error of each input, and how to make the inputs again.

    Synthetic inputs are stored as seeds, real images as they are; inputs of graphs that take 8-bit images are not.

    Raises:
        CannotWrite: the folder is missing, not writable or full.
    """
    kept = [i for i, batch in enumerate(batches) if batch.pixels is None]
    batches, truths = [batches[i] for i in kept], [truths[i] for i in kept]
    steps = model.images.preprocess
    info = {
        "kind": RECORD,
        "version": VERSION,
        "tool": __version__,
        "oracle": "PyTorch float64",
        "rests_on": rests_on,
        "limits": [limits[i] for i in kept],
        "source": model.metadata()[SOURCE_KEY],
        "config": model.config.to_dict(),
        "preprocess": steps.to_dict() if steps else {},
        "labels": list(model.images.labels),
        "inputs": [batch.spec() for batch in batches],
    }
    arrays = {"record": np.frombuffer(to_json(info).encode(), np.uint8)}
    for i, (batch, truth) in enumerate(zip(batches, truths)):
        arrays[f"logits_{i}"] = truth.astype(np.float64)
        if batch.seed is None:
            arrays[f"input_{i}"] = batch.array
    write_npz(path, {name: Tensor.of(array) for name, array in arrays.items()})


def read_record(path: Path) -> Recorded:
    """The inverse of :func:`write_record`.

    Raises:
        UnreadableFile: it is no record.
    """
    tree = open_checkpoint(path).tree
    try:
        info = json.loads(tree["record"].read().tobytes())
        if info["kind"] != RECORD:
            raise ValueError("another kind of file")
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
        return Recorded(config, images, oracle, batches, truths, limits, rests_on)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableFile(f"{path}: not a recorded reference; write one with densenet verify --record") from error
