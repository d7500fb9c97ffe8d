"""Which output of a network a written class is: by its name, its synset, its number, or its place in order."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from converter.core.errors import ConverterError
from converter.core.nearest import meant
from converter.use.evaluation.dataset import few
from densenet.labels import imagenet_classes, imagenet_synsets

SYNSET = re.compile(r"(n\d{8})(?:[-_ ].*)?")
"""WordNet's number, alone or before a name (Stanford Dogs: n02085620-Chihuahua)."""
PLACEHOLDER = re.compile(r"(?:LABEL|class)[_ ]?\d+")
NEGATIVE = re.compile(r"\s*-\d+(\.\d+)?\s*")
INTEGER = re.compile(r"(-?\d+)\.0+")
"""A class' number as tables have it once a value was missing: 3.0."""
DIGITS = 9
"""Of a class' number, at most."""
SHOWN = 4
"""Pairs of a class and an output that a note shows."""


@dataclass(frozen=True)
class Outputs:
    """What is known of a network's outputs.

    Attributes:
        count: how many there are.
        labels: their names, empty if unknown.
    """

    count: int
    labels: Sequence[str] = ()

    def name(self, index: int) -> str:
        """An output's name, or its number."""
        return self.labels[index] if self.labels and self.labels[index] else str(index)

    def by_name(self) -> dict[str, int]:
        """Places of names that only one output has, without regard to case, underscores and hyphens.

        A name may be a list of synonyms, as ImageNet's are; the first stands for all.
        """
        result: dict[str, int] = {}
        for spelled in (simple, lambda name: simple(name.partition(",")[0])):
            keys = [spelled(name) for name in self.labels]
            once = {key for key, count in Counter(keys).items() if key and count == 1}
            result = {key: i for i, key in enumerate(keys) if key in once} | result
        return result

    @property
    def are_imagenets(self) -> bool:
        """Whether they are ImageNet's 1000 classes in the usual order, as far as names tell."""
        if self.count != len(imagenet_classes()):
            return False
        if not self.labels or all(PLACEHOLDER.fullmatch(name) for name in self.labels):
            return True
        same = sum(
            simple(name.partition(",")[0]) == simple(known) for name, known in zip(self.labels, imagenet_classes())
        )
        return same > self.count // 2  # lists differ in synonyms


@dataclass(frozen=True)
class Match:
    """Written classes as outputs: ``how`` in words, and notes that people should read."""

    index: Mapping[str, int]
    how: str
    notes: tuple[str, ...] = ()


def simple(name: str) -> str:
    """A name as it is compared; the sign of a number is no hyphen."""
    if NEGATIVE.fullmatch(name):
        return name.strip()
    return " ".join(re.sub(r"[_\-]+", " ", name).casefold().split())


def match_classes(
    names: Sequence[str], outputs: Outputs, where: str, *, folders: bool = False, said: bool = False
) -> Match:
    """Which output each written class is.

    Args:
        names: the classes, none twice; sorted, but in the order that means something where they are ``said``.
        outputs: the network's.
        where: what errors name.
        folders: whether they are names of folders, whose order means something, or values that were written.
        said: whether the data set says which classes there are, in their order.

    Raises:
        ConverterError: there is no one reading of them.
    """
    if not folders and not said and not set(names) & set(outputs.labels):
        plain = {name: INTEGER.sub(r"\1", name) if INTEGER.fullmatch(name) else name for name in names}
        if any(name != number for name, number in plain.items()):
            match = match_classes(sorted(set(plain.values())), outputs, where)
            return replace(match, index={name: match.index[number] for name, number in plain.items()})
    found = _by_name(names, outputs, where) or _by_synset(names, outputs, where)
    found = found or _by_number(names, outputs, where, folders or said)
    if found:
        return found
    if len(names) != outputs.count:
        what = f"{len(names)} subfolders" if folders else f"{len(names)} names of classes ({few(names)})"
        raise ConverterError(f"{where}: {what} for a model of {outputs.count} classes")
    pairs = "; ".join(f"{name} is {outputs.name(i)}" for i, name in enumerate(names[:SHOWN]))
    more = " ..." if len(names) > SHOWN else ""
    kind = "in order of their names"
    if said:
        kind = "in the order in which the data set names them"
    elif all(name.isdecimal() for name in names):
        kind += " as text, 10 before 2, as torchvision's ImageFolder"
    return Match(
        {name: i for i, name in enumerate(names)},
        f"classes matched {kind}",
        (f"no class is called as an output is, so they are matched {kind}: {pairs}{more}",),
    )


