"""Class names that training code left beside the weights: a mapping of names to numbers, or back, or a list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from converter.core.checkpoint import Record

CALLED = re.compile(r"class|label|cl2id|id2cl|idx|vocab|categor|patholog|^names$", re.IGNORECASE)
"""What such a value is called; what else is called the names of something are metrics' or parameters'."""
MAX_DEPTH, MAX_VALUES = 6, 20_000


def class_names(tree: Any, classes: int) -> list[str]:
    """The names of so many classes, by index; none if nobody says them, or two say different ones.

    Args:
        tree: a checkpoint's values; records are what became of classes of others.
        classes: how many there are.
    """
    found: list[list[str]] = []
    for name, value in _values(tree):
        names = _names(value, classes) if CALLED.search(name) else []
        if names and names not in found:
            found.append(names)
    return found[0] if len(found) == 1 else []


def _names(value: Any, classes: int) -> list[str]:
    numbers = list(range(classes))
    if isinstance(value, list | tuple):
        names = [name for name in value if isinstance(name, str)]
        return names if len(names) == len(value) == len(set(names)) == classes else []
    if not isinstance(value, dict) or len(value) != classes or not classes:
        return []
    pairs = [(k, v) if isinstance(k, str) and isinstance(v, int) else (v, k) for k, v in value.items()]
    turned = {int(number): name for name, number in pairs if isinstance(name, str) and str(number).isdecimal()}
    return [turned[number] for number in numbers] if sorted(turned) == numbers else []


def _values(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every value that may hold names, and what it is called."""
    waiting, seen = [("", tree, 0)], 0
    while waiting and seen < MAX_VALUES:
        name, value, depth = waiting.pop()
        seen += 1
        yield name, value
        inside = value.state if isinstance(value, Record) else value
        if isinstance(inside, dict) and depth < MAX_DEPTH:
            waiting += [
                (key, each, depth + 1)
                for key, each in inside.items()
                if isinstance(key, str) and isinstance(each, dict | list | tuple | Record)
            ]
