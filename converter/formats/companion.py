"""Files that another file names: in its own folder, or nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from converter.core.errors import UnsafeFile


def companion(path: Path, location: str, *, flat: bool = False) -> Path:
    """The file that ``path`` names by a relative path, which need not exist.

    Args:
        path: the file that names it.
        location: what it says, with slashes or backslashes.
        flat: whether it must be in the same folder, not in one below.

    Raises:
        UnsafeFile: that is outside the file's folder, be it by a symbolic link.
    """
    parts = PurePosixPath(location.replace("\\", "/")).parts
    outside = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor or ".." in parts
    if parts and not outside and "\0" not in location and not (flat and len(parts) > 1):
        file = path.parent.joinpath(*parts)
        if any(Path(os.path.realpath(file)).is_relative_to(folder) for folder in _allowed(path)):
            return file
    raise UnsafeFile(f"{path}: refused, it points to {location!r} outside its own folder")


def _allowed(path: Path) -> Iterator[str]:
    """Where a file's companions may lie.

    In the Hub's cache (huggingface_hub, "Understand caching": ``models--OWNER--NAME/snapshots/COMMIT/...``) every file
    is a link into the ``blobs`` of its repository.
    """
    yield os.path.realpath(path.parent)
    for folder in path.absolute().parents:
        if folder.name == "snapshots" and (folder.parent / "blobs").is_dir():
            yield os.path.realpath(folder.parent / "blobs")
