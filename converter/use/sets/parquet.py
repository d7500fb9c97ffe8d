"""Parquet files of images as the Hub's data sets have them: a column of {bytes, path}, and columns of classes.

What columns are is said in the schema's metadata, as JSON under ``huggingface`` (datasets/arrow_writer.py,
``_build_metadata``; datasets/features/image.py: ``Image.pa_type``); where it is not, by their types.  Pages are read
one after the other, so that a group of rows need not fit into memory.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from math import isnan
from sys import intern
from typing import IO, Any

from converter.core import bounds
from converter.core.errors import Unavailable, UnreadableFile, first_line
from converter.core.text import well_formed
from converter.use.sets.labels import CLASS_KEYS
from converter.use.sets.opened import opened, size_of, stamp
from converter.use.sets.parquet_pages import Chunk, Pages, chunks, pages
from converter.use.sets.record import Part, Record
from converter.use.sets.shard import Shard
from densenet.volumes import Encoded

SAID = b"huggingface"
BUFFER = 1 << 16
"""Bytes of a column that are read at once."""
ROWS = 32
"""Rows that are in memory at once."""
SHARED = 1 << 20
"""Bytes of a dictionary beyond which its values are looked at whether they are equal: pyarrow writes smaller ones."""


def check_parquet(address: str) -> None:
    """Refuse before any work where nothing reads Parquet.

    Raises:
        Unavailable: pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise Unavailable(f"{address}: Parquet needs pyarrow: pip install 'densenet-converter[parquet]'")


@dataclass(frozen=True)
class Parquet:
    """A file; see :class:`converter.use.sets.record.Part`.

    Attributes:
        column: of images.
        groups: rows of each group.
        seen: the stamp of what was gone through.
    """

    address: str
    column: str
    groups: tuple[int, ...]
    seen: str = ""

    @property
    def name(self) -> str:
        """How errors call it."""
        return self.address

    @property
    def count(self) -> int:
        """Rows of all groups."""
        return sum(self.groups)

    def stamp(self) -> str:
        """Of its name, size and time."""
        return f"{self.address} {stamp(self.address)}"

    def changed(self) -> bool:
        """See :class:`converter.use.sets.record.Part`."""
        return self.seen != stamp(self.address)

    def portion(self, start: int, count: int) -> tuple[Part, int]:
        """Itself: any row can be gone to."""
        return self, start

    def records(self, start: int = 0) -> Iterator[Record]:
        """See :class:`converter.use.sets.record.Part`; of what a damaged group of rows holds, every record says so."""
        first = 0
        with _parquet(self.address) as found:
            for group, rows in enumerate(self.groups):
                if start < first + rows:
                    yield from self._of_group(found, group, first, max(start - first, 0))
                first += rows

    def _of_group(self, found: _Open, group: int, first: int, skipped: int) -> Iterator[Record]:
        import pyarrow  # noqa: PLC0415 (for few)

        row, rows, why = 0, self.groups[group], "fewer rows than the file says"
        try:
            unpacked, same = found.pages(self.column, group), _Same()
            several = unpacked.rows(ROWS)
            for batch in found.file.iter_batches(several, row_groups=[group], columns=[self.column], use_threads=False):
                if row + len(batch) > skipped:
                    values = batch.column(self.column)
                    for i in range(max(skipped - row, 0), min(len(batch), rows - row)):
                        value = values[i].as_py()
                        yield self._record(first + row + i, same(value) if unpacked.shared > SHARED else value)
                row += len(batch)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            why = f"the shard is damaged here ({first_line(error)})"
        for lost in range(max(row, skipped), rows):
            name = f"{self.address}:{first + lost}"
            yield Record(name, Encoded(name, b""), f"{name}: {why}")

    def _record(self, row: int, value: Any) -> Record:
        name = f"{self.address}:{row}"
        given = value if isinstance(value, Mapping) else {"bytes": value}
        if path := given.get("path"):
            name = well_formed(f"{name}:{path}")
        data = given.get("bytes")
        if not data:
            return Record(name, Encoded(name, b""), f"{name}: no bytes of an image")
        if len(data) > bounds.IMAGE:
            return Record(name, Encoded(name, b""), f"{name}: {len(data):,} bytes, {int(bounds.IMAGE):,} are read")
        return Record(name, Encoded(name, data))


