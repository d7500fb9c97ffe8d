"""Rows of many images as tables and arrays, in the order of the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, UnreadableFile
from converter.use.activation import activated
from converter.use.predictor import Predictor
from converter.use.rows import Rows
from converter.use.tables import array, columns_of, table


@dataclass(frozen=True)
class OfHead:
    """What makes scores and a class of one head's logits; of a single head the name is empty."""

    name: str
    labels: tuple[str, ...]
    activation: str
    classes: int

    @classmethod
    def every(cls, predictor: Predictor) -> list[OfHead]:
        """Those of a network, in the order of its logits; none where it gives features alone."""
        found = predictor.by_head.items()
        return [
            cls(name, one.labels, one.activation, one.network.config.num_classes)
            for name, one in found
            if one.network.config.num_classes
        ]

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> OfHead:
        """The one that ``asdict`` made this of.

        Raises:
            LookupError, TypeError: none did.
        """
        labels = tuple(map(str, said["labels"]))
        return cls(str(said["name"]), labels, str(said["activation"]), int(said["classes"]))

    def values(self, logits: Array) -> list[str | np.float32]:
        """What a table says of an image's logits (classes,): the best class, what that scores, and what all do."""
        scores = activated(logits[None], self.activation).astype(np.float32)[0]
        best = int(logits.argmax())
        return [self.labels[best] if self.labels else str(best), scores[best], *scores]


def values(heads: Sequence[OfHead], logits: Array) -> list[str | np.float32]:
    """The same of several heads, whose logits stand side by side."""
    result: list[str | np.float32] = []
    at = 0
    for head in heads:
        result += head.values(logits[at : at + head.classes])
        at += head.classes
    return result


@dataclass
class Told:
    """What is to be said of rows that were written.

    Attributes:
        images: how many there were.
        failed: why some have no answer, each line beginning with the image.
        said: how images were read, where that was a choice, and of how many.
    """

    images: int = 0
    failed: list[str] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)

    def add(self, rows: Rows) -> None:
        """Count some more."""
        self.images += len(rows.names)
        self.failed += (rows.failed[place] for place in sorted(rows.failed))
        self.said.update(rows.said)

    def notes(self) -> list[str]:
        """Each line once, with how many images it was said of."""
        return [f"{line} ({count} image{'s' * (count > 1)})" for line, count in self.said.items()]


class Results:
    """A table and an array that take rows."""

    def __init__(self, heads: Sequence[OfHead], row: Any, keep: Any) -> None:
        self.heads, self.row, self.keep = heads, row, keep

    def add(self, rows: Rows) -> None:
        """Write what became of a block."""
        for place, logits, *more in zip(rows.places, *rows.outputs):
            self.one(rows.names[place], logits, more)

    def one(self, name: str, logits: Array, more: Sequence[Array]) -> None:
        """Write an image's logits (classes,), and what else there is."""
        if self.row is not None:
            self.row(name, values(self.heads, logits))
        if self.keep is not None:
            self.keep(name, more[0])


@contextmanager
def results(heads: Sequence[OfHead], output: Path | None, features: Path | None, *, force: bool) -> Iterator[Results]:
    """A table and an array that are there, whole, when the block ends well.

    Raises:
        ConverterError: one of them cannot be written.
    """
    names = columns_of({head.name: (head.labels, head.classes) for head in heads})
    with ExitStack() as files:
        row = files.enter_context(table(output, names, force=force)) if output is not None else None
        keep = files.enter_context(array(features, force=force)) if features is not None else None
        yield Results(heads, row, keep)


def said_of(heads: Sequence[OfHead]) -> list[dict[str, Any]]:
    """Heads as plain JSON values."""
    return [asdict(head) for head in heads]


def heads_of(header: Mapping[str, Any], where: Path) -> list[OfHead]:
    """The heads that a file of rows tells of.

    Raises:
        UnreadableFile: it is damaged.
    """
    try:
        return [OfHead.read(head) for head in header["heads"]]
    except (LookupError, TypeError, ValueError, ConverterError) as error:
        raise UnreadableFile(f"{where}: damaged ({error})") from error
