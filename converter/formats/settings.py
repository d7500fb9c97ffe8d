"""Settings of a network that its layers state one by one, where they have to say the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from converter.core.errors import NotADenseNet, UnreadableFile


def agreed(sayings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """What layers say of config fields, by name.

    Raises:
        NotADenseNet: they contradict each other.  It does not know the file's name.
    """
    result: dict[str, Any] = {}
    for name, value in sayings:
        if result.setdefault(name, value) != value:
            raise NotADenseNet(f"its layers have different {name}, {result[name]} and {value}")
    return result


def one_eps(found: set[float]) -> dict[str, float]:
    """The eps of all batch norms, as a config field if there are any.

    Raises:
        UnreadableFile: they have several.  It does not know the file's name.
    """
    values = sorted(found)
    if len(values) > 1:
        raise UnreadableFile(f"its batch norms have different eps: {', '.join(map(str, values))}")
    return {"eps": values[0]} if values else {}


def as_written(value: Any) -> float:
    """A float32 as the shortest number that is nearest to it, which is what people wrote."""
    return float(str(np.float32(value)))
