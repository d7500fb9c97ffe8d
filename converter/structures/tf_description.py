"""TensorFlow's graphs as the formats describe them (``converter/formats/tensorflow/graph.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from converter.core.checkpoint import Tensor

Shape = tuple[int | None, ...] | None
"""Unknown sizes as None; None if not even the rank is known."""


class Node(Protocol):
    """One operator, its attributes by name; those that are absent have the default."""

    name: str
    op: str
    inputs: tuple[str, ...]

    def as_op(self, op: str) -> Node:
        """The node with another operator."""

    def number(self, name: str, default: int = 0) -> int:
        """An integer, a truth value or a type's code."""

    def real(self, name: str, default: float) -> float:
        """A float."""

    def text(self, name: str, default: str = "") -> str:
        """Text."""

    def ints(self, name: str) -> list[int]:
        """A list of integers."""

    def strings(self, name: str) -> list[str]:
        """A list of texts."""

    def shape(self, name: str) -> Shape:
        """A shape."""

    def tensor(self, name: str) -> Tensor | None:
        """A tensor of numbers."""

    def texts(self, name: str) -> list[str]:
        """A tensor of texts."""

    def function(self, name: str) -> str:
        """The name of a function."""


class Function(Protocol):
    """What can be called: arguments, nodes by name, and the values that are its results."""

    arguments: tuple[str, ...]
    nodes: Mapping[str, Node]
    results: tuple[str, ...]


class Signature(Protocol):
    """What a SavedModel offers to be called: values by what callers call them."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    shapes: Mapping[str, Shape]


class Graph(Protocol):
    """A graph and what belongs to it; variables by their keys in the checkpoint, with what reports call them."""

    nodes: Mapping[str, Node]
    signatures: Mapping[str, Signature]
    restore: str
    variables: Mapping[str, tuple[str, Tensor]]

    def function(self, name: str) -> Function | None:
        """A function by its name; None if there is none."""
