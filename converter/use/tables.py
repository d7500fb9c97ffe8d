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
from converter.core.files import replacing
from converter.core.text import cell, path_cell, well_formed

FIRST = ("path", "label", "score")
"""Before the classes: the image, its best class and what that scores."""
GROUP = 1024
"""Rows of a Parquet file that are written together."""

Row = Callable[[str, str, np.float32, Array], None]
"""Takes an image's path, its best class and what that scores, and the scores (classes,) of all, float32."""


def columns(labels: Sequence[str], classes: int) -> list[str]:
    """Names of the classes' columns: the labels, with the class' number where that would be taken twice.

    ImageNet has two cranes and two maillots; without labels the numbers are the names.
    """
    names = [labels[i] if labels else str(i) for i in range(classes)]
    taken = {*FIRST, *(name for name, count in Counter(names).items() if count > 1)}
    return [f"{name} ({i})" if name in taken else name for i, name in enumerate(names)]


def check_table(path: Path) -> None:
    """Refuse a table of a kind that is not written, before the work.

    Raises:
        ConverterError: its name ends in nothing we write.
        Unavailable: what writes it is not installed.
    """
    if path.suffix not in KINDS:
        raise ConverterError(f"{path}: end the name in {', '.join(KINDS)}")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise Unavailable(f"{path}: Parquet needs pyarrow: pip install 'densenet-converter[parquet]'; or write .csv")


@contextmanager
def table(path: Path, classes: Sequence[str]) -> Iterator[Row]:
    """A table that is there, whole, when the block ends well: path, label, score, then a column for each class.

    Raises:
        ConverterError: no such kind, or the file cannot be written.
    """
    check_table(path)
    with replacing(path) as file, KINDS[path.suffix](file, [*FIRST, *map(well_formed, classes)]) as row:
        yield lambda name, label, score, scores: row(well_formed(name), well_formed(label), score, scores)


@contextmanager
def _csv(file: IO[bytes], names: Sequence[str]) -> Iterator[Row]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(map(cell, names))
    # str() of a float32 is the shortest text that reads back as the same float32.
    yield lambda name, label, score, scores: writer.writerow([path_cell(name), cell(label), score, *scores])
    text.flush()
    text.detach()


@contextmanager
def _jsonl(file: IO[bytes], names: Sequence[str]) -> Iterator[Row]:
    def row(name: str, label: str, score: np.float32, scores: Array) -> None:
        values = [name, label, *(float(str(value)) for value in (score, *scores))]
        file.write(json.dumps(dict(zip(names, values)), ensure_ascii=False, allow_nan=False).encode() + b"\n")

    yield row


@contextmanager
def _parquet(file: IO[bytes], names: Sequence[str]) -> Iterator[Row]:
    import pyarrow  # noqa: PLC0415 (for few)
    from pyarrow import parquet  # noqa: PLC0415

    kinds = [pyarrow.string(), pyarrow.string(), *[pyarrow.float32()] * (len(names) - 2)]
    schema = pyarrow.schema(list(zip(names, kinds)))
    waiting: list[tuple[Any, ...]] = []
    with parquet.ParquetWriter(file, schema) as writer:

        def write() -> None:
            if waiting:
                values = [pyarrow.array(column, kind) for column, kind in zip(zip(*waiting), kinds)]
                writer.write_table(pyarrow.Table.from_arrays(values, schema=schema))
                waiting.clear()

        def row(name: str, label: str, score: np.float32, scores: Array) -> None:
            waiting.append((name, label, score, *scores))
            if len(waiting) == GROUP:
                write()

        yield row
        write()


KINDS: Mapping[str, Any] = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


@contextmanager
def array(path: Path) -> Iterator[Callable[[str, Array], None]]:
    """A ``.npy`` of one row an image, float32 (N, width), beside a CSV that says which image each row is of.

    Raises:
        CannotWrite: one of them cannot be written.
    """
    with replacing(path) as file, replacing(beside(path)) as index:
        text = io.TextIOWrapper(index, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(["row", "path"])
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
