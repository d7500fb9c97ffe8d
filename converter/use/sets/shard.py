"""What is found out of a shard before its images are read."""

from dataclasses import dataclass, field

import numpy as np

from converter.core.checkpoint import Array
from converter.use.sets.record import Part


@dataclass(frozen=True)
class Shard:
    """A shard as it was found.

    Attributes:
        part: what reads its records.
        columns: what is written of each record, by the name of its column, an empty one for the only class of each.
        keys: a number for each record's key, which equal keys have in common; none where there are no keys.
        names: of classes that numbers stand for, also those without images.
        broken: why it could not be gone through to its end.
        bytes: its size.
    """

    part: Part
    columns: dict[str, list[str]]
    keys: Array = field(default_factory=lambda: np.empty(0, np.uint64))
    names: tuple[str, ...] = ()
    broken: str = ""
    bytes: int = 0
