"""Class names that training code left beside the weights: a mapping of names to numbers, or back, or a list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from converter.core.text import well_formed
from converter.reading.entries import Entry, listed, number

CALLED = r"(?i)class|label|cl2id|id2cl|idx|vocab|categor|patholog|^(names|targets)$"
"""What such a value is called; what else is called the names of something are metrics' or parameters'."""
PLAINLY = (
    r"(?i)class_?to_?idx|idx_?to_?class|class_?(names|labels|indices)|classes|label_?names|labels|id2label|label2id|"
    r"vocab|pathologies"
)
"""What is called so and names another number of classes is worth a note."""
UNNAMED = "LABEL_{}"
"""What transformers calls a class without a name."""


def class_names(found: Iterable[Entry], classes: int) -> tuple[list[str], str]:
    """The names of so many classes, by index, and a note where what is said cannot be taken.

    Args:
        found: a checkpoint's values (:func:`converter.reading.entries.entries`).
        classes: how many there are.
    """
    said: dict[tuple[str, ...], str] = {}
    others: dict[str, tuple[int, str]] = {}
    judged: set[int] = set()
    for place, name, value in found:
        if not re.search(CALLED, name) or id(value) in judged:
            continue
        judged.add(id(value))  # a pickle can hold the same list a million times
        names = names_in(value)
        if len(names) == classes == len(set(names)) and "" not in names:
            said.setdefault(tuple(names), place)
        elif len(names) == classes and any(names) and name in ("pathologies", "targets"):
            # torchxrayvision has no name for outputs that nothing was trained for
            said.setdefault(tuple(each or UNNAMED.format(i) for i, each in enumerate(names)), place)
        elif len(names) > 1 and re.fullmatch(PLAINLY, name):
            others[place] = len(names), well_formed(names[-1])
    if len(said) == 1:
        return [well_formed(name) for name in next(iter(said))], ""
    if said:
        return (
            [],
            f"{' and '.join(said.values())} name the classes differently, so neither is taken; --labels says them",
        )
    if not others or not classes:
        return [], ""
    place, (count, last) = next(iter(others.items()))
    if classes == 1 and count == 2:
        return [last], f"the one output is taken as the probability of {last}, number 1 in {place}; --labels names it"
    return [], f"{place} has {count} names, the network {classes} outputs, so they are not taken; --labels names these"


def names_in(value: Any) -> list[str]:
    """The names a value says, by index: a list of texts, or a mapping from or to 0, 1, 2 ...; empty if it says none."""
    if isinstance(value, dict):
        return _turned(value)
    names = listed(value)
    if names is None:
        return []
    texts = [name for name in names if isinstance(name, str)]
    return texts if len(texts) == len(names) else []


def _turned(value: dict[Any, Any]) -> list[str]:
    pairs = [(k, n) if isinstance(k, str) and (n := number(v)) is not None else (v, k) for k, v in value.items()]
    turned = {int(n): name for name, n in pairs if isinstance(name, str) and str(n).isdecimal() and len(str(n)) < 7}
    numbers = list(range(len(value)))
    return [turned[i] for i in numbers] if value and sorted(turned) == numbers else []
