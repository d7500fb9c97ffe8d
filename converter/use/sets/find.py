"""Which set of images words mean: shards by patterns and on the Hub, lists and tables, files and folders of images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path

import numpy as np

from converter.core.errors import ConverterError, Unavailable, UnreadableFile
from converter.core.source import shown
from converter.use.images import SPLITS, gathered, is_image, is_volume
from converter.use.sets.listed import Listed
from converter.use.sets.opened import is_remote, listing
from converter.use.sets.parquet import check_parquet, open_parquet
from converter.use.sets.record import BLOCK, Block, Part, Record, blocks_of
from converter.use.sets.shard import Shard
from converter.use.sets.tar import open_tar

SHARDS = (".tar", ".parquet")
COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
"""WebDataset's way to name shards: ``val-{000000..000049}.tar``."""
WORD = re.compile(r"[a-z]+")
MOST = 1 << 20
"""Shards of a set."""


@dataclass(frozen=True)
class ImageSet:
    """Images, still unread, in the order in which they were named.

    Attributes:
        parts: what reads them.
        shards: what was found out of those that are shards.
        broken: shards that cannot be read, or not to their end, and why.
        notes: what people should know.
    """

    parts: tuple[Part, ...]
    shards: tuple[Shard, ...] = ()
    broken: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many images."""
        return sum(part.count for part in self.parts)

    def __len__(self) -> int:
        return self.count

    def record(self, place: int) -> Record:
        """The image at a place.

        Raises:
            ConverterError: its part cannot be read.
        """
        for part in self.parts:
            if place < part.count:
                return next(part.records(place))
            place -= part.count
        raise IndexError(place)

    def blocks(self, size: int = BLOCK) -> Iterator[Block]:
        """See :func:`converter.use.sets.record.blocks_of`."""
        return blocks_of(self.parts, size)


def means_shards(word: str) -> bool:
    """Whether a word names shards: a tar or Parquet file, a folder of them, a pattern, an address."""
    if word.startswith("hf://datasets/") or (is_remote(word) and not word.startswith(("http://", "https://", "hf://"))):
        return True
    if word.endswith((*SHARDS, *COMPRESSED)):
        return True
    try:
        return Path(word).is_dir() and bool(_in_folder(Path(word)))
    except OSError:  # a name too long
        return False


def shards_of(words: Iterable[str]) -> list[str]:
    """The addresses of shards, in the order named, those of a folder or pattern by name.

    Raises:
        ConverterError: there are none, one is named twice, or it is compressed.
        Unavailable: what has them cannot be asked.
    """
    result: list[str] = []
    for word in words:
        result += _meant(word)
        if len(result) > MOST:
            raise ConverterError(f"{shown(word)}: more than {MOST} shards")
    twice = next((name for name in result if result.count(name) > 1), "") if len(set(result)) < len(result) else ""
    if twice:
        raise ConverterError(f"{shown(twice)}: is named twice")
    if not result:
        raise ConverterError(f"{', '.join(map(shown, words))}: no shards there")
    _check_splits(result)
    return result


def _check_splits(addresses: Sequence[str]) -> None:
    """Refuse images of training among those of a test.

    Raises:
        ConverterError: shards are called as several parts of a data set.
    """
    found: dict[str, str] = {}
    for address in addresses:
        *folders, name = address.split("/")[-3:]
        called = [*(part.lower() for part in folders), *WORD.findall(name.lower())[:1]]
        found |= {part: address for part in called if part in SPLITS}
    if len(found) > 1:
        names = ", ".join(sorted(found))
        example = next(iter(found.values()))
        raise ConverterError(f"shards of {names} ({example} ...), which are parts of a data set; name those of one")


def _meant(word: str) -> list[str]:
    if word.endswith(COMPRESSED):
        raise ConverterError(f"{word}: compressed, and images are compressed already; unpack it first (gunzip)")
    if (found := RANGE.search(word)) is not None:
        first, last = found.groups()
        if int(last) - int(first) >= MOST:
            raise ConverterError(f"{shown(word)}: more than {MOST} shards")
        numbers = range(int(first), int(last) + 1)
        names = [f"{word[: found.start()]}{n:0{len(first)}}{word[found.end() :]}" for n in numbers]
        return [each for name in names for each in _meant(name)]
    if word.startswith("hf://"):
        from converter.fetch.hub_sets import shards  # noqa: PLC0415 (huggingface_hub, for few)

        return shards(word, SHARDS)
    if is_remote(word):
        return [name for name in listing(word) if name.endswith(SHARDS)]
    if Path(word).is_dir():
        return list(map(str, _in_folder(Path(word))))
    if has_magic(word) and not Path(word).exists():
        matches = sorted(glob(word, recursive=True))  # noqa: PTH207 (absolute patterns too)
        if not matches:
            raise ConverterError(f"{word}: no files match")
        return [each for match in matches for each in ([match] if match.endswith(SHARDS) else [])]
    return [word]


def _in_folder(folder: Path) -> list[Path]:
    """The shards in a folder, or in its ``data``, as repositories have them; none where images or others are, too."""
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = [path for path in found if path.is_dir()]
    if folders == [folder / "data"]:
        return _in_folder(folders[0])
    if folders or any(is_image(path) or is_volume(path) for path in found):
        return []
    return [path for path in found if path.name.endswith(SHARDS)]


def open_shards(addresses: Sequence[str]) -> ImageSet:
    """Go through shards: headers of tars, metadata of Parquet files, and classes.

    Raises:
        ConverterError: none can be read.
        Unavailable: what reads them is not installed.
    """
    shards: list[Shard] = []
    broken: dict[str, str] = {}
    for address in addresses:
        if address.endswith(".parquet"):
            check_parquet(address)
        try:
            shard = open_parquet(address) if address.endswith(".parquet") else open_tar(address)
        except Unavailable:
            raise
        except UnreadableFile as error:
            if len(addresses) == 1:
                raise
            broken[address] = str(error).removeprefix(f"{address}: ")
            continue
        if shard.broken:
            broken[address] = shard.broken
        if shard.part.count:
            shards.append(shard)
        elif len(addresses) == 1:
            raise UnreadableFile(f"{address}: has no images")
    if not shards:
        name, why = next(iter(broken.items()), (addresses[0], "has no images"))
        raise UnreadableFile(f"none of {len(addresses)} shards has images that can be read ({name}: {why})")
    return ImageSet(tuple(shard.part for shard in shards), tuple(shards), broken, _twice(shards))


def _twice(shards: Sequence[Shard]) -> tuple[str, ...]:
    """A note where keys of one shard stand in another, too: images may be there twice."""
    keys = np.concatenate([shard.keys[: shard.part.count] for shard in shards])
    if not len(keys):
        return ()
    ends = np.cumsum([len(shard.keys) for shard in shards])
    order = np.argsort(keys, kind="stable")
    where = np.searchsorted(ends, order, side="right")
    same = np.flatnonzero((keys[order][1:] == keys[order][:-1]) & (where[1:] != where[:-1]))
    if not len(same):
        return ()
    at = same[np.argmin(order[same])]
    first, second = order[at], order[at + 1]
    one, other = (shards[int(np.searchsorted(ends, place, side="right"))] for place in (first, second))
    start = int(first) - int(ends[shards.index(one)] - len(one.keys))
    name = next(one.part.records(start)).name
    more = f", and so are {len(same) - 1} others in several shards" if len(same) > 1 else ""
    return (f"the key of {name} is in {other.part.name}, too{more}; each counts",)


def image_set(words: Iterable[str | Path], *, volumes: bool = False) -> ImageSet:
    """All images that words mean, in the order named: shards, files, folders of images, patterns.

    Args:
        words: what people name.
        volumes: whether folders are looked through for volumes.

    Raises:
        ConverterError: a folder or pattern without images, shards of which none can be read.
        Unavailable: what reads them is not installed, or what has them cannot be asked.
    """
    named = list(map(str, words))
    files = [word for word in named if not means_shards(word)]
    if len(files) == len(named):
        return ImageSet((Listed("the images", gathered(named, volumes=volumes)),))
    found = open_shards(shards_of(word for word in named if means_shards(word)))
    if not files:
        return found
    raise ConverterError(f"{files[0]}: shards and single images are asked about one after the other")
