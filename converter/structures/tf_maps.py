"""What is known of each value of a TensorFlow graph: its shape, and where its channels lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from converter.structures.ops import Kind, Op
from converter.structures.tf_calls import Step
from converter.structures.tf_constants import Constants
from converter.structures.tf_description import Shape
from converter.structures.tf_elementwise import elementwise
from converter.structures.tf_fused import unfused

JOINING = ("ConcatV2", "Concat", "Add", "AddV2", "AddN")
"""Nodes that may take several feature maps."""


@dataclass(frozen=True)
class Maps:
    """What is known of a value.

    Attributes:
        shape: as TensorFlow has it, unknown sizes as None; None if not even the rank is known.
        last: whether its channels are the last axis, and not the second.
        pooled: whether it is one vector for each image, however many axes it has.
    """

    shape: Shape
    last: bool = True
    pooled: bool = False

    @property
    def rank(self) -> int:
        """Number of axes; 4 where nothing is known."""
        return 4 if self.shape is None else len(self.shape)

    @property
    def axis(self) -> int:
        """Where the channels lie."""
        return self.rank - 1 if self.last else 1

    @property
    def spatial(self) -> tuple[int, ...]:
        """The axes that are neither images nor channels."""
        return tuple(i for i in range(1, self.rank) if i != self.axis)

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """Along those."""
        return tuple(self.shape[i] if self.shape is not None else None for i in self.spatial)

    @property
    def channels(self) -> int | None:
        """How many there are, if it is known."""
        return self.shape[self.axis] if self.shape is not None else None

    def resized(self, sizes: Iterable[int | None], channels: int | None) -> Maps:
        """With other maps."""
        batch = None if self.shape is None else self.shape[0]
        inner = tuple(sizes)
        return replace(self, shape=(batch, *inner, channels) if self.last else (batch, channels, *inner))


@dataclass
class Network:
    """The operators of a graph, one node after the other."""

    constants: Constants
    start: str
    image: Maps
    readers: Mapping[str, Reader]
    ops: list[Op] = field(default_factory=list)
    maps: dict[str, Maps] = field(default_factory=dict)

    def read(self, steps: Iterable[Step]) -> None:
        """Translate nodes, each behind those it takes from.

        Raises:
            NotADenseNet: one takes its channels where they are not, or trains.
        """
        image = self.image
        self.maps[self.start] = replace(image, shape=(None,) * 4) if image.shape is None else image
        for step in (part for each in steps for part in unfused(each)):
            if step.y == self.start or self.constants.take(step):
                continue
            data = tuple(name for name in step.x if name not in self.constants.values)
            known = [self.maps[name] for name in data if name in self.maps]
            if not known:
                continue  # made of neither constants nor the image: refused where something takes it
            self.step(step, data, known)

    def step(self, step: Step, data: tuple[str, ...], known: list[Maps]) -> None:
        """Translate one node."""
        kind = step.node.op
        if kind == "Shape" and known[0].shape is not None:
            self.constants.size(step, known[0].shape)
            return
        reader = self.readers.get(kind)
        plain = len(known) == len(data) and (kind in JOINING or len(data) == 1)
        found = reader(self, step, known[0]) if reader is not None and plain else None
        compute = elementwise(step, self.constants) if found is None and _alike(known, data) else None
        if compute is not None:
            found = Op("other", data, step.y, str(step), compute=compute), known[0]
        if found is None:
            for i in range(4):  # whichever of its outputs is taken
                y = f"{step.y}:{i}" if i else step.y
                self.ops.append(Op("other", data, y, str(step)))
                self.maps[y] = Maps(None, known[0].last)
            return
        op, self.maps[step.y] = found
        if op is not None:
            self.ops.append(op)


def _alike(known: Sequence[Maps], data: Sequence[str]) -> bool:
    """Whether all that a node takes is known, and of one shape."""
    return len(known) == len(data) and all(each == known[0] for each in known)


Found = tuple[Op | None, Maps] | None
Reader = Callable[[Network, Step, Maps], Found]


def op_of(kind: Kind, step: Step, x: str, **more: Any) -> Op:
    """A node as an operator that takes one value."""
    return Op(kind, (x,), step.y, str(step), **more)


def plain(kind: Kind) -> Reader:
    """A reader of nodes that leave shapes as they are, and need no look at their attributes."""
    return lambda network, step, maps: (op_of(kind, step, step.x[0]), maps)