class _Same:
    """Gives one object for equal images: those of a dictionary cost the file nothing, and need cost no more here."""

    def __init__(self) -> None:
        self.known: dict[bytes, bytes] = {}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: self(inner) for name, inner in value.items()}
        if isinstance(value, bytes) and len(value) > 1 << 10:
            return self.known.setdefault(hashlib.blake2b(value, digest_size=16).digest(), value)
        return value


@dataclass
class _Open:
    """An open file: as pyarrow has it, and where the pages of each group of rows stand; ``left`` may be looked at."""

    file: Any
    raw: IO[bytes]
    size: int
    chunks: list[list[Chunk]]
    left: int

    def pages(self, column: str, group: int | None = None) -> Pages:
        """What the pages of a column unpack to, of one group of rows or of all.

        Raises:
            ValueError: they are damaged, or unpack to too much.
        """
        groups = self.chunks if group is None else self.chunks[group : group + 1]
        own = [chunk for each in groups for chunk in each if f"{chunk.path}.".startswith(f"{column}.")]
        found = pages(self.raw, self.size, own, self.left)
        self.left -= found.count
        return found


@contextmanager
def _parquet(address: str) -> Iterator[_Open]:
    """An open file.

    Raises:
        UnreadableFile: it is none, or damaged.
        Unavailable: pyarrow is not installed.
    """
    check_parquet(address)
    import pyarrow  # noqa: PLC0415 (for few)
    from pyarrow import parquet  # noqa: PLC0415 (for few)

    with opened(address) as file:
        try:
            size = size_of(file)
            groups = chunks(
                file, size
            )  # first: pyarrow takes half a kilobyte for each column that a list has by its count
            found = parquet.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True)
            opened_file = _Open(found, file, size, groups, bounds.PAGES + size // 1024)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise UnreadableFile(f"{address}: damaged, or no Parquet ({first_line(error)})") from error
        yield opened_file


def open_parquet(address: str) -> Shard:
    """What a file's metadata say, and its columns of classes.

    Raises:
        ConverterError: it is damaged, has no images, or asks for too much.
        Unavailable: pyarrow is not installed.
    """
    before = stamp(address)
    with _parquet(address) as found:
        schema, metadata = found.file.schema_arrow, found.file.metadata
        most = min(bounds.RECORDS, bounds.ROWS + found.size // 32)
        if metadata.num_rows > most:
            raise UnreadableFile(f"{address}: {metadata.num_rows:,} rows, {most:,} are read of {found.size:,} bytes")
        if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
            raise UnreadableFile(f"{address}: two columns are called {twice[0][:40]!r}")
        features = _features(address, schema.metadata or {})
        image = _image(address, schema, features)
        columns = _classes(address, schema, features, image)
        groups = _groups(address, metadata, found.size)
        if sum(groups) != metadata.num_rows or min(groups, default=0) < 0 or len(groups) != len(found.chunks):
            raise UnreadableFile(f"{address}: damaged: its groups have other rows than the file")
        written = _read(address, found, columns)
        size = found.size
    names = tuple(next(iter(columns.values()))) if len(columns) == 1 else ()
    if len(columns) == 1:
        written = {"": next(iter(written.values()))}
    return Shard(Parquet(address, image, groups, before), written, names=names, bytes=size)


def _features(address: str, metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """What the Hub's library says of columns; none where it is not said."""
    text = metadata.get(SAID, b"{}")
    try:
        if len(text) > bounds.JSON:
            raise ValueError(f"{len(text):,} bytes")
        found = json.loads(text)["info"]["features"] if text != b"{}" else {}
        if not isinstance(found, dict):
            raise TypeError("no columns")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreadableFile(f"{address}: its huggingface metadata is damaged ({first_line(error)})") from error
    return found


def _kind(features: Mapping[str, Any], column: str) -> str:
    feature = features.get(column)
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _image(address: str, schema: Any, features: Mapping[str, Any]) -> str:
    """The column of images.

    Raises:
        UnreadableFile: there is none, or several.
    """
    found = [name for name in schema.names if _kind(features, name) == "Image"]
    found = found or [field.name for field in schema if _holds_bytes(field.type)]
    if len(found) > 1:
        found = [name for name in found if name in ("image", "img", "jpg", "png")]
    if len(found) != 1:
        what = ", ".join(schema.names[:12])
        raise UnreadableFile(f"{address}: {'several columns' if found else 'no column'} of images ({what})")
    kind = schema.field(found[0]).type
    if not _holds_bytes(kind):
        raise UnreadableFile(f"{address}: {found[0]} is {kind}, and holds no bytes of images")
    name: str = found[0]
    return name


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types  # noqa: PLC0415 (for few)

    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and not types.is_struct(kind.field(at).type) and _holds_bytes(kind.field(at).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _classes(address: str, schema: Any, features: Mapping[str, Any], image: str) -> dict[str, tuple[str, ...]]:
    """Columns of classes, with the names that their numbers stand for: those said to be, those called so, or all.

    Raises:
        UnreadableFile: two classes have one name.
    """
    from pyarrow import types  # noqa: PLC0415 (for few)

    def names(feature: Any) -> tuple[str, ...]:
        inner = feature.get("feature", feature) if isinstance(feature, dict) else feature
        inner = inner[0] if isinstance(inner, list) and inner else inner  # how a list of classes was written before
        found = inner.get("names") if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" else None
        if isinstance(found, dict):
            found = [found[number] for number in sorted(found, key=_number)]
        called = tuple(map(str, found[: bounds.CLASSES])) if isinstance(found, list) else ()
        if twice := [name for name, count in Counter(called).items() if count > 1]:
            raise UnreadableFile(f"{address}: two of its classes are called {twice[0][:40]!r}")
        return called

    def plain(kind: Any) -> bool:
        return bool(
            types.is_integer(kind)
            or types.is_floating(kind)
            or types.is_boolean(kind)
            or types.is_string(kind)
            or types.is_large_string(kind)
        )

    def listed(kind: Any) -> bool:
        return bool(types.is_list(kind) or types.is_large_list(kind))

    said = {name: names(features[name]) for name in schema.names if names(features.get(name))}
    fitting: dict[str, tuple[str, ...]] = {
        field.name: () for field in schema if field.name != image and (plain(field.type) or listed(field.type))
    }
    called: dict[str, tuple[str, ...]] = {name: () for name in fitting if name.lower() in CLASS_KEYS}
    every: dict[str, tuple[str, ...]] = {name: () for name in fitting if plain(schema.field(name).type)}
    return {name: found for name, found in said.items() if name in fitting} or called or every


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else -1


def _groups(address: str, metadata: Any, size: int) -> tuple[int, ...]:
    """Rows of each group.

    What the file says of a single column is not looked at: pyarrow ends the process where that is damaged (its
    ``RowGroupMetaData.column`` lets an exception of C++ through).

    Raises:
        UnreadableFile: a group unpacks to far more than the file has.
    """
    result = []
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        if group.total_byte_size > max(bounds.LARGE, bounds.LARGE_INFLATED * size):
            raise UnreadableFile(f"{address}: rows' group {i} unpacks to {group.total_byte_size:,} bytes")
        result.append(group.num_rows)
    return tuple(result)


def _read(address: str, found: _Open, columns: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """What is written in columns of classes; numbers as the names they stand for, unknown ones as nothing.

    Raises:
        UnreadableFile: they are damaged.
    """
    import pyarrow  # noqa: PLC0415 (for few)

    result: dict[str, list[str]] = {name: [] for name in columns}
    try:
        unpacked = [found.pages(name) for name in columns]
        if values := [each.values for each in unpacked if each.values > bounds.LISTED + found.size]:
            raise ValueError(f"{values[0]:,} values")
        rows = min((each.rows(4096) for each in unpacked), default=1)
        for batch in found.file.iter_batches(rows, columns=list(columns), use_threads=False) if columns else ():
            for name, names in columns.items():
                result[name] += (intern(_written(value, names)) for value in batch.column(name).to_pylist())
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UnreadableFile(f"{address}: its columns of classes are damaged ({first_line(error)})") from error
    return result


def _written(value: Any, names: tuple[str, ...]) -> str:
    """A value as a table of text has it; of several classes their names between bars.

    Raises:
        ValueError: a class that has no name.
    """
    if value is None:
        return ""
    if isinstance(value, list):
        return "|".join(_written(each, names) for each in value)
    if isinstance(value, float):  # what numbers become once one is missing
        value = "" if isnan(value) else int(value) if value.is_integer() else value
    if isinstance(value, str) and len(value) > bounds.LABEL:
        raise ValueError(f"a class of {len(value):,} characters")
    if names and isinstance(value, int):
        if value >= len(names):
            raise ValueError(f"class {value} of {len(names)}")
        return names[value] if value >= 0 else ""
    return str(value)
