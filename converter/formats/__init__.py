"""One file per format.  ``open_checkpoint`` looks at the bytes, never at the file's name alone."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

from converter.checkpoint import Checkpoint
from converter.errors import UnreadableFile
from converter.formats import npz, safetensors, torch_legacy, torch_tar, torch_zip
from converter.formats.sharded import open_sharded
from converter.formats.zips import Zip

ZIPS: tuple[tuple[Callable[[Zip], bool], Callable[[Path], Checkpoint]], ...] = (
    (torch_zip.matches, torch_zip.open_zip),
    (npz.matches, npz.open_npz),
)
"""Formats that are zips, told apart by their members."""

KNOWN = "torch (.pth, .pt, .bin), safetensors, npz, and index files of sharded checkpoints"


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint of any known format, without reading its tensors.

    Raises:
        UnreadableFile: missing, not a file, damaged, or of no known format.
        UnsafeFile: it asks for code to be run.
    """
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableFile(f"{path}: is a folder, not a checkpoint; name the file in it")
        if not stat.S_ISREG(mode):
            raise UnreadableFile(f"{path}: is not a regular file")
        with path.open("rb") as file:
            head = file.read(512)
        size = path.stat().st_size
        return _open(path, head, size)
    except FileNotFoundError as error:
        raise UnreadableFile(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _open(path: Path, head: bytes, size: int) -> Checkpoint:
    if not size:
        raise UnreadableFile(f"{path}: is empty")
    if head.startswith(b"PK"):
        archive = Zip(path)
        for matches, opener in ZIPS:
            if matches(archive):
                return opener(path)
        raise UnreadableFile(f"{path}: a zip without tensors; known formats: {KNOWN}")
    if torch_legacy.matches(head):
        return torch_legacy.open_legacy(path)
    if torch_tar.matches(path, head):
        return torch_tar.open_tar(path)
    if safetensors.matches(head, size):
        return safetensors.open_safetensors(path)
    if head.lstrip().startswith(b"{") and path.suffix == ".json":
        return open_sharded(path, open_checkpoint)
    if head.startswith(b"version https://git-lfs"):
        raise UnreadableFile(f"{path}: a Git LFS pointer, not the file itself; run git lfs pull")
    raise UnreadableFile(f"{path}: not a checkpoint of a known format: {KNOWN}")
