"""Lists and tables of truths as rows of text."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.core import bounds
from converter.core.errors import ConverterError
from converter.core.nearest import meant
from converter.core.text import from_cell
from converter.use.images import IMAGE_SUFFIXES, VOLUME_SUFFIXES, is_image, is_volume
from densenet.bounds import read_small

SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True)
class Sheet:
    """Rows of equal length.

    Attributes:
        columns: their names; ``column 1`` and so on where the file gives none.
        rows: the values, without blanks around them.
        path: the column of paths, where the file's form says which.
    """

    columns: Sequence[str]
    rows: list[list[str]]
    where: str
    path: int | None = None

    def place_of(self, column: str) -> int:
        """Where a column stands.

        Raises:
            ConverterError: there is none of that name.
        """
        if column in self.columns:
            return self.columns.index(column)
        hint = meant(column, self.columns) or f"; there are {', '.join(self.columns[:20])}"
        raise ConverterError(f"{self.where}: no column is called {column}{hint}")


def read_text(path: Path) -> str:
    """A text in UTF-8, with or without a byte order mark.

    Raises:
        ConverterError: it is none, or larger than a gigabyte.
    """
    try:
        return read_small(path, bounds.TRUTHS).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConverterError(f"{path}: cannot be read as text ({error})") from error


def read_sheet(path: Path, text: str) -> Sheet:
    """A table: commas, semicolons or tabs between values, the names of columns first.

    A first line that names an image is a row, not names.  The apostrophe that our own tables put before what a
    spreadsheet would compute is no part of a value.

    Raises:
        ConverterError: it is none, or a row has another number of values.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(("," if path.suffix.lower() == ".csv" else "\t", ",", ";", "\t"), key=first.count)
    try:
        lines = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if any(row)]
    except csv.Error as error:
        raise ConverterError(f"{path}: damaged ({error})") from error
    if not lines:
        raise ConverterError(f"{path}: is empty")
    rows = [[from_cell(value.strip()) for value in row] for row in lines]
    named = not any(_is_image(value) for value in rows[0])
    columns = rows.pop(0) if named else [f"column {i + 1}" for i in range(len(rows[0]))]
    if len(columns) < 2 or not rows:
        raise ConverterError(f"{path}: has no rows of a path and a truth")
    for i, row in enumerate(rows):
        if len(row) != len(columns):
            raise ConverterError(f"{path}: row {i + 1} has {len(row)} values for {len(columns)} columns")
    if named and len(set(columns)) != len(columns):
        twice = next(name for name, count in Counter(columns).items() if count > 1)
        raise ConverterError(f"{path}: two columns are called {twice or 'nothing'}")
    return Sheet(columns, rows, str(path))


ENDINGS = "|".join(map(re.escape, sorted({*IMAGE_SUFFIXES, *VOLUME_SUFFIXES})))
LINE = re.compile(rf"(.*?(?:{ENDINGS}))[\s,]+(\S.*)", re.IGNORECASE)
"""A path up to its ending, and what follows: both may have blanks in them."""


def listed(path: Path, text: str) -> Sheet:
    """A list: a path and a label a line (ImageNet's val.txt), or a path and several numbers (CheXNet's).

    Raises:
        ConverterError: a line is no such thing.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = LINE.fullmatch(line.strip())
        pair = parts.groups() if parts else tuple(line.strip().rsplit(None, 1))
        if len(pair) != 2:
            raise ConverterError(f"{path}: line {number} is no path and label: {line.strip()[:60]}")
        rows.append([pair[0].strip(), pair[1].strip()])
    if not rows:
        raise ConverterError(f"{path}: is empty")
    several = [row[1].replace(",", " ").split() for row in rows]
    if len(several[0]) > 1 and all(value in ("0", "1", "-1") for values in several for value in values):
        width = len(several[0])
        if odd := next((row[0] for row, values in zip(rows, several) if len(values) != width), None):
            raise ConverterError(f"{path}: {odd} has another number of values than the first line, which has {width}")
        return Sheet(
            ["path", *(str(i + 1) for i in range(width))],
            [[row[0], *values] for row, values in zip(rows, several)],
            str(path),
            0,
        )
    return Sheet(["path", ""], rows, str(path), 0)


def _is_image(value: str) -> bool:
    return is_image(Path(value)) or is_volume(Path(value))
