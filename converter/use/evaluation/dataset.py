"""Images and what is true of them, as people keep it: class folders, lists, tables."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.errors import ConverterError
from converter.use.evaluation.files import Finder
from converter.use.evaluation.table import SUFFIXES, Sheet, listed, read_sheet, read_text
from converter.use.images import SPLITS, is_image, is_volume
from converter.use.sets.find import ImageSet, means_shards, open_shards, shards_of
from converter.use.sets.opened import is_remote
from converter.use.sets.places import Places
from densenet.bounds import is_pipe


@dataclass(frozen=True)
class Dataset:
    """Images with truths.

    Attributes:
        truths: a folder with one subfolder of images (or volumes, where there are none) a class; a list,
            ``path label`` a line; or a table (.csv, .tsv) with a column of paths and one of classes, or one for
            each label; or shards that hold images and classes: WebDataset's tars, Parquet files, a folder or pattern
            of them, ``hf://datasets/owner/name``.
        images: the folder in which the paths of a list or table begin; default: where it lies itself.
        path_column: the table's column of paths; default: the one whose values are files.
        name: what people call it; default: the name of ``truths``.

    Example:
        >>> from converter import Dataset
        >>> Dataset("images", name="Ten digits").title
        'Ten digits'
    """

    truths: Path | str
    images: Path | None = None
    path_column: str = ""
    name: str = ""

    @classmethod
    def of(cls, given: "str | Path | Dataset") -> "Dataset":
        """A path is the dataset that lies there."""
        return given if isinstance(given, Dataset) else cls(given)

    @property
    def title(self) -> str:
        """What to call it."""
        if is_remote(str(self.truths)):
            return self.name or str(self.truths).partition("://")[2].removeprefix("datasets/")
        return self.name or Path(self.truths).resolve().name


@dataclass(frozen=True)
class Truths:
    """What is written of every image; how it is meant depends on the network.

    Attributes:
        where: how errors call it.
        kind: ``folders``, ``list`` or ``table``.
        images: files, in the order written; of shards :class:`converter.use.sets.places.Places`.
        columns: of each image the written values, by the name of their column.  Of folders and lists one column
            without a name holds the class; a list of several values has columns called 1, 2, 3 ...
        names: every class that folders are called, in order, also those without images.
        missing: images that are not there, as written, and why.
        notes: what people should know.
        found: the shards, where they are that.
    """

    where: str
    kind: str
    images: Sequence[Any]
    columns: dict[str, list[str]]
    names: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    found: ImageSet | None = None

    def of_head(self, head: str) -> "Truths":
        """What is written of one of several heads: the table's column of its name alone, where there is one."""
        return replace(self, columns={head: self.columns[head]}) if head in self.columns else self


def read_truths(dataset: Dataset) -> Truths:
    """Everything that is written, images by path and still unread.

    Raises:
        ConverterError: it cannot be read, or no image is found.
    """
    if means_shards(str(dataset.truths)):
        return _sharded(dataset)
    path = Path(dataset.truths)
    if path.is_dir():
        if dataset.images or dataset.path_column:
            raise ConverterError(f"{path}: is a folder of classes; only lists and tables have paths to be looked for")
        return _folders(path)
    piped = is_pipe(path)
    if not path.is_file() and not piped:
        raise ConverterError(f"{path}: no such folder, list or table")
    folder = dataset.images or (Path() if piped else path.parent)
    if not folder.is_dir():
        raise ConverterError(f"{folder}: no such folder")
    table = path.suffix.lower() in SUFFIXES
    if dataset.path_column and not table:
        raise ConverterError(f"{path}: is no table; a line is a path and a label, and no column has a name")
    text = read_text(path)
    sheet = read_sheet(path, text) if table else listed(path, text)
    return _found(path, "table" if table else "list", sheet, Finder(folder), dataset.path_column)


def _folders(folder: Path) -> Truths:
    classes = sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith((".", "__")))
    if classes and {sub.name.lower() for sub in classes} <= SPLITS:
        names = ", ".join(sub.name for sub in classes)
        raise ConverterError(f"{folder}: holds {names}, which are parts of a data set, not classes; name one of them")
    images: list[Path] = []
    written: list[str] = []
    others: Counter[str] = Counter()
    files = [(sub.name, path) for sub in classes for path in sorted(sub.rglob("*"))]
    taken = is_image if any(is_image(path) for _, path in files) else is_volume
    for name, path in files:
        if taken(path):
            images.append(path)
            written.append(name)
        elif path.is_file() and not path.name.startswith("."):
            others[path.suffix.lower() or path.name] += 1
    if not images:
        raise ConverterError(f"{folder}: needs one subfolder of images for each class")
    notes = []
    if others:
        found = few(f"{count} {suffix}" for suffix, count in others.most_common())
        notes.append(f"files whose names do not end as images' do are left out: {found}")
    if empty := [sub.name for sub in classes if sub.name not in set(written)]:
        notes.append(f"there are no images of {few(empty)}")
    return Truths(str(folder), "folders", images, {"": written}, tuple(sub.name for sub in classes), notes=tuple(notes))


