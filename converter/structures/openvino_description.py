"""OpenVINO's networks as the format describes them (``converter/formats/openvino.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from converter.core.checkpoint import Tensor


class Port(Protocol):
    """An input or output of a layer, by its number: element type and sizes, -1 where one is not fixed."""

    number: int
    precision: str
    sizes: list[int]


class Layer(Protocol):
    """One operator; attributes and sizes as text, constants flat but for those of a Const."""

    name: str
    type: str
    opset: str
    element: str
    attributes: dict[str, str]
    constants: dict[str, Tensor | None]

    @property
    def inputs(self) -> Sequence[Port]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[Port]:
        """What it gives."""


class Description(Protocol):
    """What the XML says."""

    version: int
    edges: list[tuple[int, int, int, int]]
    means: list[float] | None
    calibrated: bool

    @property
    def layers(self) -> Mapping[int, Layer]:
        """By their numbers."""
