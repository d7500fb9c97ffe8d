"""Where a checkpoint comes from: a path, a URL, or a name of the zoo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converter.errors import UnreadableFile


@dataclass(frozen=True)
class Place:
    """A local file and what its origin says about it."""

    path: Path
    name: str
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


def resolve(source: str | Path) -> Place:
    """The local file for a source; URLs and zoo names are downloaded once and cached.

    Raises:
        UnreadableFile: there is no such file, and no model of that name.
        Unavailable: it cannot be downloaded.
    """
    text = str(source)
    if text.startswith(("http://", "https://")):
        from converter.download import fetch  # noqa: PLC0415

        return Place(fetch(text), text)
    path = Path(source)
    if path.exists() or path.suffix or path.parent != Path():
        return Place(path, path.name)
    return _from_zoo(text)


def _from_zoo(name: str) -> Place:
    raise UnreadableFile(f"{name}: no such file")