def _sharded(dataset: Dataset) -> Truths:
    """The images of shards, by their places, and what is written of them.

    Raises:
        ConverterError: they cannot be read, have other columns than each other, or no class.
    """
    where = str(dataset.truths)
    if dataset.images or dataset.path_column:
        raise ConverterError(f"{where}: holds images; only lists and tables have paths to be looked for")
    found = open_shards(shards_of([where]))
    first = found.shards[0]
    for shard in found.shards[1:]:
        if list(shard.columns) != list(first.columns) or shard.names != first.names:
            raise ConverterError(f"{shard.part.name}: has other columns or classes than {first.part.name}")
    columns = {name: [value for shard in found.shards for value in shard.columns[name]] for name in first.columns}
    index, kind = np.arange(found.count), "table"
    if list(columns) == [""]:
        if any("|" in value for value in columns[""]):
            columns = {"labels": columns[""]}
        else:
            index, kind = np.array([i for i, value in enumerate(columns[""]) if value], np.int64), "list"
            columns = {"": [value for value in columns[""] if value]}
    if not columns or not len(index):
        raise ConverterError(f"{where}: none of its {found.count} images has a class; of {found.record(0).name}, say")
    images = Places(found, index)
    return Truths(where, kind, images, columns, first.names, dict(found.broken), found.notes, found)


def _found(path: Path, kind: str, sheet: Sheet, finder: Finder, path_column: str) -> Truths:
    """The rows whose images are there.

    Raises:
        ConverterError: none is, or two rows mean one file.
    """
    place = sheet.place_of(path_column) if path_column else _path_column(path, sheet, finder)
    images: list[Path] = []
    rows: list[list[str]] = []
    missing: dict[str, str] = {}
    seen: dict[Path, str] = {}
    for row in sheet.rows:
        written = row[place]
        found = finder.find(written)
        if isinstance(found, str):
            missing[written] = found
            continue
        if found in seen:
            if seen[found] == written:
                raise ConverterError(f"{path}: {written} is named twice")
            raise ConverterError(
                f"{path}: {seen[found]} and {written} would both be {found}; --images FOLDER says where paths begin"
            )
        seen[found] = written
        images.append(found)
        rows.append(row)
    if not images:
        first = next(iter(missing))
        raise ConverterError(
            f"{path}: none of its {len(missing)} images is below {finder.folder} ({first}: {missing[first]}); "
            "--images FOLDER says where they are"
        )
    columns = {name: [row[i] for row in rows] for i, name in enumerate(sheet.columns) if i != place}
    return Truths(str(path), kind, images, columns, missing=missing)


FIRST = 50
"""Rows that are looked at to find the column of paths."""


def _path_column(path: Path, sheet: Sheet, finder: Finder) -> int:
    """The column most of whose first values are files; of several the one that names none twice.

    Raises:
        ConverterError: none has any, or it is not clear which is meant.
    """
    if sheet.path is not None:
        return sheet.path
    first = [[row[i] for row in sheet.rows[:FIRST]] for i in range(len(sheet.columns))]
    found = [sum(isinstance(finder.find(value), Path) for value in values) for values in first]
    best = [i for i, count in enumerate(found) if count == max(found)]
    if len(best) > 1:  # classes called 0 and 1, say, beside images called 0.png and 1.png
        best = [i for i in best if len(set(first[i])) == len(first[i])] or best
    if not max(found):
        raise ConverterError(
            f"{path}: no column of {few(sheet.columns)} holds paths of files below {finder.folder}; --images FOLDER "
            "says where they are, --path-column NAME which column"
        )
    if len(best) > 1:
        names = few(sheet.columns[i] for i in best)
        raise ConverterError(f"{path}: several columns ({names}) hold paths of files; --path-column NAME says which")
    return best[0]


def few(names: Iterable[str], most: int = 6) -> str:
    """Some names, and how many more."""
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")
