"""A staged package into its folder: whole, or (killed while moving) known as ours and mended by the next."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from converter.core.errors import CannotWrite, UnreadableFile
from converter.core.files import make_folder
from converter.core.hashing import sha256_of
from converter.publish.provenance import PROVENANCE, changed, parse_provenance, read_provenance

NEXT = f".{PROVENANCE}.next"
"""What will be there, while files are moved into place: should that be killed, they are known as ours."""


def move_into_place(staged: Path, folder: Path, *, force: bool) -> None:
    """Put staged files in place, provenance.json last; drop what an earlier package left unchanged.

    Args:
        staged: the folder with the files.
        folder: where they go.
        force: whether what no package put there, or somebody has edited since, may be replaced.

    Raises:
        CannotWrite: that would overwrite what no package put there, or somebody has edited since.
    """
    files = sorted(path.relative_to(staged) for path in staged.rglob("*") if path.is_file())
    try:
        former = read_provenance(folder)
    except UnreadableFile:
        former = {}
    altered = changed(folder, former)
    interrupted = _interrupted(folder)
    for file in files:
        _flush(staged / file)
    if not folder.exists():
        with suppress(OSError):  # somebody made it meanwhile
            staged.rename(folder)
            return
    for name in (file.as_posix() for file in files if file.name != PROVENANCE):
        there = folder / name
        strange = not force and there.is_file() and (name not in former or name in altered)
        if strange and sha256_of((there,)) not in (sha256_of((staged / name,)), interrupted.get(name)):
            why = "was changed since it was packaged" if name in former else "is not of an earlier package"
            raise CannotWrite(f"{there}: {why}; move it, name another folder, or replace it with --force")
    make_folder(folder)
    shutil.copyfile(staged / PROVENANCE, folder / NEXT)
    stale = [name for name in former if name not in altered and Path(name) not in files]
    for file in sorted(files, key=lambda file: file.name == PROVENANCE):
        make_folder((folder / file).parent)
        shutil.move(staged / file, folder / file)
    for name in stale:
        (folder / name).unlink()
        with suppress(OSError):
            (folder / name).parent.rmdir()
    (folder / NEXT).unlink()


def _flush(file: Path) -> None:
    """Have a file on disk before its name is: a machine that loses power must not leave it empty."""
    handle = os.open(file, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _interrupted(folder: Path) -> dict[str, str]:
    """SHA-256 of what a package that was killed while moving was about to put here."""
    with suppress(OSError, ValueError):
        return {name: recorded.sha256 for name, recorded in parse_provenance((folder / NEXT).read_bytes()).items()}
    return {}
