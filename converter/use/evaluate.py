"""How right a network is about images whose truth is known: class folders, lists, tables."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.core.model import Images, Model
from converter.core.progress import counted
from converter.core.source import AnySource, Source
from converter.use.activation import FUNCTIONS, activated
from converter.use.assumed import labels_for
from converter.use.evaluation.choice import TOP, Choice, choice
from converter.use.evaluation.classes import Outputs
from converter.use.evaluation.dataset import Dataset, Truths, read_truths
from converter.use.evaluation.findings import THRESHOLD, Findings, check_metrics, findings
from converter.use.evaluation.hints import hints, surest_mistakes
from converter.use.evaluation.result import Evaluation, Mistake
from converter.use.evaluation.task import Task, understand
from converter.use.predict import Predictor, predictor


def evaluate(
    source: AnySource,
    dataset: str | Path | Dataset,
    *,
    engine: str = "onnxruntime",
    images: Images | None = None,
    head: str = "",
    truths: Truths | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Ask a network about every image and count.

    Images with one class each give top-1 and top-5 accuracy; those with labels that do not exclude each other, and
    networks of one output, give AUROC, average precision and F1.  Memory holds a few images, however many there are,
    and for labels their scores.

    Args:
        source: a checkpoint or an ONNX file, as for :func:`converter.load`.
        dataset: one subfolder of images (or volumes) a class, or a list or table of truths, or either with more to
            say of it. Classes are matched with outputs by name, by ImageNet's synsets, by number, or else by order, as
            torchvision's ImageFolder has it; the result says which.
        engine: ``onnxruntime`` or ``torch``.
        images: what its images and classes are, where the source does not say.
        head: of several heads the one that is asked; of a table with a column of that name it is the truth.
        truths: the dataset as :func:`read_truths` gives it, if it has been read.
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
    failed = dict(truths.missing)
    read: list[str] = []
    answers = _answers(model, task, failed, read, progress or counted(len(task.images)))
    found, mistakes = (_choose if task.one_class_each else _find)(model, task, answers)
    how_read = [f"{line} ({count} images)" for line, count in Counter(read).items()]
    return Evaluation(
        str(Source.of(source)),
        engine,
        f"{dataset.title}, head {head}" if head else dataset.title,
        found,
        task.how,
        model.activation,
        failed,
        mistakes,
        (*model.notes, *task.notes, *how_read, *hints(found, task.how, task.written)),
    )


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


Answers = Iterator[tuple[int, Array]]
"""The place of an image and its logits (outputs,)."""


def _answers(
    model: Predictor, task: Task, failed: dict[str, str], read: list[str], progress: Callable[[int], None]
) -> Answers:
    """Of all images in order, prepared as the source's own evaluation did.

    Images without answer are put into ``failed``, what is to say of how they were read into ``read``.

    Raises:
        ConverterError: there is an answer to none.
    """
    any_read, upright = False, model.preprocess.evaluated_upright
    for answer in model.answers(task.images, say=read.append, upright=upright):
        if answer.failed:
            failed[str(answer.image)] = answer.failed.removeprefix(f"{answer.image}: ")
        else:
            any_read = True
            yield answer.place, answer.outputs[0]
        progress(1)
    if not any_read:
        first = next(iter(failed.values()))
        raise ConverterError(f"none of {len(task.images)} images could be evaluated: {first}")


def _choose(model: Predictor, task: Task, answers: Answers) -> tuple[Choice, list[Mistake]]:
    """One class each: only the best of every image are kept."""
    places: list[int] = []
    bests, sure = [], []
    probable = model.activation in FUNCTIONS
    for place, logits in answers:
        best = np.argsort(-logits, kind="stable")[:TOP]
        scores = activated(logits[None], model.activation)[0] if probable else logits
        places.append(place)
        bests.append(best)
        sure.append(scores[best[0]])
    truth, best, confidence = task.truth[places], np.stack(bests), np.array(sure)
    found = choice(truth, best, confidence if probable else None, task.names)
    mistakes = [
        Mistake(str(task.images[places[i]]), task.names[truth[i]], task.names[best[i, 0]], float(confidence[i]))
        for i in surest_mistakes(truth, best[:, 0], confidence)
    ]
    return found, mistakes


def _find(model: Predictor, task: Task, answers: Answers) -> tuple[Findings, list[Mistake]]:
    """Each label by itself: the scores of every image are kept."""
    places: list[int] = []
    kept = []
    for place, logits in answers:
        places.append(place)
        kept.append(logits[list(task.outputs)])
    scores, truth = np.stack(kept), task.truth[places]
    probabilities = activated(scores, model.activation) if model.activation in FUNCTIONS else None
    recorded = model.thresholds or [None] * (max(task.outputs) + 1)
    thresholds = [THRESHOLD if (own := recorded[i]) is None else own for i in task.outputs]
    return findings(truth, scores, probabilities, task.names, thresholds), []
