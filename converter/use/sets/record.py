"""What every reader of a set of images gives: records, in parts that are read by themselves, in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from converter.core.errors import ConverterError
from densenet.volumes import Encoded

BLOCK = 64
"""Records of a block, about."""


@dataclass(frozen=True)
class Record:
    """One image of a set.

    Attributes:
        name: how results and errors call it: its path, or its shard and its key there; once in a set.
        image: its file, which may be in memory.
        failed: why there is none, beginning with the name.
    """

    name: str
    image: Path | Encoded
    failed: str = ""


class Part(Protocol):
    """Some records of a set that are read by themselves: a shard, or files of a list.  It can be pickled, and is small.

    Attributes:
        name: how errors call it.
        count: how many records it has.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def count(self) -> int: ...  # noqa: D102

    def stamp(self) -> str:
        """What is another once the part is changed: it can be told without reading it."""

    def changed(self) -> bool:
        """Whether it is another than when it was gone through, so that what was found then is of other images."""

    def portion(self, start: int, count: int) -> tuple[Part, int]:
        """A part that holds at least these records, and where they begin in it."""

    def records(self, start: int = 0) -> Iterator[Record]:
        """Its records from a place on.

        Raises:
            ConverterError: it cannot be read; of what is damaged inside, records say so.
        """


@dataclass(frozen=True)
class Block:
    """Records that are worked on together.  It can be pickled: whoever has it and the files can read it.

    Attributes:
        number: its place in the set, from 0.
        first: the place of its first record in the set.
        count: how many records it has.
        part: what they are read from, from the record ``start`` on.
    """

    number: int
    first: int
    count: int
    part: Part
    start: int

    def stamp(self, part: str = "") -> str:
        """What is another once it has other records, or these are changed; the part's is asked for unless given."""
        return f"{part or self.part.stamp()} {self.start} {self.count}"

    def records(self) -> list[Record]:
        """Its records.

        Raises:
            ConverterError: they cannot be read, or are fewer than there were.
        """
        return taken(self.part.records(self.start), self)


def stamps(blocks: Iterable[Block]) -> Iterator[str]:
    """The stamp of each block; a part that several in a row are of is asked once: it may be far away."""
    before, said = None, ""
    for block in blocks:
        if block.part is not before:
            before, said = block.part, block.part.stamp()
        yield block.stamp(said)


def taken(records: Iterator[Record], block: Block) -> list[Record]:
    """The next records, which are a block's.

    Raises:
        ConverterError: there are fewer.
    """
    found = list(islice(records, block.count))
    if len(found) < block.count:
        raise ConverterError(f"{block.part.name}: has fewer images than when it was opened; was it changed?")
    return found


def blocks_of(parts: Sequence[Part], size: int = BLOCK) -> Iterator[Block]:
    """The blocks of a set, in order; none goes beyond its part, and all of a part but the last have ``size`` records.

    What a block holds depends on the part and ``size`` alone, whoever asks.
    """
    number = first = 0
    for part in parts:
        for start in range(0, part.count, size):
            count = min(size, part.count - start)
            yield Block(number, first, count, *part.portion(start, count))
            number, first = number + 1, first + count


def stream(blocks: Iterable[Block]) -> Iterator[tuple[Block, list[Record]]]:
    """Blocks with their records; a part that several in a row are of is opened once.

    Raises:
        ConverterError: a part cannot be read.
    """
    before: Block | None = None
    records: Iterator[Record] = iter(())
    for block in blocks:
        goes_on = before is not None and before.part is block.part and before.start + before.count == block.start
        if not goes_on:
            records = block.part.records(block.start)
        before = block
        yield block, taken(records, block)
