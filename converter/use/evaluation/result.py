"""What came of an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converter.core.metadata import TOOL
from converter.use.evaluation.choice import TOP, Choice, wilson
from converter.use.evaluation.findings import Findings, OfLabel


@dataclass(frozen=True)
class Mistake:
    """An image whose class is another than the answer; ``score`` is the answer's."""

    image: str
    truth: str
    answer: str
    score: float


@dataclass(frozen=True)
class Evaluation:
    """How right a network is about some images.

    Attributes:
        model, engine: what was asked, and what computed.
        dataset: what people call the images.
        found: the figures.
        how: how classes or labels were matched with outputs.
        activation: what made probabilities of logits.
        failed: images that could not be read, and why; they are in no figure.
        mistakes: the surest wrong answers, the surest first.
        notes: what was assumed.
    """

    model: str
    engine: str
    dataset: str
    found: Choice | Findings
    how: str
    activation: str
    failed: Mapping[str, str]
    mistakes: Sequence[Mistake] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Evaluation({self.model!r} on {self.dataset!r}: {self.line()})"

    @property
    def images(self) -> int:
        """How many were evaluated."""
        return self.found.images

    def line(self) -> str:
        """The figures in one line."""
        found, bad = self.found, f"; {len(self.failed)} could not be read" if self.failed else ""
        if isinstance(found, Choice):
            low, high = wilson(found.top1, found.images)
            said = f"{self.images} images: top-1 {found.top1 / found.images:.2%} (95 %: {low:.2%} to {high:.2%})"
            if len(found.classes) > TOP:
                low, high = wilson(found.top5, found.images)
                said += f", top-5 {found.top5 / found.images:.2%} ({low:.2%} to {high:.2%})"
            error = found.calibration_error
            return said + (f", calibration error {error:.4f}" if error is not None else "") + bad
        one = found.labels[0] if len(found.labels) == 1 else None
        figures = {"AUROC": "auroc", "average precision": "ap", "F1": "f1"}
        values = {name: found.macro(key) for name, key in figures.items()}
        said = ", ".join(f"{name} {value:.4f}" for name, value in values.items() if value is not None)
        if one and one.right is not None and one.images:
            low, high = wilson(one.right, one.images)
            said = f"accuracy {one.right / one.images:.2%} (95 %: {low:.2%} to {high:.2%}), {said}"
        what = f"{self.images} images" + ("" if one else f", mean of {len(found.labels)} labels")
        return f"{what}: {said or 'no figure is defined'}{bad}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; shares in percent where their names say top, else from 0 to 1."""
        result: dict[str, Any] = {
            "model": self.model,
            "engine": self.engine,
            "dataset": self.dataset,
            "images": self.images,
            **(_choice(self.found) if isinstance(self.found, Choice) else _findings(self.found)),
            "activation": self.activation,
            "matched": self.how,
            "mistakes": [vars(mistake) for mistake in self.mistakes],
            "failed": [{"image": image, "why": why} for image, why in self.failed.items()],
            "notes": list(self.notes),
            "tool": TOOL,
        }
        return result


def _choice(found: Choice) -> dict[str, Any]:
    return {
        "top1_correct": found.top1,
        "top5_correct": found.top5,
        "top1": 100 * found.top1 / found.images,
        "top5": 100 * found.top5 / found.images,
        "top1_interval": [100 * end for end in wilson(found.top1, found.images)],
        "top5_interval": [100 * end for end in wilson(found.top5, found.images)],
        "balanced_accuracy": found.balanced,
        "f1_macro": found.f1,
        "calibration_error": found.calibration_error,
        "calibration": [vars(part) for part in found.calibration],
        "classes": [
            {
                "class": i,
                "name": each.name,
                "images": each.images,
                "answered": each.answered,
                "correct": each.correct,
                "recall": each.recall,
                "precision": each.precision,
                "f1": each.f1,
            }
            for i, each in enumerate(found.classes)
        ],
        "confusion": [
            {"truth": truth, "answer": answer, "images": count} for (truth, answer), count in found.confusion.items()
        ],
    }


FIGURES = ("auroc", "ap", "f1", "accuracy", "precision", "sensitivity", "specificity")


def _findings(found: Findings) -> dict[str, Any]:
    return {
        "labels": [_label(each) for each in found.labels],
        "macro": {figure: found.macro(figure) for figure in FIGURES},
        "micro": {figure: getattr(found.micro, figure) for figure in FIGURES},
        "calibration_error": found.calibration_error,
        "calibration": [vars(part) for part in found.calibration],
    }


def _label(each: OfLabel) -> dict[str, Any]:
    return {
        "name": each.name,
        "images": each.images,
        "positive": each.positive,
        **{figure: getattr(each, figure) for figure in FIGURES},
        "threshold": each.threshold,
        "calibration_error": each.calibration_error,
    }
