"""What a description beside the weights says."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from converter.structures.front import Front


class Stated(NamedTuple):
    """What a description beside the weights says; the weights are taken by their names.

    Attributes:
        settings: config fields that no tensor shows.
        notes: what people should know.
        front: what is done to images before the first convolution.
        activation: what comes behind the logits: ``softmax``, ``sigmoid``, something else, or nothing.
    """

    settings: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()
    front: Front = Front()
    activation: str = ""
