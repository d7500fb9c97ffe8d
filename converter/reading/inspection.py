"""What a file turned out to be: format, layout, wrappers, architecture, tensors, and how the verdict was reached."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from converter.core.checkpoint import Checkpoint
from converter.core.dtypes import name_of
from converter.core.model import Images, Model
from converter.core.notebook import html_table
from converter.reading.candidate import Candidate
from converter.reading.contents import contents_of


def _of_head(said: Images) -> dict[str, Any]:
    """What is said of the classes of one of several heads."""
    labels, thresholds = list(said.labels) or None, list(said.thresholds) or None
    return {"activation": said.activation or None, "labels": labels, "thresholds": thresholds}


@dataclass(frozen=True)
class Inspection:
    """What :func:`converter.inspect` found.

    Attributes:
        model: the weights in the library layout, unread.
        checkpoint: the opened file.
        chosen: the reading that accounts for every tensor.
        tried: all readings tried.
        size_of_files: bytes of the files read; None of what is in memory.
    """

    model: Model
    checkpoint: Checkpoint
    chosen: Candidate
    tried: tuple[Candidate, ...]
    size_of_files: int | None = None

    def __repr__(self) -> str:
        return f"Inspection({self.model!r})"

    def _repr_html_(self) -> str:
        model = self.model
        dtypes = ", ".join(f"{name} ({count:,})" for name, count in self.dtypes().items())
        size = f"{self.size_of_files:,} bytes" if self.size_of_files is not None else ""
        rows = [*model.facts(), ("inside", self.chosen.group.path), ("size", size), ("values", dtypes)]
        return html_table(model.origin.name, rows, notes=model.notes)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; the tensors by library name."""
        model, config, images = self.model, self.model.config, self.model.images
        return {
            "source": model.origin.name,
            "sha256": model.origin.sha256,
            "size": self.size_of_files,
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
            "preprocess": images.preprocess.to_dict() if images.preprocess else None,
            "labels": list(images.labels) or None,
            "activation": images.activation or None,
            "thresholds": list(images.thresholds) or None,
            **({"heads": {head.name: _of_head(images.of(head.name)) for head in config.heads}} if config.heads else {}),
            "contents": contents_of(self.checkpoint.tree),
            "tried": [candidate.to_dict() for candidate in self.tried],
            "tensors": {
                name: {
                    "keys": self._keys(name),
                    "dtype": name_of(tensor.dtype),
                    "shape": list(tensor.shape),
                }
                for name, tensor in model.tensors.items()
            },
        }

    def _keys(self, name: str) -> list[str]:
        """What the file calls the arrays a tensor is made of."""
        keys = self.chosen.used[name].keys if name in self.chosen.used else ()
        return [source for key in keys for source in self.chosen.group.names(key)]

    def size(self) -> tuple[int, int]:
        """Height and width FLOPs are given for: what images are cropped to, where that is recorded."""
        steps, usual = self.model.images.preprocess, self.model.config.usual_size
        return steps.size if steps and not steps.of_volumes else (usual, usual)

    def dtypes(self) -> dict[str, int]:
        """Number of values of each element type."""
        counts: dict[str, int] = {}
        for tensor in self.model.tensors.values():
            name = name_of(tensor.dtype)
            counts[name] = counts.get(name, 0) + prod(tensor.shape)
        return counts
