"""What several words on a command line mean: files, patterns, lists, and folders that are gone through."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path, PurePath

from converter.core.errors import ConverterError
from converter.core.source import is_url, shown
from converter.fetch.folders import OTHERS, is_whole
from converter.fetch.hub_files import SUFFIXES
from converter.fetch.storage import inside, stored
from converter.formats.parts import whole_of
from densenet.bounds import read_small

ENDINGS = sorted(
    {
        *SUFFIXES,
        *OTHERS,
        *(".index", ".xml", ".param", ".pb", ".pdiparams", ".json", ".index.json", ".weights.h5", ".mlmodel"),
        *(".mlpackage", ".joblib", ".pickle", ".pth.gz", ".weights.json", ".tar", ".zip"),
        *(".safetensors.index.json", ".bin.index.json"),
    },
    key=len,
    reverse=True,
)
"""Endings that the name of a result does not keep."""
LISTED = "@"
"""What the name of a list begins with."""


@dataclass(frozen=True)
class Item:
    """One of many sources.

    Attributes:
        address: what is read.
        place: where it stands in the tree of sources, and its result in that of results.
        walked: whether it was found by looking, so that it may be no checkpoint at all.
    """

    address: str
    place: PurePath
    walked: bool = False


@dataclass
class Found:
    """All sources, in the order of their places; and files that are parts of others, which are not read alone."""

    items: list[Item] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)


def means_many(word: str) -> bool:
    """Whether a word stands for several sources: a list, a pattern that is no file's name, a place in storage."""
    listed = word.startswith(LISTED) and len(word) > 1
    return bool(stored(word)) or ((listed or is_pattern(word)) and not os.path.lexists(word))


def is_pattern(word: str) -> bool:
    """Whether it is a pattern of names; an address on the web is none."""
    return has_magic(word) and "://" not in word


def find(words: Sequence[str], *, recursive: bool, leave_out: Path | None = None) -> Found:
    """The sources that words mean.

    Args:
        words: files, addresses, patterns (``**`` for any folders), ``@list`` with a source a line.
        recursive: whether folders are gone through; else each is a checkpoint.
        leave_out: a folder that is not gone into, where results are written.

    Raises:
        ConverterError: a list cannot be read, nothing is found, or sources are all there is in ``leave_out``.
    """
    walk = _Walk(recursive, leave_out)
    for word in words:
        if not means_many(word) or stored(word):
            walk.one(word, Path(word).name, below=Path(word).name if len(words) > 1 else "")
        elif word.startswith(LISTED):
            walk.listed(Path(word[1:]))
        else:
            walk.matching(word)
    if not walk.found and not walk.parts:
        raise ConverterError(f"{', '.join(words)}: no files there")
    found = sorted(walk.found.values(), key=lambda item: (item.place.parts, item.address))
    return Found(found, sorted(walk.parts))


