"""Which images words name: files, folders, patterns, and what holds many: lists, tables, shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converter.core.errors import ConverterError
from converter.use.evaluation.dataset import Dataset, read_truths
from converter.use.evaluation.files import Finder
from converter.use.evaluation.table import SUFFIXES, read_text
from converter.use.images import gathered
from converter.use.sets.find import ImageSet, image_set, means_shards
from converter.use.sets.listed import Listed

LISTS = (*SUFFIXES, ".txt")
"""How lists and tables of paths are called."""


def named_images(words: Sequence[str | Path], *, volumes: bool = False) -> Sequence[Any] | ImageSet:
    """The images that words name, in their order: paths, or a set where a list, a table or a shard is named.

    Args:
        words: files, folders, patterns; shards, patterns of them and ``hf://datasets/...``; lists and tables of paths.
        volumes: whether folders are looked through for volumes.

    Raises:
        ConverterError: a folder, pattern, list or shard without images; shards beside others.
        Unavailable: what reads them is not installed, or what has them cannot be asked.
    """
    names = list(map(str, words))
    if any(map(means_shards, names)):
        return image_set(names, volumes=volumes)
    if not any(is_list(name) for name in names):
        return gathered(words, volumes=volumes)
    parts: list[Listed] = []
    missing: dict[str, str] = {}
    for name in names:
        paths, lost = _listed(Path(name)) if is_list(name) else (gathered([name], volumes=volumes), {})
        missing |= lost
        if paths:
            parts.append(Listed(name, paths))
    if not parts:
        name, why = next(iter(missing.items()), (names[0], "no images"))
        raise ConverterError(f"{name}: {why}")
    return ImageSet(tuple(parts), broken=missing)


def of_files(images: Sequence[Any]) -> ImageSet | None:
    """Files as a set; None where some are in memory."""
    if not all(isinstance(image, str | Path) for image in images):
        return None
    return ImageSet((Listed("the images", list(map(Path, images))),))


def is_list(name: str) -> bool:
    """Whether a word names a list or a table of paths."""
    return name.lower().endswith(LISTS) and Path(name).is_file()


def _listed(path: Path) -> tuple[Sequence[Path], dict[str, str]]:
    """The images that a list or table names, and those that are not there."""
    if path.suffix.lower() not in SUFFIXES:
        finder = Finder(path.parent)
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip() and line[:1] != "#"]
        found = [finder.find(line) for line in lines]
        if any(isinstance(each, Path) for each in found):  # a path a line, and nothing else
            lost = {line: each for line, each in zip(lines, found) if isinstance(each, str)}
            return [each for each in found if isinstance(each, Path)], lost
    truths = read_truths(Dataset(path))
    return list(truths.images), dict(truths.missing)
