"""Evaluations for people and for programs: terminal tables, JSON, CSV, and a page with plots."""

import csv
import io
import json

from converter.core.page import Table, render
from converter.core.plot import Plot
from converter.core.reports import Reports
from converter.core.text import cell
from converter.core.version import __version__
from converter.use.evaluation.calibration import DEFINITION
from converter.use.evaluation.choice import TOP, Choice, OfClass, wilson
from converter.use.evaluation.findings import Findings, OfLabel
from converter.use.evaluation.plots import MOST, confusion, recalls, reliability, roc, spread
from converter.use.evaluation.result import Evaluation

SHOWN = 20
"""Classes of which the terminal shows all; of more it shows so many, the worst."""


# -- tables ---------------------------------------------------------------------------------------

OF_CLASS = ("class", "images", "recall", "precision", "F1", "most often taken for")
OF_LABEL = (
    "label", "images", "positive", "AUROC", "AP", "F1", "threshold", "precision", "sensitivity", "specificity", "ECE"
)  # fmt: skip
DETAILS = ("threshold", "precision", "ECE")
"""What a narrow terminal goes without."""


def tables(evaluation: Evaluation, *, every_class: bool = False) -> list[Table]:
    """What the terminal shows; the page shows every class."""
    found = evaluation.found
    if isinstance(found, Findings):
        rows = [_label_row(label.name, label) for label in found.labels]
        if len(found.labels) > 1:
            macro = {name: found.macro(key) for name, key in COLUMNS.items()}
            mean = ["mean (macro)", "", "", *(_figure(macro.get(column)) for column in OF_LABEL[3:])]
            rows += [mean, _label_row("all pairs (micro)", found.micro)]
        return [Table("Labels", OF_LABEL, rows, OF_LABEL[1:])]
    rest = [each for each in found.classes if each.images or each.answered]
    title = "Classes"
    if not every_class and len(rest) > SHOWN:
        rest = sorted(rest, key=lambda each: (each.f1 or 0.0, each.name))[:SHOWN]
        title = f"The {SHOWN} classes of the least F1"
    taken = _taken_for(found)
    rows = [
        [
            each.name,
            str(each.images),
            _figure(each.recall),
            _figure(each.precision),
            _figure(each.f1),
            taken.get(each, ""),
        ]
        for each in rest
    ]
    return [Table(title, OF_CLASS, rows, OF_CLASS[1:-1])]


COLUMNS = {"AUROC": "auroc", "AP": "ap", "F1": "f1", "precision": "precision", "sensitivity": "sensitivity",
           "specificity": "specificity"}  # fmt: skip


def _label_row(name: str, label: OfLabel) -> list[str]:
    return [
        name,
        str(label.images),
        str(label.positive),
        _figure(label.auroc),
        _figure(label.ap),
        _figure(label.f1),
        "" if label.threshold is None else f"{label.threshold:.4g}",
        _figure(label.precision),
        _figure(label.sensitivity),
        _figure(label.specificity),
        _figure(label.calibration_error),
    ]


def _taken_for(found: Choice) -> dict[OfClass, str]:
    """What the images of each class are taken for most often, where they are not it."""
    worst: dict[int, tuple[int, int]] = {}
    for (truth, answer), images in found.confusion.items():
        if truth != answer and images > worst.get(truth, (0, 0))[0]:
            worst[truth] = (images, answer)
    return {found.classes[truth]: f"{found.classes[a].name} ({n})" for truth, (n, a) in worst.items()}


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _overall(evaluation: Evaluation) -> Table:
    """The figures of all together."""
    found = evaluation.found
    rows: list[list[str]] = []
    columns: tuple[str, ...]
    if isinstance(found, Choice):
        for name, hits in (("top-1", found.top1), ("top-5", found.top5)):
            if name == "top-1" or len(found.classes) > TOP:
                low, high = wilson(hits, found.images)
                rows.append([name, f"{hits / found.images:.2%}", f"{low:.2%} to {high:.2%}", f"{hits} images"])
        rows.append(["balanced accuracy", _figure(found.balanced), "", "mean recall over classes"])
        rows.append(["F1, macro", _figure(found.f1), "", "mean over classes"])
    else:
        one = found.labels[0]
        if len(found.labels) == 1 and one.right is not None and one.images:
            low, high = wilson(one.right, one.images)
            rows.append(
                ["accuracy", f"{one.right / one.images:.2%}", f"{low:.2%} to {high:.2%}", f"{one.right} images"]
            )
        for name, key in (("AUROC", "auroc"), ("average precision", "ap"), ("F1", "f1")):
            micro = getattr(found.micro, key)
            said = "" if len(found.labels) == 1 else f"mean over labels; all pairs together (micro): {_figure(micro)}"
            rows.append([name, _figure(found.macro(key)), "", said])
    rows.append(["calibration error", _figure(found.calibration_error), "", "expected, 15 bins"])
    columns = ("figure", "value", "95 %", "what")
    if not any(row[2] for row in rows):
        columns, rows = ("figure", "value", "what"), [[row[0], row[1], row[3]] for row in rows]
    return Table("All together", columns, rows, ("value", "95 %"))


