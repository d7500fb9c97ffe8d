"""What figures suggest of how classes were matched: a network that knows its classes is not at chance."""

from collections.abc import Mapping

import numpy as np

from converter.use.evaluation.choice import Choice, wilson
from converter.use.evaluation.findings import Findings

ENOUGH = 20
"""Images below which chance proves nothing."""
ONE_ANSWER = 0.9
"""Share of answers beyond which a network does not tell images apart."""
SHOWN = 4
"""Pairs of classes that a note shows."""
SURE = 0.5
"""Share of images that another order must explain to be named."""


def hints(found: Choice | Findings, how: str, written: Mapping[int, str]) -> tuple[str, ...]:
    """Notes where figures look like another order of classes than the network's.

    Args:
        found: the figures.
        how: how classes were matched with outputs; ``written`` what they are called, by output.
    """
    if found.images < ENOUGH:
        return ()
    if isinstance(found, Choice):
        return _of_choice(found, how, written)
    auroc = found.macro("auroc")
    known = min((label.positive, label.images - label.positive) for label in found.labels)
    if auroc is None or min(known) < ENOUGH // 4:
        return ()
    one = len(found.labels) == 1
    if one and auroc < 0.4:
        return (f"AUROC is {auroc:.2f}, below chance: the two classes look exchanged ({how})",)
    if abs(auroc - 0.5) < 0.05:
        return (f"AUROC is at chance: {_why(how)}",)
    return ()


def _of_choice(found: Choice, how: str, written: Mapping[int, str]) -> tuple[str, ...]:
    count = len(found.classes)
    best, pairs = _other_order(found)
    share = found.top1 / found.images
    low, high = wilson(found.top1, found.images)
    other = wilson(best, found.images)[0]
    names = [(written.get(truth, found.classes[truth].name), found.classes[answer].name) for truth, answer in pairs]
    shown = "; ".join(f"{truth} as {answer}" for truth, answer in names[:SHOWN]) + (" ..." if names[SHOWN:] else "")
    if low <= 1 / count:
        often = max(found.classes, key=lambda each: each.answered)
        if count > 2 and often.answered > ONE_ANSWER * found.images > often.images:
            return (
                f"top-1 is at chance (1 in {count}), and {often.answered / found.images:.0%} of the answers are "
                f"{often.name}: images are likely prepared in another way than in training",
            )
        known = f"; with {shown} it would be {best / found.images:.0%}" if best / found.images >= SURE and pairs else ""
        return (f"top-1 is at chance (1 in {count}): {_why(how)}{known}",)
    if pairs and other > high and best / found.images - share > 0.25:
        return (f"the order of classes looks wrong: with {shown} top-1 would be {best / found.images:.0%} ({how})",)
    return ()


def _why(how: str) -> str:
    return f"{how}, but the network's own order is likely another, or its images are prepared in another way"


def _other_order(found: Choice) -> tuple[int, list[tuple[int, int]]]:
    """Images that would be right if every class were its most frequent answer, no answer twice; and what would move."""
    taken: set[int] = set()
    done: dict[int, int] = {}
    total = 0
    for (truth, answer), count in sorted(found.confusion.items(), key=lambda item: -item[1]):
        if truth not in done and answer not in taken:
            done[truth] = answer
            taken.add(answer)
            total += count
    return total, [(truth, answer) for truth, answer in sorted(done.items()) if truth != answer]


def surest_mistakes(truth: np.ndarray, best: np.ndarray, confidence: np.ndarray, most: int = 20) -> list[int]:
    """Images whose answer is wrong, the surest first."""
    wrong = np.flatnonzero(best != truth)
    return [int(i) for i in wrong[np.argsort(-confidence[wrong], kind="stable")][:most]]
