"""What a network is asked about many images, and figures of its answers, which come block by block.

A block's rows are reduced to what figures need of them.  Figures are made of all reduced rows, in the order of the
images, so that they are the same to the last bit whoever answered which block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.use.activation import FUNCTIONS, activated
from converter.use.evaluation.choice import TOP, choice
from converter.use.evaluation.findings import THRESHOLD, findings
from converter.use.evaluation.hints import hints
from converter.use.evaluation.result import Evaluation, Mistake
from converter.use.evaluation.task import Task
from converter.use.predictor import Predictor
from converter.use.rows import Rows

SHOWN = 20
"""Mistakes that are named."""


@dataclass(frozen=True)
class Exam:
    """Everything about an evaluation but the images: plain values, which files of rows keep.

    Attributes:
        model, engine, dataset, how, activation: as in an :class:`Evaluation`.
        names, outputs: as in a :class:`Task`.
        thresholds: from which probability on each label counts as there; of one class each none.
        one_class_each: whether the classes exclude each other.
        written: what the truths call an output, by its number.
        notes: what was assumed.
        missing: images that are not there, and shards that break off, and why.
    """

    model: str
    engine: str
    dataset: str
    how: str
    activation: str
    names: tuple[str, ...]
    outputs: tuple[int, ...]
    thresholds: tuple[float, ...]
    one_class_each: bool
    written: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, predictor: Predictor, task: Task, missing: Mapping[str, str], **called: str) -> Exam:
        """That of a network and its truths; ``called`` are model, engine and dataset."""
        recorded = predictor.thresholds or [None] * (max(task.outputs) + 1)
        thresholds = [THRESHOLD if (own := recorded[i]) is None else own for i in task.outputs]
        return cls(
            called["model"],
            called["engine"],
            called["dataset"],
            task.how,
            predictor.activation,
            tuple(task.names),
            task.outputs,
            () if task.one_class_each else tuple(thresholds),
            task.one_class_each,
            tuple(task.written.items()),
            (*predictor.notes, *task.notes),
            tuple(missing.items()),
        )

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Exam:
        """The one that :meth:`to_dict` made this of.

        Raises:
            LookupError, TypeError, ValueError: none did.
        """

        def plain(value: Any) -> Any:
            return tuple(map(plain, value)) if isinstance(value, list) else value

        return cls(**{name: plain(value) for name, value in said.items()})

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def reduced(self, rows: Rows, truth: Array, known: Array) -> Rows:
        """What figures need of a block's rows; a pure function of both.

        Args:
            rows: with logits.
            truth: of the block's images, in order: of one class each int64 (N,), of labels float64 (N, L).
            known: bool (N,), false where nothing is written of an image, which is told.

        Returns:
            rows whose outputs are the truth, and of one class each the best classes int64 (n, at most 5) and the best
            one's score (n,), of labels their logits (n, L).
        """
        failed = dict(rows.failed)
        for place in np.flatnonzero(~known).tolist():
            failed[place] = f"{rows.names[place]}: no class is written of it"
        at = [i for i, place in enumerate(rows.places) if known[place]]
        places = tuple(rows.places[i] for i in at)
        if not at:
            return replace(rows, places=(), outputs=(), failed=failed)
        logits, own = rows.outputs[0][at], truth[list(places)]
        if not self.one_class_each:
            return replace(rows, places=places, outputs=(own, logits[:, list(self.outputs)]), failed=failed)
        best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP].astype(np.int64)
        scores = np.concatenate([activated(one[None], self.activation) for one in logits])
        sure = np.take_along_axis(scores, best[:, :1], 1)[:, 0]
        return replace(rows, places=places, outputs=(own, best, sure), failed=failed)


@dataclass
class Marks:
    """Reduced rows as they come, of which the names of the surest mistakes are kept alone."""

    exam: Exam
    columns: list[tuple[Array, ...]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    said: Counter[str] = field(default_factory=Counter)
    mistakes: list[Mistake] = field(default_factory=list)
    images: int = 0
    notes: list[str] = field(default_factory=list)
    """Of this run alone, in no figure and no report."""

    def add(self, rows: Rows) -> None:
        """Count a block."""
        self.images += len(rows.names)
        self.said.update(rows.said)
        for place in sorted(rows.failed):
            self.failed[rows.names[place]] = rows.failed[place].removeprefix(f"{rows.names[place]}: ")
        if not rows.outputs:
            return
        self.columns.append(rows.outputs)
        if self.exam.one_class_each:
            truth, best, sure = rows.outputs
            names = self.exam.names
            wrong = np.flatnonzero(truth != best[:, 0])
            self.mistakes += (
                Mistake(rows.names[rows.places[i]], names[truth[i]], names[best[i, 0]], float(sure[i])) for i in wrong
            )
            self.mistakes = sorted(self.mistakes, key=lambda mistake: -mistake.score)[:SHOWN]

    def evaluation(self) -> Evaluation:
        """The figures of all.

        Raises:
            ConverterError: there is an answer to none.
        """
        exam = self.exam
        failed = {**dict(exam.missing), **self.failed}
        if not self.columns:
            first = next(iter(self.failed.values()), "none was asked about")
            raise ConverterError(f"none of {self.images} images could be evaluated: {first}")
        columns = [np.concatenate(column) for column in zip(*self.columns)]
        probable = exam.activation in FUNCTIONS
        found: Any
        if exam.one_class_each:
            truth, best, sure = columns
            found = choice(truth, best, sure if probable else None, exam.names)
        else:
            truth, scores = columns
            likely = activated(scores, exam.activation) if probable else None
            found = findings(truth, scores, likely, exam.names, exam.thresholds)
        how_read = [f"{line} ({count} images)" for line, count in self.said.items()]
        notes = (*exam.notes, *how_read, *hints(found, exam.how, dict(exam.written)))
        return Evaluation(
            exam.model, exam.engine, exam.dataset, found, exam.how, exam.activation, failed, self.mistakes, notes
        )


def marked(exam: Exam, rows: Iterable[Rows], progress: Callable[[int], None] = lambda _: None) -> Marks:
    """All reduced rows, in order."""
    marks = Marks(exam)
    for block in rows:
        marks.add(block)
        progress(len(block.names))
    return marks
