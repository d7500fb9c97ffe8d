"""What predict and evaluate would do with many images, and how long it would take, from some that are answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

from converter.core.errors import ConverterError
from converter.core.files import scratch
from converter.core.plan import MEASURED, Plan, about, counted, middles, several
from converter.use.evaluate import Asked
from converter.use.evaluation.exam import Marks
from converter.use.folder import Targets, question
from converter.use.in_order import workers
from converter.use.kept import MANY, Run, done_before, partial, run_over
from converter.use.named import of_files
from converter.use.network import More
from converter.use.predictor import Predictor
from converter.use.results import OfHead, results
from converter.use.rows import Rows, Session, session
from converter.use.sets.find import ImageSet
from converter.use.sets.listed import Listed
from converter.use.sets.record import Block, Part, Record
from converter.use.share import Share

BATCHES = 2
"""Batches that are answered of each block that is measured."""
PATIENCE = 20.0
"""Seconds after which no more are."""


@dataclass(frozen=True, kw_only=True)
class ImagePlan(Plan):
    """What a run would do.

    Attributes:
        asked: images of this run, of a share those of the share; ``done`` of them were answered before.
        blocks, batches: in which they are; ``batch`` is the size of these.
        threads: that work at once.
        share: which part of the set, as it was written.
        targets: what is written, and whether it is there already.
        kept: where those answered before are.
    """

    COUNTED: ClassVar[tuple[str, ...]] = ("files", "bytes", "images")

    asked: int
    done: int
    blocks: int
    batches: int
    batch: int
    threads: int
    share: str
    targets: Mapping[str, bool]
    kept: str = ""

    def lines(self) -> list[str]:
        """In words."""
        share = f" of shard {self.share}" if self.share else ""
        batches = f"{self.batches:,} batch{'' if self.batches == 1 else 'es'}"
        parts = f"{several(self.blocks, 'block')}, {batches} of {self.batch}"
        there = [f"{path}{', which is there already' * is_there}" for path, is_there in self.targets.items()]
        told = [
            f"{self.verb}: {several(self.asked, 'image')}{share} in {parts}",
            f"results go to {'; '.join(there)}" if there else "results are printed, and written nowhere",
        ]
        if self.done:
            told.append(f"{self.done:,} are answered already, in {self.kept}; {self.asked - self.done:,} are left")
        if self.done == self.asked:
            return [*told, "none is left to be computed"]
        threads = several(self.threads, "thread")
        return [*told, f"{about(self.seconds)} with {threads} (measured on {self.measured:,} of them)"]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        names = ("asked", "done", "blocks", "batches", "batch", "threads", "share")
        targets = [{"path": path, "there": there} for path, there in self.targets.items()]
        return {**super().to_dict(), **{name: getattr(self, name) for name in names}, "targets": targets}


def plan_prediction(predictor: Predictor, images: Sequence[Path] | ImageSet, targets: Targets) -> ImagePlan:
    """Say what :func:`converter.use.folder.classify` would do; what is written meanwhile is thrown away.

    Raises:
        ConverterError: the images cannot be read.
    """
    found = images if isinstance(images, ImageSet) else of_files(images)
    assert found is not None
    more: list[More] = ["features"] if targets.features is not None else []
    one = session(predictor, more)
    run, first = run_over(found, one, targets.share), targets.first if targets.cam is None else None
    doing = _Doing("predict", one, run, found, targets.share)
    with scratch() as folder:
        moved = [None if path is None else folder / path.name for path in (targets.table, targets.features)]
        with results(OfHead.every(predictor), *moved, force=True) as written:
            asked = question(predictor, found, more)
            drawn = ["what drawing pictures takes is not measured"] if targets.cam is not None else []
            notes = (*predictor.notes, *found.notes, *drawn)
            return doing.plan(first, asked, written.add, targets.written(), found.broken, notes)


def plan_evaluation(asked: Asked, reports: Sequence[Path], share: Share | None) -> ImagePlan:
    """Say what :func:`converter.use.evaluate.examined` would do, for these reports.

    Raises:
        ConverterError: the images cannot be read.
    """
    one = session(asked.model, upright=asked.model.preprocess.evaluated_upright)
    doing = _Doing("evaluate", one, run_over(asked.found, one, share), asked.found, share, asked.reduced)
    targets = [str(share.beside(reports[0]))] if share is not None and reports else list(map(str, reports))
    first, exam = next(iter(reports), None), asked.exam
    return doing.plan(first, asked.question(), Marks(exam).add, targets, dict(exam.missing), exam.notes)


@dataclass
class _Doing:
    """A run, of which some blocks are answered."""

    verb: str
    one: Session
    run: Run
    found: ImageSet
    share: Share | None
    made: Callable[[Rows], Rows] = lambda rows: rows
    failed: dict[str, str] = field(default_factory=dict)

    def plan(
        self,
        first: Path | None,
        asked: Mapping[str, Any],
        take: Callable[[Rows], None],
        targets: Sequence[str],
        failed: Mapping[str, str],
        notes: Sequence[str],
    ) -> ImagePlan:
        """See :class:`ImagePlan`.

        Args:
            first: beside what rows are kept; None where they are not.
            asked: what those depend on.
            take: is given the rows of blocks that are measured.
            targets: what is written.
            failed, notes: what is known without it.

        Raises:
            ConverterError: the only image cannot be read, which ends a run, too.
        """
        run, share = self.run, self.share
        many = first is not None and (share is not None or run.images > MANY)
        done = done_before(run, first, self.found, share, asked) if many and first is not None else set()
        left = [block for block in run.blocks if block.number not in done]
        images = sum(block.count for block in left)
        measured, seconds = self._measured(left, take)
        if run.images == len(self.failed) == 1:
            raise ConverterError(": ".join(*self.failed.items()))
        kept = "" if first is None else str(share.beside(first) if share else partial(first))
        return ImagePlan(
            verb=self.verb,
            kinds=_kinds(self.found),
            seconds=seconds / measured * images if measured else 0.0,
            measured=measured,
            failed={**failed, **self.failed},
            notes=notes,
            asked=run.images,
            done=run.images - images,
            blocks=len(run.blocks),
            batches=sum(-(-block.count // self.one.batch) for block in run.blocks),
            batch=self.one.batch,
            threads=workers(),
            share="" if share is None else str(share),
            targets={path: Path(path).exists() for path in targets},
            kept=kept,
        )

    def _measured(self, blocks: Sequence[Block], take: Callable[[Rows], None]) -> tuple[int, float]:
        """How many images were answered, of blocks that are evenly spread, and how many seconds of a run they are."""
        sought: list[float] = []
        chosen = [blocks[i] for i in middles(len(blocks), MEASURED)]
        pieces = [
            replace(block, count=min(block.count, BATCHES * self.one.batch), part=_Sought(block.part, sought))
            for block in (*chosen[::2], *chosen[1::2])  # who has no more patience has seen all of the set
        ]
        count, began = 0, perf_counter()
        for rows in map(self.made, self.one.rows(pieces)):
            take(rows)
            count += len(rows.names)
            self.failed |= {
                rows.names[place]: why.removeprefix(f"{rows.names[place]}: ") for place, why in rows.failed.items()
            }
            if perf_counter() - began > PATIENCE:
                break
        took, spent = perf_counter() - began, self.one.spent
        return count, max(took - sum(sought), (spent.preparing + spent.computing) / workers())


@dataclass(frozen=True)
class _Sought:
    """A part that tells how long it took to its first record: a run is there already, and a sample has to go there."""

    part: Part
    seconds: list[float]

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def count(self) -> int:
        return self.part.count

    def stamp(self) -> str:
        return self.part.stamp()

    def changed(self) -> bool:
        return self.part.changed()

    def portion(self, start: int, count: int) -> tuple[Part, int]:
        return self.part.portion(start, count)

    def records(self, start: int = 0) -> Iterator[Record]:
        began, records = perf_counter(), self.part.records(start)
        for record in records:
            self.seconds.append(perf_counter() - began)
            yield record
            break
        yield from records


def _kinds(found: ImageSet) -> dict[str, tuple[int, ...]]:
    """By ending: shards, or files of images."""
    if found.shards:
        shards = found.shards
        return counted(
            [shard.part.name for shard in shards],
            [shard.bytes for shard in shards],
            [shard.part.count for shard in shards],
        )
    paths = [path for part in found.parts if isinstance(part, Listed) for path in part.paths]
    return counted(list(map(str, paths)), list(map(_size, paths)), [1] * len(paths))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # which is said when it is read
        return 0
