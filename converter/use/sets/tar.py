"""WebDataset's shards: tars in which files of one key, the path up to the first dot of its last part, are a sample.

What a sample's files mean follows from their endings (github.com/webdataset/webdataset, "The WebDataset Format"): an
image by its format's, ``cls`` a class' number or name, ``json`` an object with one.  Headers are read once, to find
samples and their labels; then images, from any sample on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from sys import intern

import numpy as np

from converter.core import bounds
from converter.core.errors import ConverterError, UnreadableFile
from converter.core.text import well_formed
from converter.formats.tars import Member, each_member
from converter.use.images import IMAGE_SUFFIXES, VOLUME_SUFFIXES
from converter.use.sets.labels import CLASS_KEYS
from converter.use.sets.opened import opened, size_of, stamp
from converter.use.sets.record import Part, Record
from converter.use.sets.shard import Shard
from densenet.volumes import Encoded

EVERY = 32
"""Of so many samples one's place is kept."""
ENDINGS = frozenset(suffix.removeprefix(".") for suffix in (*IMAGE_SUFFIXES, *VOLUME_SUFFIXES))
Read = Callable[[int, int], bytes]


@dataclass
class Sample:
    """Files of one key: ``key`` is where they lie and what they share, ``files`` are by ending."""

    key: str
    files: dict[str, Member] = field(default_factory=dict)

    @property
    def head(self) -> int:
        """Where the headers of its first file begin."""
        return min(member.head for member in self.files.values())

    def image(self) -> str:
        """The ending of its image; of several the one that has no other before it (``jpg``, not ``mask.jpg``).

        Raises:
            ValueError: it has none, or several.
        """
        found = [ending for ending in self.files if ending in ENDINGS or ending.rpartition(".")[2] in ENDINGS]
        plain = [ending for ending in found if ending in ENDINGS] or found
        if len(plain) != 1:
            had = ", ".join(self.files)
            raise ValueError(f"holds {'several images' if plain else 'no image'} ({had})")
        return plain[0]

    def label(self, read: Read) -> str:
        """Its class as it is written; empty if none is.

        Raises:
            ValueError: what should say it cannot be read.
        """
        if (member := self.files.get("cls")) is not None:
            return _text(member, read, bounds.LABEL).strip()
        if (member := self.files.get("json")) is None:
            return ""
        found = json.loads(_text(member, read, bounds.CONFIG))
        if isinstance(found, dict):
            found = next((found[key] for key in CLASS_KEYS if key in found), "")
        if isinstance(found, list) and all(isinstance(each, str) for each in found):
            return "|".join(found)
        if not isinstance(found, str | int) or isinstance(found, bool):
            raise ValueError(f"its json has no class, but {str(found)[:40]!r}")
        return str(found)


def _text(member: Member, read: Read, most: int) -> str:
    if member.size > most:
        raise ValueError(f"its label has {member.size:,} bytes, {most:,} are read")
    return read(member.start, member.size).decode("utf-8-sig")


@dataclass(frozen=True)
class Tar:
    """A shard; see :class:`converter.use.sets.record.Part`.

    Attributes:
        starts: where every ``EVERY``-th sample begins.
        twice: samples whose key stood before.
        seen: the stamp of what was gone through.
    """

    address: str
    count: int
    starts: tuple[int, ...]
    twice: frozenset[int] = frozenset()
    seen: str = ""

    @property
    def name(self) -> str:
        """How errors call it."""
        return self.address

    def stamp(self) -> str:
        """Of its name, size and time."""
        return f"{self.address} {stamp(self.address)}"

    def changed(self) -> bool:
        """See :class:`converter.use.sets.record.Part`."""
        return self.seen != stamp(self.address)

    def portion(self, start: int, count: int) -> tuple[Part, int]:
        """Itself: any sample can be gone to."""
        return self, start

    def records(self, start: int = 0) -> Iterator[Record]:
        """See :class:`converter.use.sets.record.Part`."""
        begin = start // EVERY
        with opened(self.address) as file:
            read, length = _reader(file), size_of(file)
            number = begin * EVERY
            for sample in _samples(read, length, self.address, self.starts[begin] if self.starts else 0):
                if number >= self.count:
                    return
                if number >= start:
                    yield self._record(number, sample, read)
                number += 1

    def _record(self, number: int, sample: Sample, read: Read) -> Record:
        name = well_formed(f"{self.address}/{sample.key}")
        try:
            ending = sample.image()
            name = f"{name}.{ending}"
            member = sample.files[ending]
            if number in self.twice:
                raise ValueError("its key stood in the shard before")
            if member.size > bounds.IMAGE:
                raise ValueError(f"{member.size:,} bytes, {int(bounds.IMAGE):,} are read")
            return Record(name, Encoded(name, read(member.start, member.size)))
        except ValueError as error:
            return Record(name, Encoded(name, b""), f"{name}: {error}")


