"""The plots of an evaluation."""

from math import ceil

from converter.core.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Plot, axis, ticks
from converter.use.evaluation.calibration import Bin, calibration_error
from converter.use.evaluation.choice import Choice
from converter.use.evaluation.findings import OfLabel

MOST = 40
"""Classes beyond which a matrix of them cannot be read."""
NUMBERED = 16
"""Classes up to which the cells of a matrix have room for numbers."""

ACROSS = axis(0, 1, LEFT, WIDTH - RIGHT)
UP = axis(0, 1, HEIGHT - BOTTOM, TOP)
DIAGONAL = f"{ACROSS(0)},{UP(0)} {ACROSS(1)},{UP(1)}"
SHARES_ACROSS, SHARES_UP = ticks(ACROSS, 0, 1), ticks(UP, 0, 1)


def reliability(bins: tuple[Bin, ...], right: str) -> Plot:
    """How often answers of each probability are right (``right`` says what that is); the diagonal is calibrated."""
    error = calibration_error(bins) or 0.0
    bars = [
        (ACROSS(b.low) + 1, UP(b.right), round(ACROSS(b.high) - ACROSS(b.low) - 2, 1), round(UP(0) - UP(b.right), 1))
        for b in bins
        if b.count
    ]
    points = [
        (ACROSS(b.confidence), UP(b.right), f"{b.low:.2f} to {b.high:.2f}: {b.count}, {b.right:.1%}", False)
        for b in bins
        if b.count
    ]
    return Plot(
        "Reliability",
        f"The {right} of answers by their probability; on the dashed line probabilities are what they say. "
        f"Expected calibration error {error:.4f}.",
        "probability",
        right,
        SHARES_ACROSS,
        SHARES_UP,
        points,
        bars=tuple(bars),
        dashed=DIAGONAL,
    )


def spread(bins: tuple[Bin, ...]) -> Plot:
    """How many answers have which probability."""
    most = max(part.count for part in bins)
    up = axis(0, most, HEIGHT - BOTTOM, TOP)
    bars = [
        (ACROSS(b.low) + 1, up(b.count), round(ACROSS(b.high) - ACROSS(b.low) - 2, 1), round(up(0) - up(b.count), 1))
        for b in bins
        if b.count
    ]
    total = sum(part.count for part in bins)
    last = bins[-1]
    text = f"How many of {total} answers have which probability; {last.count} lie above {last.low:.2f}."
    return Plot(
        "Probabilities", text, "probability", "answers", SHARES_ACROSS, ticks(up, 0, most), [], bars=tuple(bars)
    )


def roc(label: OfLabel) -> Plot:
    """The ROC curve of a label."""
    at = []
    if label.sensitivity is not None and label.specificity is not None:
        what = f"at the threshold {label.threshold:.3g}" if label.threshold is not None else "at the thresholds"
        said = f"{what}: sensitivity {label.sensitivity:.1%}, specificity {label.specificity:.1%}"
        at = [(ACROSS(1 - label.specificity), UP(label.sensitivity), said, True)]
    words = f"AUROC {label.auroc:.4f}; {label.positive} of {label.images} have it"
    return Plot(
        label.name,
        words + (f"; {at[0][2]} (the dot)." if at else "."),
        "false positive rate",
        "true positive rate",
        SHARES_ACROSS,
        SHARES_UP,
        at,
        " ".join(f"{ACROSS(x)},{UP(y)}" for x, y in label.curve),
        dashed=DIAGONAL,
    )


def confusion(found: Choice) -> Plot:
    """Which share of each class is answered as which; a row is a class, its answers add up to 1."""
    count = len(found.classes)
    side = WIDTH - LEFT - RIGHT
    height = side + TOP + BOTTOM
    x, y = axis(0, count, LEFT, WIDTH - RIGHT), axis(0, count, TOP, height - BOTTOM)
    step = round(side / count, 1)
    cells = []
    for (truth, answer), images in sorted(found.confusion.items()):
        of = found.classes[truth]
        share = images / of.images
        what = f"{of.name} answered as {found.classes[answer].name}: {images} of {of.images}"
        text = str(images) if count <= NUMBERED else ""
        cells.append((x(answer), y(truth), step, step, round(0.1 + 0.9 * share, 3), what, text))
    each = ceil(count / NUMBERED)
    named = range(0, count, each)
    worst = max(((n, pair) for pair, n in found.confusion.items() if pair[0] != pair[1]), default=None)
    words = "Rows are true classes, columns answers; the darker, the larger the share of the row."
    if worst:
        truth, answer = worst[1]
        words += f" Most often wrong: {worst[0]} of {found.classes[truth].name} as {found.classes[answer].name}."
    return Plot(
        "Confusion",
        words,
        "answer",
        "truth",
        [(round(x(i) + step / 2, 1), str(i)) for i in named],
        [(round(y(i) + step / 2, 1), str(i)) for i in named],
        [],
        cells=tuple(cells),
        height=height,
    )


def recalls(found: Choice) -> Plot:
    """The recall of every class, from the worst to the best."""
    known = sorted((each.recall, each.name) for each in found.classes if each.recall is not None)
    x = axis(0, len(known), LEFT, WIDTH - RIGHT)
    width = max(round((WIDTH - LEFT - RIGHT) / len(known) - 1, 1), 0.5)
    bars = [(x(i), UP(recall), width, round(UP(0) - UP(recall), 1)) for i, (recall, _) in enumerate(known)]
    (low, worst), (high, best) = known[0], known[-1]
    text = f"Recall of {len(known)} classes in order; {worst} has the least, {low:.1%}, {best} the most, {high:.1%}."
    count = [(x(0), "1"), (x(len(known)), str(len(known)))]
    return Plot("Recall", text, "classes, worst first", "recall", count, SHARES_UP, [], bars=tuple(bars))
