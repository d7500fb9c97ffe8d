"""A part of a run, for schedulers that start the same command many times: ``3/16``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from converter.core.errors import ConverterError

T = TypeVar("T")
WRITTEN = re.compile(r"(\d{1,6})/(\d{1,6})", re.ASCII)
NAMED = re.compile(r"(.+)\.(\d{1,6})-of-(\d{1,6})", re.ASCII)


@dataclass(frozen=True)
class Share:
    """The share ``number`` of ``count``, from 1.

    Raises:
        ConverterError: there is none of that number.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConverterError(
                f"--shard {self}: shards are 1/{self.count or 1} to {self.count or 1}/{self.count or 1}"
            )

    @classmethod
    def parse(cls, text: str) -> Share:
        """What people write.

        Raises:
            ConverterError: it is no share.
        """
        found = WRITTEN.fullmatch(text.strip())
        if not found:
            raise ConverterError(f"--shard {text}: write which of how many, 3/16")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Its items, which stand in a row; shares differ by one item at most."""
        return items[(self.number - 1) * len(items) // self.count : self.number * len(items) // self.count]

    def beside(self, target: Path) -> Path:
        """Where its results stand until they are joined: ``a.csv.03-of-16`` for ``a.csv``."""
        digits = len(str(self.count))
        return target.with_name(f"{target.name}.{self.number:0{digits}}-of-{self.count}")


def shares_of(target: Path) -> list[Path]:
    """The results of all shares that stand beside a target, in order.

    Raises:
        ConverterError: there are none, some are missing, or they are of several counts.
    """
    found: dict[int, dict[int, Path]] = {}
    folder = target.parent if target.parent.is_dir() else Path()
    for path in folder.iterdir():
        named = NAMED.fullmatch(path.name)
        if named and named[1] == target.name and 1 <= int(named[2]) <= int(named[3]):
            share = Share(int(named[2]), int(named[3]))
            if share.beside(path.with_name(target.name)) == path:  # written as such results are
                found.setdefault(share.count, {})[share.number] = path
    if len(found) != 1:
        why = f"of {' and of '.join(map(str, sorted(found)))} shards; remove those that are not meant" if found else ""
        raise ConverterError(f"{target}: {'there are results ' + why if found else 'no results of shards beside it'}")
    ((count, paths),) = found.items()
    if lacking := [number for number in range(1, count + 1) if number not in paths]:
        some = ", ".join(f"{number}/{count}" for number in lacking[:6]) + (" ..." if len(lacking) > 6 else "")
        raise ConverterError(f"{target}: {len(lacking)} of {count} shards are not there yet: {some}")
    return [paths[number] for number in range(1, count + 1)]