# -- files ----------------------------------------------------------------------------------------


def to_json(evaluation: Evaluation) -> str:
    """Everything."""
    return json.dumps(evaluation.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


CSV_OF_CLASS = ("class", "name", "images", "answered", "correct", "recall", "precision", "f1")
FIGURES = ("auroc", "ap", "f1", "accuracy", "precision", "sensitivity", "specificity", "calibration_error")
CSV_OF_LABEL = ("label", "images", "positive", "threshold", *FIGURES)


def to_csv(evaluation: Evaluation) -> str:
    """A row for each class or label, then for all together."""
    out, found = io.StringIO(), evaluation.found
    writer = csv.writer(out, lineterminator="\n")
    if isinstance(found, Choice):
        writer.writerow(CSV_OF_CLASS)
        for i, each in enumerate(found.classes):
            figures = (each.recall, each.precision, each.f1)
            writer.writerow([i, cell(each.name), each.images, each.answered, each.correct, *map(_exact, figures)])
        figures = (found.top1 / found.images, None, found.f1)
        writer.writerow(["all", "", found.images, found.images, found.top1, *map(_exact, figures)])
        return out.getvalue()
    writer.writerow(CSV_OF_LABEL)
    for label in (*found.labels, found.micro):
        values = [_exact(getattr(label, key)) for key in FIGURES]
        writer.writerow([cell(label.name), label.images, label.positive, _exact(label.threshold), *values])
    writer.writerow(["macro", found.images, "", "", *(_exact(found.macro(key)) for key in FIGURES)])
    return out.getvalue()


def _exact(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def to_html(evaluation: Evaluation) -> str:
    """One page with plots, without scripts or anything to fetch."""
    mistakes = Table(
        "The surest wrong answers",
        ("image", "truth", "answer", "score"),
        [[m.image, m.truth, m.answer, f"{m.score:.4f}"] for m in evaluation.mistakes],
        ("score",),
    )
    by_class = tables(evaluation, every_class=True)
    first = isinstance(evaluation.found, Findings)  # a few labels, or a thousand classes
    failed = Table("Not read", ("image", "why"), [[image, why] for image, why in evaluation.failed.items()])
    return render(
        "converter.use.evaluation",
        "evaluation.html.j2",
        evaluation=evaluation,
        line=evaluation.line(),
        before=[_overall(evaluation), *(by_class if first else [])],
        after=[
            *([] if first else by_class),
            *([mistakes] if mistakes.rows else []),
            *([failed] if failed.rows else []),
        ],
        plots=plots(evaluation),
        numbers=_numbers(evaluation),
        definition=DEFINITION,
        version=__version__,
    )


def _numbers(evaluation: Evaluation) -> str:
    """What the numbers along the matrix mean."""
    found = evaluation.found
    if isinstance(found, Findings) or len(found.classes) > MOST:
        return ""
    return ", ".join(f"{i} {each.name}" for i, each in enumerate(found.classes) if each.name != str(i))


def plots(evaluation: Evaluation) -> list[Plot]:
    """Of the kind of the evaluation."""
    found = evaluation.found
    result: list[Plot] = []
    if isinstance(found, Choice):
        if len(found.classes) <= MOST:
            result.append(confusion(found))
        if len(found.classes) > NUMEROUS:
            result.append(recalls(found))
        right = "share that is right"
    else:
        result += [roc(label) for label in found.labels if label.curve]
        right = "share that has the label"
    return ([reliability(found.calibration, right), spread(found.calibration)] if found.calibration else []) + result


NUMEROUS = 2
"""Classes from which on their recalls are worth a plot."""

REPORTS = Reports[Evaluation](
    {".json": to_json, ".csv": to_csv, ".html": to_html}, (",".join(CSV_OF_CLASS), ",".join(CSV_OF_LABEL))
)
