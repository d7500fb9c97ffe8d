"""Rows of a set that are kept as they come, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from converter.core.errors import CannotWrite, UnreadableFile
from converter.core.version import __version__
from converter.use.journal import KIND, Header, Journal, is_ours, journal, not_ours, read_journal
from converter.use.predictor import Predictor
from converter.use.rows import Rows, Session
from converter.use.sets.find import ImageSet
from converter.use.sets.listed import Listed
from converter.use.sets.record import Block, stamps
from converter.use.share import Share

MANY = 512
"""Images beyond which a run is worth going on with."""


@dataclass
class Run:
    """A run over a set, or over a share of it.

    Attributes:
        blocks: what there is to do; ``whole`` how many the set has.
        kept: where rows are kept; None where they are not.
        again: images whose rows were there already.
    """

    blocks: Sequence[Block]
    whole: int
    kept: Journal | None = None
    again: int = 0

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(block.count for block in self.blocks)

    def _in_turn(self) -> Iterator[tuple[Block, Block | None]]:
        """Each block, and the one after it."""
        return zip_longest(self.blocks, self.blocks[1:])

    def said(self) -> list[str]:
        """A note where some were there."""
        return [f"{self.again} of {self.images} images were done before"] if self.again else []

    def rows(self, session: Session, made: Callable[[Rows], Rows] = lambda rows: rows) -> Iterator[Rows]:
        """All rows in order: those that are kept, and what is made of what the network says of the others.

        Raises:
            ConverterError: a part cannot be read, or the disk is full.
        """
        if self.kept is None:
            for (block, following), rows in zip(self._in_turn(), session.rows(self.blocks), strict=True):
                _check_same(block, following)
                yield made(rows)
            return
        told = list(stamps(self.blocks))
        done = [self.kept.has(block.number, stamp) for block, stamp in zip(self.blocks, told)]
        self.again = sum(block.count for block, there in zip(self.blocks, done) if there)
        computed = session.rows(block for block, there in zip(self.blocks, done) if not there)
        for (block, following), stamp, there in zip(self._in_turn(), told, done):
            rows = self.kept.rows(block.number) if there else made(next(computed))
            _check_same(block, following)
            if not there:
                self.kept.add(rows, stamp)
            yield rows


def _check_same(block: Block, following: Block | None) -> None:
    """Refuse rows of a part that was changed since it was gone through; asked once a part, which may be far away.

    Raises:
        UnreadableFile: it was.
    """
    ends = following is None or following.part is not block.part
    if ends and block.part.changed():
        raise UnreadableFile(f"{block.part.name}: changed while it was read")


def run_over(found: ImageSet, session: Session, share: Share | None) -> Run:
    """A run over a set, or over a share of it."""
    blocks = list(found.blocks(session.block))
    return Run(blocks if share is None else share.of(blocks), len(blocks))


@contextmanager
def keeping(run: Run, target: Path, found: ImageSet, share: Share | None, asked: Mapping[str, Any]) -> Iterator[Run]:
    """A run whose rows are kept in a file beside its target, and stay there if it is stopped, or of a share.

    Args:
        run, found, share: as for :func:`run_over`.
        target: what is made of the rows.
        asked: what they depend on, and what is needed to make it of them.

    Raises:
        CannotWrite: it cannot be written, another run writes it, or it is another file.
    """
    with journal(*_kept_in(run, target, found, share, asked)) as kept:
        run.kept = kept
        yield run
        if share is not None:
            kept.close()


def done_before(
    run: Run, target: Path, found: ImageSet, share: Share | None, asked: Mapping[str, Any]
) -> frozenset[int]:
    """The blocks of a run whose rows are kept, by their numbers; nothing is written.  Arguments as before.

    Raises:
        CannotWrite: it is another file.
    """
    path, header = _kept_in(run, target, found, share, asked)
    if not path.exists():
        return frozenset()
    if not is_ours(path):
        raise CannotWrite(not_ours(path))
    with read_journal(path) as kept:
        same = kept.header == json.loads(json.dumps(header))
        told = zip(run.blocks, stamps(run.blocks)) if same else ()
        return frozenset(block.number for block, stamp in told if kept.has(block.number, stamp))


def _kept_in(
    run: Run, target: Path, found: ImageSet, share: Share | None, asked: Mapping[str, Any]
) -> tuple[Path, Header]:
    """Where rows are kept, and the file's header."""
    own = {"share": [share.number, share.count], "set": names_of(found), "blocks": run.whole} if share else {}
    return share.beside(target) if share else partial(target), {"kind": KIND, "version": __version__, **own, **asked}


def partial(target: Path) -> Path:
    """Where a run's rows are kept until its result is there: ``a.csv.partial`` for ``a.csv``."""
    return target.with_name(f"{target.name}.partial")


def over(target: Path) -> None:
    """Remove what was kept for a result that is there."""
    if is_ours(partial(target)):
        partial(target).unlink(missing_ok=True)


def identity(predictor: Predictor, more: Sequence[str] = (), **other: Any) -> str:
    """What is another once rows would be: the network, how images are prepared, and what is asked for."""
    said = [
        predictor.preprocess.to_dict(),
        predictor.takes_pixels,
        predictor.resized,
        predictor.fixed,
        predictor.batch,
        list(more),
        other,
    ]
    text = json.dumps([predictor.network.identity(), said], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def names_of(found: ImageSet) -> str:
    """What is another once a set has other parts: of shards names, counts and sizes, else of files names and sizes.

    Not when they were changed: machines that have a copy each need not agree about that.
    """
    told = hashlib.sha256(json.dumps([[part.name, part.count] for part in found.parts]).encode())
    told.update(json.dumps([shard.bytes for shard in found.shards]).encode())
    for part in found.parts:
        if isinstance(part, Listed):
            told.update(part.sizes().encode())
    return told.hexdigest()
