"""How right a network is about images whose truth is known: class folders, lists, tables, shards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.core.model import Images, Model
from converter.core.progress import counted
from converter.core.source import AnySource, Source
from converter.use.assumed import labels_for
from converter.use.evaluation.classes import Outputs
from converter.use.evaluation.dataset import Dataset, Truths, read_truths
from converter.use.evaluation.exam import Exam, Marks, marked
from converter.use.evaluation.findings import check_metrics
from converter.use.evaluation.result import Evaluation
from converter.use.evaluation.task import Task, understand
from converter.use.kept import MANY, identity, keeping, run_over
from converter.use.predict import predictor
from converter.use.predictor import Predictor
from converter.use.rows import Rows, Start, session
from converter.use.sets.find import ImageSet
from converter.use.sets.listed import Listed
from converter.use.sets.places import index_of
from converter.use.share import Share


def evaluate(
    source: AnySource,
    dataset: str | Path | Dataset,
    *,
    engine: str = "onnxruntime",
    images: Images | None = None,
    head: str = "",
    truths: Truths | None = None,
    target: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Ask a network about every image and count.

    Images with one class each give top-1 and top-5 accuracy; those with labels that do not exclude each other, and
    networks of one output, give AUROC, average precision and F1.  Memory holds a few images, however many there are,
    and for labels their scores.

    Args:
        source: a checkpoint or an ONNX file, as for :func:`converter.load`.
        dataset: one subfolder of images (or volumes) a class, a list or table of truths, or shards that hold images and
            classes (WebDataset's tars, Parquet files, ``hf://datasets/owner/name``); or either with more to say of it.
            Classes are matched with outputs by name, by ImageNet's synsets, by number, or else by order, as
            torchvision's ImageFolder has it; the result says which.
        engine: ``onnxruntime`` or ``torch``.
        images: what its images and classes are, where the source does not say.
        head: of several heads the one that is asked; of a table with a column of that name it is the truth.
        truths: the dataset as :func:`read_truths` gives it, if it has been read.
        target: the report that is made of it, beside which rows of many images are kept while they come.
        progress: called with the number of images done since the last call; without it notebooks show a bar.

    Raises:
        ConverterError: the model or the truths cannot be used, or no image can be read.
        Unavailable: labels need scikit-learn, which is not installed.

    Example:
        >>> from converter import evaluate
        >>> found = evaluate("digits.onnx", "images")
        >>> found.found.images, found.found.top1
        (100, 100)
    """
    asked = Asked.of(source, dataset, engine=engine, images=images, head=head, truths=truths)
    return examined(asked, target=target, progress=progress or counted(asked.found.count)).evaluation()


@dataclass(frozen=True)
class Asked:
    """A network and what it is asked about images, which are places of a set.

    Attributes:
        found: the set.
        row_of: of each of its images the row of the task's truth, int (N,); -1 where nothing is written.
    """

    model: Predictor
    task: Task
    exam: Exam
    found: ImageSet
    row_of: Array

    @classmethod
    def of(
        cls,
        source: AnySource,
        dataset: str | Path | Dataset,
        *,
        engine: str = "onnxruntime",
        images: Images | None = None,
        head: str = "",
        truths: Truths | None = None,
    ) -> Asked:
        """Arguments and errors as for :func:`evaluate`."""
        dataset = Dataset.of(dataset)
        truths = (truths or read_truths(dataset)).of_head(head)
        model = predictor(source, engine=engine, images=images, head=head)
        if model.heads:
            heads = ", ".join(model.heads)
            raise ConverterError(f"{Source.of(source)}: has several heads ({heads}); --head NAME says which is meant")
        outputs = Outputs(model.network.config.num_classes, model.labels)
        task = understand(truths, outputs, model.activation)
        if not task.one_class_each:
            check_metrics()
        title = f"{dataset.title}, head {head}" if head else dataset.title
        exam = Exam.of(model, task, truths.missing, model=str(Source.of(source)), engine=engine, dataset=title)
        found = truths.found or ImageSet((Listed("the images", task.images),))
        row_of = np.full(found.count, -1)
        row_of[index_of(task.images) if truths.found else slice(None)] = np.arange(len(task.images))
        return cls(model, task, exam, found, row_of)

    def reduced(self, rows: Rows) -> Rows:
        """See :meth:`Exam.reduced`."""
        at = self.row_of[rows.first : rows.first + len(rows.names)]
        return self.exam.reduced(rows, self.task.truth[at], at >= 0)

    def question(self) -> dict[str, Any]:
        """What rows depend on, and what is needed to make figures of them."""
        truths = hashlib.sha256(self.task.truth.tobytes()).hexdigest()
        return {"verb": "evaluate", "rows": identity(self.model, truths=truths), "exam": self.exam.to_dict()}


def examined(
    asked: Asked,
    *,
    target: Path | None = None,
    share: Share | None = None,
    start: Start = session,
    progress: Callable[[int], None] = lambda _: None,
) -> Marks:
    """What a network answers, its images prepared as the source's own evaluation did.

    Args:
        asked: the network, and what it is asked.
        target: what is made of it.  Of many images rows are kept beside it, for who is stopped to go on there, until
            :func:`converter.use.kept.over` is told that it is written.
        share: the part of the images that is asked about; its rows are left beside ``target``.
        start: what starts the network.
        progress: called with the number of images done.

    Raises:
        ConverterError: the images cannot be read, or rows cannot be kept.
    """
    model, whole = asked.model, asked.found
    one = start(model, upright=model.preprocess.evaluated_upright)
    run = run_over(whole, one, share)
    with ExitStack() as files:
        if target is not None and (share or run.images > MANY):
            files.enter_context(keeping(run, target, whole, share, asked.question()))
        marks = marked(asked.exam, run.rows(one, asked.reduced), progress)
    many = bool(whole.shards) or run.images > MANY
    marks.notes = [*run.said(), *(one.said() if many else ())]
    return marks


def check(dataset: Dataset, model: Model) -> list[str]:
    """Refuse truths that do not fit a network before other work is done.

    Returns:
        of which heads they are, each of which has a column of a table; an empty name of the plain network.

    Raises:
        ConverterError: they cannot be read or matched.
        Unavailable: labels need scikit-learn, which is not installed.
    """
    truths, branches = read_truths(dataset), model.branches()
    heads = [head for head in branches if not head or head in truths.columns]
    if not heads:
        raise ConverterError(f"{truths.where}: has no column that is called as a head is ({', '.join(branches)})")
    for head in heads:
        own, count = branches[head], branches[head].config.num_classes
        task = understand(truths.of_head(head), Outputs(count, labels_for(own.images, count)), own.activation)
        if not task.one_class_each:
            check_metrics()
    return heads
