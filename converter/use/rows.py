"""What a network says of a block of images: a pure function of both, on whatever machine it is called.

A block is a whole number of batches, in which its images are taken as they come.  Which images share a batch, and so
every bit of the result, depends on the block alone: not on what came before it, nor on how many work beside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from time import perf_counter

import numpy as np

from converter.core.checkpoint import Array
from converter.engines.run import Outputs
from converter.use.answers import Answer, Prepare, answered
from converter.use.in_order import cores, in_order, workers
from converter.use.network import More
from converter.use.predictor import Predictor
from converter.use.sets.record import BLOCK, Block, Record, stream
from densenet.depth import Say
from densenet.pixels import ImageSource


@dataclass(frozen=True)
class Rows:
    """What became of a block.  It can be pickled.

    Attributes:
        block: the block's number; ``first`` the place of its first image in the set.
        names: of all its images, in order.
        places: of those that have an answer, in the block.
        outputs: of these the logits (answered, classes), and what else was asked for.
        failed: by place, why others have none, each line beginning with the name.
        said: how images were read, where that was a choice, and of how many.
    """

    block: int
    first: int
    names: tuple[str, ...]
    places: tuple[int, ...]
    outputs: tuple[Array, ...]
    failed: dict[int, str] = field(default_factory=dict)
    said: dict[str, int] = field(default_factory=dict)


@dataclass
class Spent:
    """Seconds of all threads together: reading shards, decoding and preprocessing, and in the network."""

    reading: float = 0.0
    preparing: float = 0.0
    computing: float = 0.0
    turn: Lock = field(default_factory=Lock)

    def add(self, **seconds: float) -> None:
        """Count some more."""
        with self.turn:
            for name, value in seconds.items():
                setattr(self, name, getattr(self, name) + value)

    def line(self) -> str:
        """What takes most, in words; empty where nothing was measured."""
        parts = {"reading": self.reading, "decoding": self.preparing, "the network": self.computing}
        total = sum(parts.values())
        if not total:
            return ""
        most = max(parts, key=lambda name: parts[name])
        shares = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in parts.items())
        return f"the bottleneck is {most}: of the time of {workers()} threads {shares}"


@dataclass(frozen=True)
class Session:
    """A network that is ready to be asked; not to be pickled: each process starts its own.

    Attributes:
        run: the engine, which several threads may call at once.
        prepare: see :data:`converter.use.answers.Prepare`, with somebody to tell how an image was read.
        batch: how many images it is given at once, at most.
    """

    run: Outputs
    prepare: Callable[[ImageSource, Say], Array]
    batch: int
    spent: Spent = field(default_factory=Spent)

    @property
    def block(self) -> int:
        """How many images its blocks have: ``BLOCK``, or what is near it and a whole number of batches."""
        return self.batch * max(1, BLOCK // self.batch)

    def rows(self, blocks: Iterable[Block]) -> Iterator[Rows]:
        """See :func:`all_rows`."""
        return all_rows(self, blocks)

    def said(self) -> list[str]:
        """What people should know of how it went, once all is done."""
        return list(filter(None, [self.spent.line()]))


Start = Callable[..., Session]
"""What starts a network: :func:`session`, or something in its place with the same arguments."""


def session(
    predictor: Predictor, more: Sequence[More] = (), *, upright: bool = True, threads: int | None = None
) -> Session:
    """Start a network.

    Args:
        predictor: which, and how its images are prepared.
        more: what else than logits is asked for.
        upright: turn images as their EXIF orientation says.
        threads: at work in one operator; by default as many as leave each core to one that goes through images.
    """
    count = cores() - workers() + 1 if threads is None else threads

    def prepare(image: ImageSource, say: Say) -> Array:
        return predictor.prepare(image, say, upright=upright)

    return Session(predictor.network.start(more, count), prepare, predictor.batch)


def rows_of(session: Session, block: Block) -> Rows:
    """What a network says of a block, in this thread.

    Raises:
        ConverterError: its part cannot be read.
    """
    records = block.records()
    pieces = [records[i : i + session.batch] for i in range(0, len(records), session.batch)]
    return _joined(block, records, [_batch(session, piece, i * session.batch) for i, piece in enumerate(pieces)])


def all_rows(session: Session, blocks: Iterable[Block]) -> Iterator[Rows]:
    """The same of many blocks, in their order, by as many threads as there are cores; memory holds a few batches.

    While batches are decoded and computed, the next are read.

    Raises:
        ConverterError: a part cannot be read.
    """
    records: dict[int, list[Record]] = {}

    def pieces() -> Iterator[tuple[Block, int, list[Record]]]:
        source = stream(blocks)
        while True:
            began = perf_counter()
            block, found = next(source, (None, []))
            session.spent.add(reading=perf_counter() - began)
            if block is None:
                return
            records[block.number] = found
            for at in range(0, len(found), session.batch):
                yield block, at, found[at : at + session.batch]

    def work(piece: Sequence[tuple[Block, int, list[Record]]]) -> tuple[Block, _Done]:
        ((block, at, some),) = piece
        return block, _batch(session, some, at)

    waiting: list[_Done] = []
    for block, done in in_order(work, pieces(), 1):
        waiting.append(done)
        if sum(len(each.answers) for each in waiting) == block.count:
            yield _joined(block, records.pop(block.number), waiting)
            waiting = []


@dataclass(frozen=True)
class _Done:
    answers: list[Answer]
    said: Counter[str]


def _batch(session: Session, records: Sequence[Record], at: int) -> _Done:
    """What becomes of some records of a block, the first of which has this place in it."""
    said: Counter[str] = Counter()
    asked = [Answer(at + i, record.image, failed=record.failed) for i, record in enumerate(records)]
    preparing = [0.0]

    def say(line: str) -> None:
        said[line] += 1

    prepare: Prepare = partial(_timed, preparing, session.prepare, say)
    began = perf_counter()
    found = answered(asked, prepare, session.run)
    session.spent.add(preparing=preparing[0], computing=perf_counter() - began - preparing[0])
    return _Done(found, said)


def _timed(seconds: list[float], prepare: Callable[[ImageSource, Say], Array], say: Say, image: ImageSource) -> Array:
    began = perf_counter()
    try:
        return prepare(image, say)
    finally:
        seconds[0] += perf_counter() - began


def _joined(block: Block, records: Sequence[Record], done: Sequence[_Done]) -> Rows:
    answers = [answer for each in done for answer in each.answers]
    good = [answer for answer in answers if not answer.failed]
    said: Counter[str] = sum((each.said for each in done), Counter())
    return Rows(
        block.number,
        block.first,
        tuple(record.name for record in records),
        tuple(answer.place for answer in good),
        tuple(np.stack(values) for values in zip(*(answer.outputs for answer in good))),
        {answer.place: answer.failed for answer in answers if answer.failed},
        dict(said),
    )
