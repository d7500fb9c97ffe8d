"""Image files by their paths."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.use.sets.opened import stamp
from converter.use.sets.record import Record


@dataclass(frozen=True)
class Listed:
    """Files of a folder, a list or a table; see :class:`converter.use.sets.record.Part`."""

    name: str
    paths: Sequence[Path]

    @property
    def count(self) -> int:
        """How many files."""
        return len(self.paths)

    def stamp(self) -> str:
        """Of all names, sizes and times."""
        told = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            told.update(f"{path}\n{stamp(str(path))}\n".encode("utf-8", "surrogateescape"))
        return told.hexdigest()

    def sizes(self) -> str:
        """Of all names and sizes: what does not differ in a copy elsewhere."""
        told = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            told.update(f"{path}\n{stamp(str(path)).partition(' ')[0]}\n".encode("utf-8", "surrogateescape"))
        return told.hexdigest()

    def changed(self) -> bool:
        """No: what is found out of files is their names."""
        return False

    def portion(self, start: int, count: int) -> tuple["Listed", int]:
        """Those files alone."""
        return Listed(self.name, self.paths[start : start + count]), 0

    def records(self, start: int = 0) -> Iterator[Record]:
        """The files; whether one is there is known when it is decoded."""
        for path in self.paths[start:]:
            yield Record(str(path), path)
