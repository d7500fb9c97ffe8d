"""What is this file?  Format, layout, wrappers, architecture, tensors, and how the verdict was reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from converter.checkpoint import Checkpoint
from converter.convert import model_of, read
from converter.formats import open_checkpoint
from converter.model import Model, hashing
from converter.recognise import Candidate
from converter.sources import resolve


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect` found.

    Attributes:
        model: the weights in the library layout, unread.
        checkpoint: the opened file.
        chosen: the reading that accounts for every tensor.
        tried: all readings tried.
    """

    model: Model
    checkpoint: Checkpoint
    chosen: Candidate
    tried: tuple[Candidate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; the tensors by library name."""
        model, config = self.model, self.model.config
        return {
            "source": model.source.name,
            "sha256": model.source.sha256,
            "size": sum(path.stat().st_size for path in self.checkpoint.files),
            "format": self.checkpoint.format,
            "layout": self.chosen.layout.name,
            "inside": self.chosen.group.path,
            "prefix": self.chosen.prefix,
            "architecture": config.name,
            "config": config.to_dict(),
            "parameters": config.parameters(),
            "flops": config.flops(self.size()) if config.spatial_dims == 2 else None,
            "dtypes": self.dtypes(),
            "notes": list(model.notes),
            "dropped": dict(model.dropped),
            "inert": list(self.checkpoint.inert),
            "metadata": dict(self.checkpoint.metadata),
            "preprocess": dict(model.preprocess) or None,
            "labels": list(model.labels) or None,
            "tried": [candidate_dict(candidate) for candidate in self.tried],
            "tensors": {
                name: {
                    "keys": list(self.chosen.used[name][1]) if name in self.chosen.used else [],
                    "dtype": str(tensor.dtype),
                    "shape": list(tensor.shape),
                }
                for name, tensor in model.tensors.items()
            },
        }

    def size(self) -> tuple[int, ...]:
        """Height and width FLOPs are given for: what images are cropped to, where that is recorded."""
        usual = 32 if self.model.config.stem == "cifar" else 224
        return tuple(self.model.preprocess.get("crop", (usual, usual)))

    def dtypes(self) -> dict[str, int]:
        """Number of values of each element type."""
        counts: dict[str, int] = {}
        for tensor in self.model.tensors.values():
            counts[str(tensor.dtype)] = counts.get(str(tensor.dtype), 0) + prod(tensor.shape)
        return counts


def candidate_dict(candidate: Candidate) -> dict[str, Any]:
    """One reading that was tried, as plain JSON values."""
    return {
        "layout": candidate.layout.name,
        "inside": candidate.group.path,
        "prefix": candidate.prefix,
        "accounted": candidate.accounted,
        "of": len(candidate.group.tensors),
        "fits": candidate.fits,
        "against": candidate.why_not(),
    }


def inspect(
    source: str | Path,
    *,
    layout: str | None = None,
    weights: str | None = None,
    drop: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Inspection:
    """Say what a checkpoint is, without reading its tensors.

    Args:
        source, layout, weights, drop, settings: as for :func:`converter.load`.

    Raises:
        UnreadableFile, UnsafeFile, NotADenseNet: as :func:`converter.load` does.
    """
    place = resolve(source)
    stated = {**place.settings, **(settings or {})}
    with hashing((place.path,)) as sha256:
        checkpoint = open_checkpoint(place.path)
        chosen, tried = read(checkpoint, layout=layout, weights=weights, drop=drop)
        model = model_of(checkpoint, chosen, place.name, stated, place.preprocess, sha256)
    return Inspection(model, checkpoint, chosen, tuple(tried))
