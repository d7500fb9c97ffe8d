"""How right the weights are, as the card states it: figures, of which images, and who says so."""

import re
from dataclasses import dataclass

from converter.use.evaluation.choice import TOP, Choice, wilson
from converter.use.evaluation.findings import Findings
from converter.use.evaluation.result import Evaluation
from densenet.zoo import ZooModel

PUBLISHED_AT = {
    "mmpretrain": "https://github.com/open-mmlab/mmpretrain/blob/main/configs/densenet/metafile.yml",
    "torchvision": "https://github.com/pytorch/vision/blob/main/torchvision/models/densenet.py",
    "timm": "https://github.com/huggingface/pytorch-image-models/blob/main/results/results-imagenet.csv",
}
"""Where the figures of the zoo can be read, by the first word of their source."""
ON_THE_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        name: in words; ``column`` in one word, for a table.
        kind: what the Hub calls it.
        value: the number; ``text`` as people read it.
    """

    name: str
    column: str
    kind: str
    value: float
    text: str


@dataclass(frozen=True)
class Result:
    """Figures on a set of images, and who says so.

    Attributes:
        dataset: what people call the images; ``dataset_id`` its name on the Hub, if it is there.
        figures: the first is the most telling.
        who: the source of the figures, in words; ``url`` where to read them.
        detail: figures of each label, in words.
        notes: what was assumed when they were measured.
    """

    dataset: str
    figures: tuple[Figure, ...]
    who: str
    dataset_id: str = "custom"
    split: str | None = None
    url: str | None = None
    detail: str = ""
    notes: tuple[str, ...] = ()

    def text(self, column: str) -> str:
        """The figure of a table's column, empty if there is none."""
        return next((figure.text for figure in self.figures if figure.column == column), "")


def published(zoo: ZooModel) -> list[Result]:
    """The publisher's own figures, if there are any."""
    if zoo.top1 is None or zoo.top5 is None:
        return []
    who = zoo.accuracy_source
    figures = _accuracies(zoo.top1, zoo.top5, zoo.config.num_classes, ("", ""))
    return [
        Result(
            "ImageNet-1k, validation",
            figures,
            f"published: {who}",
            "imagenet-1k",
            "validation",
            PUBLISHED_AT[who.partition(",")[0]],
        )
    ]


def measured(evaluation: Evaluation) -> Result:
    """What an evaluation found."""
    found, name = evaluation.found, evaluation.dataset
    bad = f", {len(evaluation.failed)} more could not be read" if evaluation.failed else ""
    figures = _of_choice(found) if isinstance(found, Choice) else _of_findings(found)
    labels = found.labels if isinstance(found, Findings) and len(found.labels) > 1 else ()
    known = [f"{label.name} {label.auroc:.4f}" for label in labels if label.auroc is not None]
    return Result(
        f"{name} ({found.images} images{bad})",
        figures,
        "measured on conversion, in ONNX Runtime",
        name if ON_THE_HUB.fullmatch(name) else "custom",
        detail=f"AUROC of each label: {', '.join(known)}" if known else "",
        notes=(evaluation.how, *evaluation.notes),
    )


def _of_choice(found: Choice) -> tuple[Figure, ...]:
    one, five = (f" ({_interval(hits, found.images)})" for hits in (found.top1, found.top5))
    share = 100 / found.images
    return _accuracies(share * found.top1, share * found.top5, len(found.classes), (one, five))


def _accuracies(top1: float, top5: float, classes: int, intervals: tuple[str, str]) -> tuple[Figure, ...]:
    """Top-1 and, where any five classes are not all, top-5; in percent."""
    first = Figure("Top-1 accuracy", "top-1", "accuracy", top1, f"{top1:.2f} %{intervals[0]}")
    second = Figure("Top-5 accuracy", "top-5", "accuracy", top5, f"{top5:.2f} %{intervals[1]}")
    return (first, second) if classes > TOP else (first,)


def _of_findings(found: Findings) -> tuple[Figure, ...]:
    one = found.labels[0] if len(found.labels) == 1 else None
    mean = "" if one else f", mean of {len(found.labels)} labels"
    result = []
    if one and one.right is not None and one.images:
        share = 100 * one.right / one.images
        text = f"{share:.2f} % ({_interval(one.right, one.images)})"
        result.append(Figure("Accuracy", "accuracy", "accuracy", share, text))
    for name, column, kind, key in (
        ("AUROC", "AUROC", "roc_auc", "auroc"),
        ("Average precision", "AP", "average_precision", "ap"),
        ("F1", "F1", "f1", "f1"),
    ):
        if (value := found.macro(key)) is not None:
            result.append(Figure(name + mean, column, kind, value, f"{value:.4f}"))
    return tuple(result)


def _interval(hits: int, total: int) -> str:
    low, high = wilson(hits, total)
    return f"95 %: {100 * low:.2f} to {100 * high:.2f}"
