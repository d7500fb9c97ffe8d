"""What flows through PyTorch's graphs while they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Data:
    """A tensor that depends on the image.

    Attributes:
        name: of the value, as operators call it.
        rank: number of its dimensions, where it is known.
        storages: what it may share memory with.
    """

    name: str
    rank: int | None = None
    storages: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Unknown:
    """A value that no operator of a DenseNet depends on; ``why`` is what it could not be told from."""

    why: str = ""


@dataclass(frozen=True)
class Size:
    """The length of an axis; of all axes if ``axis`` is None."""

    name: str
    rank: int | None = None
    axis: int | None = None


UNKNOWN = Unknown()


def flattened(value: Any) -> Iterator[Any]:
    """The values in nested lists and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from flattened(item)
    else:
        yield value