def _by_name(names: Sequence[str], outputs: Outputs, where: str) -> Match | None:
    """All by name; None if not one is."""
    places, counts = {label: i for i, label in enumerate(outputs.labels)}, Counter(outputs.labels)
    exact = {name: places[name] for name in names if counts[name] == 1}
    loose = outputs.by_name()
    found = {name: loose[simple(name)] for name in names if simple(name) in loose} | exact
    twice = [name for name in names if name not in found and name in places]
    if twice:
        raise ConverterError(f"{where}: several outputs are called {twice[0]}; which one is meant is not said")
    if not found:
        return None
    strangers = [name for name in names if name not in found]
    if strangers:
        if all(name.isdecimal() for name in names):
            return None  # numbers, a few of which happen to be names
        hint = meant(strangers[0], outputs.labels)
        raise ConverterError(f"{where}: {few(strangers)}: no output is called so, as {few(found, 3)} are{hint}")
    if len(set(found.values())) != len(found):
        index = next(i for i, count in Counter(found.values()).items() if count > 1)
        same = [name for name, i in found.items() if i == index]
        raise ConverterError(f"{where}: {' and '.join(same)} are both {outputs.name(index)}")
    notes: tuple[str, ...] = ()
    if all(name.isdecimal() for name in names) and any(str(i) != name for name, i in found.items()):
        notes = ("the numbers are taken for names of outputs, which they are, not for places in order",)
    return Match(found, "classes matched by name", notes)


def _by_synset(names: Sequence[str], outputs: Outputs, where: str) -> Match | None:
    """By WordNet's numbers, for ImageNet's 1000 classes."""
    found = [SYNSET.fullmatch(name) for name in names]
    if not outputs.are_imagenets or not all(found):
        return None
    places = {synset: i for i, synset in enumerate(imagenet_synsets())}
    index: dict[str, int] = {}
    for name, parts in zip(names, found):
        assert parts is not None
        if parts[1] not in places:
            raise ConverterError(f"{where}: {name} is none of ImageNet's 1000 classes")
        index[name] = places[parts[1]]
    return Match(index, "classes matched by synset (ImageNet-1k)")


def _by_number(names: Sequence[str], outputs: Outputs, where: str, ordered: bool) -> Match | None:
    """By the output's number, from 0, or from 1 where only that can be.

    Args:
        names, outputs, where: as for :func:`match_classes`.
        ordered: whether the order of the classes means something, too.
    """
    if not all(name.isascii() and name.removeprefix("-").isdecimal() for name in names):
        return None
    if ordered and any(name.startswith("-") or len(name) > DIGITS for name in names):
        return None
    numbers = [int(name[: DIGITS + 2]) for name in names]
    if ordered and not outputs.labels and len(names) == outputs.count and numbers != sorted(numbers):
        return None  # a network trained on such folders has their order as text
    if len(set(numbers)) != len(numbers):
        if ordered:
            return None
        twice = next(n for n, count in Counter(numbers).items() if count > 1)
        same = " and ".join(name for name, n in zip(names, numbers) if n == twice)
        raise ConverterError(f"{where}: {same} are both class {twice}")
    low, high = min(numbers), max(numbers)
    first = 1 if high == outputs.count and low >= 1 else 0
    if wrong := [(abs(n), name) for name, n in zip(names, numbers) if not first <= n < first + outputs.count]:
        raise ConverterError(f"{where}: class {max(wrong)[1][:40]} for a model of {outputs.count} classes")
    notes: tuple[str, ...] = ("the numbers of classes begin at 1",) if first else ()
    if low == 1 and not first:
        notes = ("the numbers of classes are taken to begin at 0, of which there are no images",)
    index = {name: n - first for name, n in zip(names, numbers)}
    if odd := [name for name, i in index.items() if name in outputs.labels and outputs.name(i) != name]:
        notes += (
            f"numbers are taken for places in order, though outputs are called so: {odd[0]} is "
            f"{outputs.name(index[odd[0]])}",
        )
    return Match(index, f"classes matched by number from {first}", notes)
