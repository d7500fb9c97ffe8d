"""A layout's table guessed from the names that order and shapes have matched."""

from __future__ import annotations

from converter.layouts.custom import ENDING, NUMBER
from converter.layouts.layout import TORCH_LEAVES, VARIABLE, Layout, Leaf, fill, variables
from converter.reading.candidate import Candidate
from densenet.names import parse


def guess(candidate: Candidate) -> Layout | None:
    """The table behind names that were matched by order, or None if their numbers follow no rule."""
    config = candidate.config
    assert config is not None
    examples: dict[str, list[tuple[dict[str, int], str]]] = {}
    leaves: dict[str, Leaf] = {}
    for tensor, (_, keys) in candidate.used.items():
        place = parse(tensor)
        if place.template.startswith("head."):  # which is found by itself, behind what the table names
            continue
        ending = ENDING.search(keys[0])
        if ending is None:
            return None
        name = f"{place.kind}.{place.leaf}"
        if leaves.setdefault(name, Leaf((ending[0],))).names != (ending[0],):
            return None  # two spellings of one thing
        if place.leaf == "weight":
            example = variables(place, config), keys[0][: ending.start()]
            examples.setdefault(place.template, []).append(example)
    modules = {template: _generalise(found, template) for template, found in examples.items()}
    named = {template: name for template, name in modules.items() if name is not None}
    if len(named) < len(modules):
        return None
    about, own = "guessed from the order of the tensors", {**TORCH_LEAVES, **leaves}
    return Layout(candidate.layout.name, about, named, own, shared=True)


def _generalise(examples: list[tuple[dict[str, int], str]], ours: str) -> str | None:
    """One template for all of a module's names: every number in them as a shifted variable, or as itself."""
    _, first = examples[0]
    numbers = [[int(n) for n in NUMBER.findall(name)] for _, name in examples]
    if any(NUMBER.sub("#", name) != NUMBER.sub("#", first) for _, name in examples):
        return None
    needed = [m[1] for m in VARIABLE.finditer(ours)]
    found: list[str] = []
    for column in zip(*numbers):
        expression = _expression([values for values, _ in examples], column, needed)
        if expression is None:
            return None
        needed = [variable for variable in needed if f"{{{variable}" not in expression]
        found.append(expression)
    pieces = iter(found)
    template = NUMBER.sub(lambda _: str(next(pieces)), first)
    return template if all(fill(template, values) == name for values, name in examples) else None


def _expression(values: list[dict[str, int]], column: tuple[int, ...], needed: list[str]) -> str | None:
    """A variable the name still needs and that fits, else the number itself."""
    for variable in needed:
        shifts = {number - v[variable] for v, number in zip(values, column)}
        if len(shifts) == 1:
            shift = shifts.pop()
            return f"{{{variable}{shift:+d}}}" if shift else f"{{{variable}}}"
    return str(column[0]) if len(set(column)) == 1 else None