def _reader(file: object) -> Read:
    def read(at: int, size: int) -> bytes:
        file.seek(at)  # type: ignore[attr-defined]
        data = bytes(file.read(size))  # type: ignore[attr-defined]
        while len(data) < size and (more := file.read(size - len(data))):  # type: ignore[attr-defined]
            data += more
        return data

    return read


def _samples(read: Read, length: int, where: str, at: int = 0) -> Generator[Sample, None, int]:
    """Files of one key after the other; then where the tar's end stands.

    Raises:
        UnreadableFile, ValueError: the tar is damaged.
    """
    now: Sample | None = None
    members = each_member(read, length, where, at)
    while True:
        try:
            member = next(members)
        except StopIteration as stop:
            if now is not None:
                yield now
            return int(stop.value)
        folder, slash, base = member.name.removeprefix("./").rpartition("/")
        stem, _, ending = base.partition(".")
        if not stem or base.startswith("__"):
            continue  # hidden files, and what systems put beside others
        key = f"{folder}{slash}{stem}"
        if now is None or key != now.key or ending.lower() in now.files:
            if now is not None:
                yield now
            now = Sample(key)
        now.files[ending.lower()] = member


def open_tar(address: str) -> Shard:
    """Go through a shard's headers and labels.

    Raises:
        ConverterError: it is no tar, or nothing can be read of it.
    """
    labels: list[str] = []
    starts: list[int] = []
    twice: set[int] = set()
    seen: set[bytes] = set()
    keys: list[bytes] = []
    broken = ""

    def add(sample: Sample) -> None:
        if len(labels) % EVERY == 0:
            starts.append(sample.head)
        if len(labels) >= bounds.RECORDS:
            raise ValueError(f"more than {int(bounds.RECORDS):,} samples")
        key = hashlib.blake2b(sample.key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        if key in seen:
            twice.add(len(labels))
        seen.add(key)
        keys.append(key)
        labels.append(intern(_label(sample, read)))

    before = stamp(address)
    with opened(address) as file:
        length, read = size_of(file), _reader(file)
        _check(address, read, length)
        try:
            samples = _samples(read, length, address)
            while True:
                try:
                    add(next(samples))
                except StopIteration as stop:
                    _check_end(read, stop.value, length)
                    break
        except (ConverterError, ValueError) as error:
            why = str(error).removeprefix(f"{address}: ")
            broken = f"damaged after {len(labels)} images ({why})"
    if not labels:
        raise UnreadableFile(f"{address}: {broken or 'a tar without images'}")
    hashes = np.frombuffer(b"".join(keys), np.uint64)
    part = Tar(address, len(labels), tuple(starts), frozenset(twice), before)
    return Shard(part, {"": labels}, hashes, (), broken, length)


def _label(sample: Sample, read: Read) -> str:
    """A sample's class; empty where none can be read, which is told when its image is."""
    try:
        return sample.label(read)
    except (ValueError, RecursionError):
        return ""


def _check(address: str, read: Read, length: int) -> None:
    """Refuse what is no tar.

    Raises:
        UnreadableFile: it is none.
    """
    head = read(0, 512)
    if head[:2] == b"\x1f\x8b":
        raise UnreadableFile(f"{address}: compressed, and images are compressed already; unpack it first (gunzip)")
    if len(head) < 512 or length < 1024 or head[257:262] != b"ustar":
        raise UnreadableFile(f"{address}: not a tar")


def _check_end(read: Read, at: int, length: int) -> None:
    """Refuse a tar that does not end, or goes on behind its end.

    Raises:
        ValueError: it does.
    """
    if at + 512 > length:
        raise ValueError("it has no end: the rest is missing")
    while at < length:
        piece = read(at, 1 << 20)
        if piece.strip(b"\0"):
            raise ValueError("something stands behind its end: several tars put together?")
        at += max(len(piece), 1)
