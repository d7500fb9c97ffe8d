"""Images of a set by their places, for who counts them: nothing is read until a name is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from converter.core.checkpoint import Array
from converter.use.sets.find import ImageSet


@dataclass(frozen=True)
class At:
    """One image of a set."""

    found: ImageSet
    place: int

    @property
    def name(self) -> str:
        """How results call it."""
        return self.found.record(self.place).name

    def __str__(self) -> str:
        return self.name


class Places(Sequence[Any]):
    """Images of a set: ``places`` are theirs, int (N,)."""

    def __init__(self, found: ImageSet, places: Array) -> None:
        self.found, self.places = found, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, i: int) -> At: ...
    @overload
    def __getitem__(self, i: slice) -> Places: ...
    def __getitem__(self, i: int | slice) -> At | Places:
        return Places(self.found, self.places[i]) if isinstance(i, slice) else At(self.found, int(self.places[i]))


def index_of(images: Sequence[Any]) -> Array:
    """The places of such images in their set."""
    return images.places if isinstance(images, Places) else np.array([image.place for image in images], np.int64)
