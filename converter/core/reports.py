"""Reports as files: of the kinds that names end in, and over nobody else's."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from converter.core.errors import ConverterError
from converter.core.files import check_replaceable, write_bytes
from converter.core.metadata import TOOL

Found = TypeVar("Found")

NAME = TOOL.partition(" ")[0]
SAID = re.compile(rb'^  "tool": "%b ' % NAME.encode(), re.MULTILINE)
"""What a report in JSON says of itself."""
MARK = f"<!-- {TOOL} -->"
"""The last line of the others, which nobody sees; a table of comma-separated values has only its columns."""


@dataclass(frozen=True)
class Reports(Generic[Found]):
    """The reports there are of one kind of result.

    Attributes:
        writers: what makes a text of a result, by the ending of the file's name.
        columns: the first lines that a ``.csv`` may have.
    """

    writers: Mapping[str, Callable[[Found], str]]
    columns: tuple[str, ...] = ()

    def check(self, paths: Iterable[Path], *, force: bool = False) -> None:
        """Look at where reports are to be written before the work is done; a report may be replaced.

        Raises:
            ConverterError: a name ends in nothing we write.
            CannotWrite: a file is there that this tool did not write, or that is read-only or another user's.
        """
        for path in paths:
            if path.suffix not in self.writers:
                raise ConverterError(f"{path}: no such report; end the name in {', '.join(self.writers)}")
            check_replaceable(path, self._is_one, force=force)

    def write(self, paths: Iterable[Path], found: Found, *, force: bool = False) -> None:
        """Write reports of the kinds that their names end in.

        Raises:
            CannotWrite: a file cannot be written.
        """
        for path in paths:
            text = self.writers[path.suffix](found)
            if path.suffix not in (".json", ".csv"):
                text = f"{text.rstrip()}\n{MARK}\n"
            write_bytes(path, text.encode(), force=force)

    def _is_one(self, path: Path) -> bool:
        """Whether a file says that this tool wrote it."""
        content = path.read_bytes()
        if path.suffix == ".csv":
            return content.partition(b"\n")[0].rstrip() in [line.encode() for line in self.columns]
        if path.suffix == ".json":
            return SAID.search(content) is not None
        return content.rstrip().rpartition(b"\n")[2].startswith(f"<!-- {NAME} ".encode())
