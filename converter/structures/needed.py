"""The operators that a result depends on, in order: nodes come in any, and some are idle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from converter.core.errors import NotADenseNet
from converter.structures.ops import Op


def producers(ops: Iterable[Op], start: str) -> dict[str, Op]:
    """Who makes which value.

    Raises:
        NotADenseNet: two make the same.
    """
    made: dict[str, Op] = {}
    for op in ops:
        if op.y in made:
            raise NotADenseNet(f"{op.name} makes a value that is there already")
        if op.y != start:  # what is before the start is not followed
            made[op.y] = op
    return made


def needed(made: Mapping[str, Op], output: str) -> list[Op]:
    """The operators behind a value, in an order in which each follows those it takes from.

    Raises:
        NotADenseNet: a value depends on itself.
    """
    done: dict[str, bool] = {}  # False while what it takes is being listed
    result: list[Op] = []
    stack = [output]
    while stack:
        name = stack[-1]
        op = made.get(name)
        if op is None or done.get(name):
            stack.pop()
        elif name in done:
            stack.pop()
            done[name] = True
            result.append(op)
        else:
            done[name] = False
            inputs = [x for x in reversed(op.x) if x in made and not done.get(x)]
            if any(x in done for x in inputs):
                raise NotADenseNet(f"{op.name} depends on its own result")
            stack += inputs
    return result
