"""What code is followed in: dotted names, modules, and the tensors below them."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Record, Tensor
from converter.core.errors import NotADenseNet


@dataclass(frozen=True)
class Path:
    """A dotted name that is no local variable: a function, a type or a number."""

    name: str


@dataclass(eq=False)
class Module:
    """A module or another object, and what was put into it since."""

    record: Record
    path: str
    changed: dict[str, Any] = field(default_factory=dict)


def parsed(text: str, what: str) -> ast.Module:
    """The syntax tree of a text.

    Raises:
        NotADenseNet: it has none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in a damaged text
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotADenseNet(f"the code of {what} cannot be parsed ({type(error).__name__})") from error


def paths_of(root: Record) -> dict[int, str]:
    """The names of all tensors and modules below a module, by identity; of several names the first."""
    names, todo = dict[int, str](), [("", root)]
    while todo:
        path, record = todo.pop()
        if id(record) in names or len(names) > bounds.MODULES:
            continue
        names[id(record)] = path
        state = record.state if isinstance(record.state, dict) else {}
        members = [state]
        if "_modules" in state:
            members = [m for k in ("_parameters", "_buffers", "_modules") if isinstance(m := state.get(k), dict)]
            members.append({key: value for key, value in state.items() if isinstance(value, Tensor)})
        inner = [(f"{path}.{key}" if path else str(key), value) for member in members for key, value in member.items()]
        for name, value in inner:
            if isinstance(value, Tensor):
                names.setdefault(id(value), name)
        todo += [(name, value) for name, value in reversed(inner) if isinstance(value, Record)]
    return names


def image_rank(tensors: Sequence[Tensor]) -> int | None:
    """How many dimensions images have: those of the kernels."""
    ranks = {len(tensor.shape) for tensor in tensors if len(tensor.shape) > 2}
    kernels = ranks - {3} if len(ranks) > 1 else ranks
    return kernels.pop() if len(kernels) == 1 else None


def tensors_of(root: Record) -> Iterator[Tensor]:
    """All tensors of a module and of those below it."""
    todo, seen = [root], set[int]()
    while todo:
        record = todo.pop()
        if id(record) in seen or not isinstance(record.state, dict):
            continue
        seen.add(id(record))
        state = record.state
        members = [m for k in ("_parameters", "_buffers", "_modules") if isinstance(m := state.get(k), dict)] or [state]
        for value in (value for member in members for value in member.values()):
            if isinstance(value, Tensor):
                yield value
            elif isinstance(value, Record):
                todo.append(value)
