"""What a network says of many images as a table: CSV, JSON lines or Parquet, written row by row."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, Unavailable
from converter.core.files import check_replaceable, replacing
from converter.core.metadata import parsed
from converter.core.text import cell, path_cell, well_formed

INDEX = ("row", "path")
"""The columns of the CSV beside an array."""
FIRST = ("path", "label", "score")
"""Before the classes: the image, its best class and what that scores."""
GROUP = 1024
"""Rows of a Parquet file that are written together."""

LINE = 1 << 24
"""Characters of a first line that are read; 100,000 classes have fewer."""

Row = Callable[[str, Sequence[str | np.float32]], None]
"""Takes an image's path, and for each head its best class, what that scores, and the scores of all."""


def columns(labels: Sequence[str], classes: int) -> list[str]:
    """Names of the classes' columns: the labels, with the class' number where that would be taken twice.

    ImageNet has two cranes and two maillots; without labels the numbers are the names.
    """
    names = [labels[i] if labels else str(i) for i in range(classes)]
    taken = {*FIRST, *(name for name, count in Counter(names).items() if count > 1)}
    return [f"{name} ({i})" if name in taken else name for i, name in enumerate(names)]


def columns_of(heads: Mapping[str, tuple[Sequence[str], int]]) -> dict[str, type]:
    """All columns behind the path, and what they hold: of each head its best class, what that scores, and its classes.

    Args:
        heads: labels and number of classes, by name; of several heads the names stand before those of their columns.
    """
    result: dict[str, type] = {}
    for head, (labels, classes) in heads.items():
        at = f"{head}." if head else ""
        result |= {f"{at}label": str, f"{at}score": float}
        result |= {at + name: float for name in columns(labels, classes)}
    return result


def check_table(path: Path, *, force: bool) -> None:
    """Refuse a table of a kind that is not written, or over one of somebody else, before the work.

    Raises:
        ConverterError: its name ends in nothing we write.
        Unavailable: what writes it is not installed.
        CannotWrite: a file is there that this tool did not write.
    """
    if path.suffix not in KINDS:
        raise ConverterError(f"{path}: end the name in {', '.join(KINDS)}")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise Unavailable(f"{path}: Parquet needs pyarrow: pip install 'densenet-converter[parquet]'; or write .csv")
    check_replaceable(path, _is_table, force=force)


def check_array(path: Path, *, force: bool) -> None:
    """Refuse to write over an array of somebody else, or over what stands where its rows are told.

    Raises:
        ConverterError: its name does not end in ``.npy``.
        CannotWrite: a file is there that this tool did not write.
    """
    if path.suffix != ".npy":
        raise ConverterError(f"{path}: end the name in .npy")
    check_replaceable(path, lambda path: beside(path).is_file() and _is_index(beside(path)), force=force)
    check_replaceable(beside(path), _is_index, force=force)


def _is_index(path: Path) -> bool:
    return _first_line(path).rstrip() == ",".join(INDEX)


def _is_table(path: Path) -> bool:
    """Whether it has the columns of our tables: people's own truths are called so, too."""
    if path.suffix == ".parquet":
        from pyarrow import parquet  # noqa: PLC0415 (for few)

        names = list(parquet.read_schema(path).names)
    elif path.suffix == ".jsonl":
        first = parsed(_first_line(path))
        names = list(first) if isinstance(first, dict) else []
    else:
        names = next(csv.reader([_first_line(path)]), [])
    return len(names) > 2 and names[0] == "path" and all(a.endswith(b) for a, b in zip(names[1:], FIRST[1:]))


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline(LINE)


@contextmanager
def table(path: Path, columns: Mapping[str, type], *, force: bool) -> Iterator[Row]:
    """A table that is there, whole, when the block ends well: the path, then columns as :func:`columns_of` names them.

    Raises:
        CannotWrite: the file cannot be written.
    """
    names = {"path": str} | {well_formed(name): kind for name, kind in columns.items()}
    with replacing(path, force=force) as file, KINDS[path.suffix](file, names) as row:
        yield lambda name, values: row(well_formed(name), [_well_formed(value) for value in values])


def _well_formed(value: str | np.float32) -> str | np.float32:
    return well_formed(value) if isinstance(value, str) else value


def _cell(value: str | np.float32) -> str | np.float32:
    return cell(value) if isinstance(value, str) else value


@contextmanager
def _csv(file: IO[bytes], names: Mapping[str, type]) -> Iterator[Row]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(map(cell, names))
    # str() of a float32 is the shortest text that reads back as the same float32.
    yield lambda name, values: writer.writerow([path_cell(name), *(_cell(value) for value in values)])
    text.flush()
    text.detach()


@contextmanager
def _jsonl(file: IO[bytes], names: Mapping[str, type]) -> Iterator[Row]:
    def row(name: str, values: Sequence[str | np.float32]) -> None:
        plain = [name, *(value if isinstance(value, str) else float(str(value)) for value in values)]
        file.write(json.dumps(dict(zip(names, plain)), ensure_ascii=False, allow_nan=False).encode() + b"\n")

    yield row


@contextmanager
def _parquet(file: IO[bytes], names: Mapping[str, type]) -> Iterator[Row]:
    import pyarrow  # noqa: PLC0415 (for few)
    from pyarrow import parquet  # noqa: PLC0415

    kinds = [pyarrow.string() if kind is str else pyarrow.float32() for kind in names.values()]
    schema = pyarrow.schema(list(zip(names, kinds)))
    waiting: list[tuple[Any, ...]] = []
    with parquet.ParquetWriter(file, schema) as writer:

        def write() -> None:
            if waiting:
                values = [pyarrow.array(column, kind) for column, kind in zip(zip(*waiting), kinds)]
                writer.write_table(pyarrow.Table.from_arrays(values, schema=schema))
                waiting.clear()

        def row(name: str, values: Sequence[str | np.float32]) -> None:
            waiting.append((name, *values))
            if len(waiting) == GROUP:
                write()

        yield row
        write()


KINDS: Mapping[str, Any] = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


@contextmanager
def array(path: Path, *, force: bool) -> Iterator[Callable[[str, Array], None]]:
    """A ``.npy`` of one row an image, float32 (N, width), beside a CSV that says which image each row is of.

    Raises:
        CannotWrite: one of them cannot be written.
    """
    with replacing(path, force=force) as file, replacing(beside(path), force=force) as index:
        text = io.TextIOWrapper(index, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(INDEX)
        shape, head = [0, 0], len(_npy_header((0, 0)))
        file.write(bytes(head))

        def row(name: str, values: Array) -> None:
            writer.writerow([shape[0], path_cell(well_formed(name))])
            shape[0], shape[1] = shape[0] + 1, len(values)
            file.write(values.astype("<f4", copy=False).tobytes())

        yield row
        file.seek(0)
        file.write(_npy_header((shape[0], shape[1])))
        text.flush()
        text.detach()


def beside(path: Path) -> Path:
    """The CSV beside an array: ``features.rows.csv`` of ``features.npy``."""
    return path.with_suffix(".rows.csv")


def _npy_header(shape: tuple[int, int]) -> bytes:
    """The head of a ``.npy`` of float32 whose length does not depend on how many rows there are."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue()
