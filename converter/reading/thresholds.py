"""Operating thresholds: from which probability on a class is taken to be there (torchxrayvision)."""

from __future__ import annotations

from math import isfinite
from typing import Any

from converter.core.checkpoint import Tensor
from converter.core.metadata import json_or_none
from converter.reading.wrappers import Group

OP_THRESHS = "op_threshs"
"""torchxrayvision's name, of a buffer or an attribute (torchxrayvision/models.py, DenseNet)."""
SCALED = (
    "the source scales the probabilities behind its Sigmoid so that every operating threshold becomes 0.5 "
    "(torchxrayvision's op_norm), which is left out: probabilities are the Sigmoid's own, and the thresholds are kept"
)


def thresholds_of(group: Group, classes: int) -> tuple[float | None, ...]:
    """A group's operating thresholds, None for a class without; empty if there are not as many as classes."""
    found: list[Any] = [tensor for key, tensor in group.tensors.items() if key.rpartition(".")[2] == OP_THRESHS]
    found += [values[OP_THRESHS] for values in group.attributes.values() if values.get(OP_THRESHS) is not None]
    for value in found:
        if isinstance(value, Tensor):
            array = value.read().reshape(-1) if max(value.shape, default=0) == classes else ()
            numbers = [float(str(number)) for number in array]  # float32's 0.1, not 0.10000000149011612
        else:
            numbers = list(value) if isinstance(value, list | tuple) else []
        if numbers and len(numbers) == classes:
            return as_thresholds(numbers)
    return ()


def recorded_thresholds(text: str, classes: int) -> tuple[float | None, ...]:
    """What this tool recorded; empty if it is damaged, or of another network."""
    values = json_or_none(text)
    return as_thresholds(values) if isinstance(values, list) and len(values) == classes else ()


def as_thresholds(numbers: list[Any]) -> tuple[float | None, ...]:
    """Numbers as thresholds: what is no finite number is none; empty if nothing is."""
    kept = tuple(
        float(n) if isinstance(n, int | float) and not isinstance(n, bool) and isfinite(n) else None for n in numbers
    )
    return kept if any(n is not None for n in kept) else ()
