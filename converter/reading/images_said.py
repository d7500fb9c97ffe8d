"""What a file says of its images and classes: this tool's metadata, the network itself, what training left there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from converter.core.checkpoint import Checkpoint
from converter.core.metadata import json_or_none
from converter.core.model import Images
from converter.formats.keras.config import LOSS
from converter.reading import beside
from converter.reading.activation import Judged, activation_said, hint
from converter.reading.candidate import Candidate
from converter.reading.class_names import CALLED, class_names
from converter.reading.entries import Entry, entries
from converter.reading.thresholds import SCALED, thresholds_of
from densenet.config import DenseNetConfig


def images_said(
    checkpoint: Checkpoint, chosen: Candidate, config: DenseNetConfig, inside: Images
) -> tuple[Images, Mapping[str, str]]:
    """What is said; and notes on what is not, by the field of :class:`Images` that settles it.

    Args:
        checkpoint: the opened file.
        chosen: how it is read.
        config: its network.
        inside: what the network's own modules or graph say.

    Raises:
        ConverterError: what this tool recorded is damaged.
    """
    classes = config.num_classes
    said = beside.images_of(checkpoint, classes).or_else(inside)
    if not classes:
        return replace(said, activation=""), {}
    notes: dict[str, str] = {}
    texts = {key: json_or_none(text) for key, text in checkpoint.metadata.items() if re.search(CALLED, key)}
    graph = checkpoint.format.lower().startswith("onnx")  # nodes and tensors, thousands of them, and nothing else
    found = [*entries({} if graph else checkpoint.tree), *entries(texts)]
    if LOSS in checkpoint.metadata:
        found.append(Entry("the loss it was compiled with", "loss", checkpoint.metadata[LOSS]))
    if not said.labels:
        labels, notes["labels"] = class_names(found, classes)
        said = replace(said, labels=tuple(labels))
    if not said.thresholds and (thresholds := thresholds_of(chosen.group, classes)):
        said = replace(said, thresholds=thresholds, activation=said.activation or "sigmoid")
        notes["thresholds"] = SCALED
    if not said.activation:
        judged = beside.problem_type(checkpoint, classes) or activation_said(found, chosen.group.tensors, classes)
        if not judged.activation and not judged.note:
            judged = Judged("", hint(chosen, said.labels, classes, found))
        said, notes["activation"] = replace(said, activation=judged.activation), judged.note
    return said, {name: note for name, note in notes.items() if note}