class _Walk:
    """Collects sources, each once."""

    def __init__(self, recursive: bool, leave_out: Path | None) -> None:
        self.recursive = recursive
        self.leave_out = os.path.realpath(leave_out) if leave_out is not None else None
        self.stored_out = f"{out.rstrip('/')}/" if leave_out is not None and (out := stored(leave_out)) else ""
        self.found: dict[str, Item] = {}
        self.parts: set[str] = set()

    def add(self, address: str, place: str | PurePath, walked: bool = False) -> None:
        known = address if is_url(address) or "://" in address else os.path.abspath(address)  # noqa: PTH100 (links stay)
        self.found.setdefault(known, Item(address, PurePath(place), walked))

    def one(self, word: str, place: str, *, below: str = "", walked: bool = False) -> None:
        """A word as it is; or all that is in the folder it names, with places ``below`` one."""
        path = Path(word)
        if self.recursive and path.is_dir() and not is_whole(path):
            if self.leave_out == os.path.realpath(path):
                raise ConverterError(f"{path}: results would stand among their sources; name another folder")
            for inner in self.inside(path):
                self.add(str(inner), below / inner.relative_to(path), walked=True)
        elif walked and path.is_file() and whole_of(path) is not None:
            self.parts.add(word)
        elif self.recursive and stored(word) and (found := inside(word)):
            root = word.rstrip("/")
            kept = [name for name in found if not (self.stored_out and f"{root}/{name}".startswith(self.stored_out))]
            for name in kept:
                self.add(f"{root}/{name}", below / PurePath(name), walked=True)
        elif "://" in word:
            self.add(word, PurePath(shown(word).rstrip("/")).name)
        else:
            self.add(word, place or path.resolve().name, walked)

    def inside(self, root: Path) -> Iterator[Path]:
        """Files below a folder, but for what is hidden, and folders that are one checkpoint."""
        unreadable: list[OSError] = []
        for name, folders, files in os.walk(root, onerror=unreadable.append):
            folder = Path(name)
            for inner in list(folders):
                own = folder / inner
                if inner.startswith(".") or own.is_symlink() or os.path.realpath(own) == self.leave_out:
                    folders.remove(inner)
                elif is_whole(own):
                    folders.remove(inner)
                    yield own
            for path in (folder / file for file in files if not file.startswith(".")):
                if not path.is_file() and path.exists():
                    continue  # a pipe, a socket
                if path.is_file() and whole_of(path) is not None:
                    self.parts.add(str(path))
                else:
                    yield path
        for error in unreadable:  # which is said when it is read
            self.add(str(error.filename), Path(str(error.filename)).relative_to(root))

    def matching(self, pattern: str) -> None:
        """What a pattern matches; places begin where it does."""
        fixed = Path(*_until(Path(pattern).parts))
        matched = sorted(glob(pattern, recursive=True))  # noqa: PTH207 (of a path that may be absolute)
        if not matched:
            raise ConverterError(f"{pattern}: matches no file")
        for name in matched:
            place = Path(name).relative_to(fixed)
            if self.recursive and Path(name).is_dir() and not is_whole(Path(name)):
                for inner in self.inside(Path(name)):
                    self.add(str(inner), place / inner.relative_to(name), walked=True)
            elif not Path(name).is_dir() or is_whole(Path(name)):
                self.one(name, str(place), walked=True)

    def listed(self, path: Path) -> None:
        """The sources of a list, a line each; places are the paths as they stand there, below what all share."""
        try:
            text = read_small(path).decode("utf-8-sig", "surrogateescape")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", "") or error
            raise ConverterError(f"{path}: cannot be read as a list ({why})") from error
        words = [line for line in (line.removesuffix("\r") for line in text.split("\n")) if line.strip()]
        local = [word for word in words if "://" not in word]
        above = [word for word in local if Path(word).is_absolute() or ".." in Path(word).parts]
        shared = os.path.commonpath([Path(os.path.abspath(word)).parent for word in above]) if above else ""  # noqa: PTH100
        for word in words:
            place = os.path.relpath(word, shared) if word in set(above) else os.path.normpath(word)
            self.one(word, place, below=place)


def _until(parts: Iterable[str]) -> Iterator[str]:
    """The parts of a pattern before the first that is one; of a plain path the last is none of them."""
    *before, _ = parts
    for part in before:
        if has_magic(part):
            return
        yield part


def stem(name: str) -> str:
    """A name without an ending that says what kind of checkpoint it is."""
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending) and len(name) > len(ending)), "")
    return name[: len(name) - len(ending)] if ending else name


def places(items: Sequence[Item], ending: str) -> list[PurePath]:
    """Where the result of each stands: its place with another ending, or with one more where two would be one.

    Raises:
        ConverterError: two would be one all the same.
    """
    short = [item.place.with_name(stem(item.place.name)) for item in items]
    count = Counter(short)
    result = [
        path.with_name((path.name if count[path] == 1 else item.place.name) + ending)
        for item, path in zip(items, short)
    ]
    taken: dict[PurePath, str] = {}
    for item, path in zip(items, result):
        if path in taken:
            both = f"{taken[path]} and {item.address}"
            raise ConverterError(f"{path}: would be made of {both}; name the folder they are in, with --recursive")
        taken[path] = item.address
    return result
