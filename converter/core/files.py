"""Files and folders that appear whole or not at all, and what killed runs left behind.

What is being written is called ``.densenet-`` and random digits (a process id is always the same in a container, and a
name made from the target's may be too long), stands beside its final place, and is locked for as long as its process
lives.  What is called so and locked by nobody is litter: the next run that writes there removes it.
"""

import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from converter.core.errors import CannotWrite, ConverterError

if sys.platform != "win32":
    import fcntl

OURS = re.compile(r"\.densenet-[0-9a-f]{16}\.tmp")
"""Names of what is being written."""
SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:")
"""What addresses begin with; one letter is a drive of Windows."""
ADVICE = "name another file, or replace it with --force"


@contextmanager
def replacing(path: Path, *, force: bool = False) -> Iterator[IO[bytes]]:
    """A binary file, to be written and read, that takes the place of ``path`` when the block ends well.

    It is written beside the target, flushed to disk and moved into place; if the block
    fails, whatever was there before stays and nothing else is left.  Symbolic links are
    followed, the old file's mode is kept; devices, pipes and standard streams are
    written to, once everything is there.

    Args:
        path: the target.
        force: whether a file that is read-only or another user's may be replaced.

    Raises:
        CannotWrite: the folder is missing, not writable or full; or the file there is protected.
    """
    try:
        target, descriptor = _followed(path)
        if descriptor is not None or (target.exists() and not target.is_file() and not target.is_dir()):
            with _written_through(target if descriptor is None else os.dup(descriptor)) as file:
                yield file
            return
        if target.is_dir():
            raise CannotWrite(f"{path}: is a folder; name a file")
        if not force and (why := protected(target)):
            raise CannotWrite(f"{path}: {why}; name another file, or remove it")
        with with_parents(target), _new_file(target.parent) as (temporary, file):
            _keep_mode(target, file)
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(target)
    except OSError as error:
        raise CannotWrite(f"{_known(path)}: cannot be written ({error.strerror or error})") from error


def _known(path: Path) -> Path:
    """A path that a user knows: what is in a temporary folder of ours is called by the folder that holds that."""
    return next((folder.parent for folder in path.parents if OURS.fullmatch(folder.name)), path)


def placed(folder: Path, target: Path, *, force: bool = False) -> None:
    """Move what a scratch folder holds into place: a target's file or folder, and what belongs beside it.

    The target goes first and comes last: whoever is killed meanwhile leaves none, and never half of two.

    Args:
        folder: a folder beside the target, which is thrown away afterwards.
        target: a name that is in it.
        force: whether files that are read-only or another user's may be replaced.

    Raises:
        CannotWrite: something is in the way, or the disk is full.
    """
    names = sorted((path.name for path in folder.iterdir()), key=lambda name: name == target.name)
    try:
        for name in names:
            there = target.parent / name
            if there.is_dir() != (folder / name).is_dir() and there.exists():
                kind = "a folder" if there.is_dir() else "a file"
                raise CannotWrite(f"{there}: is {kind}; name another")
            if not force and (why := protected(there)):
                raise CannotWrite(f"{there}: {why}; name another file, or remove it")
        for path in (path for path in folder.rglob("*") if path.is_file()):
            with path.open("r+b") as file:
                os.fsync(file.fileno())
        if target.exists() and (target.is_dir() or len(names) > 1):
            target.rename(folder / f"{target.name}.old")
        for name in names:
            (folder / name).replace(target.parent / name)
    except OSError as error:
        raise CannotWrite(f"{target}: cannot be written ({error.strerror or error})") from error


def write_bytes(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write a whole file at once, as :func:`replacing` does."""
    with replacing(path, force=force) as file:
        file.write(data)


def protected(path: Path) -> str:
    """Why a file is not replaced unasked: it is read-only, or of another owner; empty if neither."""
    if sys.platform == "win32" or not path.is_file():
        return ""
    status = path.stat()
    if status.st_uid != os.geteuid():
        return "belongs to another user"
    return "" if status.st_mode & stat.S_IWUSR else "is read-only"


def check_replaceable(path: Path, is_ours: Callable[[Path], bool], *, force: bool) -> None:
    """Look at what stands where a file is to be written, before the work is done.

    What this tool wrote may be replaced, and an empty file.

    Args:
        path: where a file is to be written.
        is_ours: whether a file says that this tool wrote it; errors say that it does not.
        force: whether it may be replaced, whatever it is.

    Raises:
        CannotWrite: a file is there that somebody else wrote, or that is read-only or another user's; or it is to be
            elsewhere than on this machine.
    """
    _check_is_here(path)
    try:
        if force or not path.is_file() or not path.stat().st_size:
            return
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be written ({error.strerror or error})") from error
    if why := protected(path):
        raise CannotWrite(f"{path}: {why}; {ADVICE}")
    with suppress(ConverterError, OSError, ValueError):  # ValueError: not text, not JSON, not Parquet
        if is_ours(path):
            return
    raise CannotWrite(f"{path}: exists, and does not say that this tool wrote it; {ADVICE}")


def make_folder(path: Path) -> None:
    """Create a folder and its parents; it may be there already.

    Raises:
        CannotWrite: it cannot be created.
    """
    _check_is_here(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be created ({error.strerror or error})") from error


def _check_is_here(path: Path) -> None:
    """Refuse an address: as a path it would be a folder ``s3:``.

    Raises:
        CannotWrite: it is one.
    """
    for folder in (path, *path.parents):
        if SCHEME.fullmatch(folder.name) and not folder.exists():
            address = f"{folder.name}//{path.relative_to(folder).as_posix()}"
            raise CannotWrite(f"{address}: results are written on this machine; name a path, and copy it there")


@contextmanager
def with_parents(path: Path) -> Iterator[None]:
    """Make the folders that a file or folder is to lie in; those that were made are gone again if the block fails.

    Raises:
        CannotWrite: they cannot be made.
    """
    missing = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        if missing:
            make_folder(missing[0])
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()  # only while nothing else is in it
        raise


@contextmanager
def scratch(where: Path | None = None) -> Iterator[Path]:
    """A new folder that is gone after the block, unless it was moved away; and so is what killed runs left there.

    Args:
        where: the folder to make it in; without it the system's one for temporary files, readable by nobody else.

    Raises:
        CannotWrite: it cannot be made.
    """
    mode, advice = (0o700, "; set TMPDIR to a folder with room") if where is None else (0o777, "")
    try:
        folder = _temporary_files() if where is None else where
        sweep(folder)
        path, handle = _claimed(folder, lambda name: _opened_folder(name, mode))
    except OSError as error:
        place = where or "temporary files"
        raise CannotWrite(f"{place}: cannot be written ({error.strerror or error}){advice}") from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed runs left in a folder.  What somebody is writing stays, and what cannot be told."""
    if sys.platform == "win32":
        return  # no lock there says who lives
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.path for entry in entries if entry.name[0] == "." and OURS.fullmatch(entry.name)]:
            with suppress(OSError):
                _remove_if_dead(name)


if sys.platform != "win32":

    def _remove_if_dead(name: str) -> None:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(handle)
            if status.st_uid != os.geteuid():
                return
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(name)
            else:
                Path(name).unlink()
        finally:
            os.close(handle)


def _temporary_files() -> Path:
    """The system's folder for temporary files: found as ``tempfile`` does, but tried with a file that is swept."""
    usual = () if sys.platform == "win32" else ("/tmp", "/var/tmp")  # noqa: S108 (what is made there has a random name)
    named = [*map(os.environ.get, ("TMPDIR", "TEMP", "TMP")), *usual]
    for folder in filter(None, named if tempfile.tempdir is None else ()):
        with suppress(OSError), _new_file(Path(folder)) as (_, file):
            file.write(b"room")
            file.flush()
            tempfile.tempdir = str(Path(folder).absolute())
            break
    return Path(tempfile.gettempdir())


@contextmanager
def _new_file(folder: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new file in a folder, which is gone after the block, unless it was moved away."""
    sweep(folder)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    path, handle = _claimed(folder, lambda name: os.open(name, flags, 0o666))
    assert handle is not None
    try:
        with os.fdopen(handle, "w+b") as file:
            yield path, file
    finally:
        with suppress(OSError):
            path.unlink()


def _opened_folder(path: Path, mode: int) -> int | None:
    path.mkdir(mode)
    if sys.platform == "win32":
        return None
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise _SweptError from error


class _SweptError(Exception):
    """A sweep took something for litter before it was opened."""


def _claimed(folder: Path, make: Callable[[Path], int | None]) -> tuple[Path, int | None]:
    """Something new in a folder with a name of ours, and its descriptor, locked; folders have none on Windows."""
    while True:
        path = folder / f".densenet-{os.urandom(8).hex()}.tmp"
        try:
            handle = make(path)
        except (FileExistsError, _SweptError):
            continue
        if handle is None or _lock(path, handle):
            return path, handle
        os.close(handle)  # a sweep took it for litter before it was locked


def _lock(path: Path, handle: int) -> bool:
    """Lock what was just made; whether it is still there."""
    if sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks: then no sweep takes it for litter either
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(handle))
    return False


def _keep_mode(target: Path, file: IO[bytes]) -> None:
    """Give the new file the mode of the one it replaces, and its owner where that is allowed."""
    if sys.platform == "win32" or not target.is_file():
        return
    status = target.stat()
    os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode) & 0o777)
    with suppress(PermissionError):
        os.fchown(file.fileno(), status.st_uid, status.st_gid)


def _followed(path: Path) -> tuple[Path, int | None]:
    """Where a path leads through symbolic links; for one like /dev/stdout the descriptor it stands for.

    Raises:
        OSError: the links go round in circles.
    """
    open_files = {os.path.realpath("/dev/fd"), "/dev/fd"} if sys.platform != "win32" else set()
    for _ in range(40):  # as many as Linux follows
        path = Path(os.path.realpath(path.parent)) / path.name
        if str(path.parent) in open_files and path.name.isdecimal():
            return path, int(path.name)
        if not path.is_symlink():
            return path, None
        path = path.parent / path.readlink()
    raise OSError("too many symbolic links")


@contextmanager
def _written_through(target: Path | int) -> Iterator[IO[bytes]]:
    """A file whose content goes to a device, pipe or descriptor when the block ends well."""
    with tempfile.TemporaryFile(dir=_temporary_files()) as file:
        yield file
        file.seek(0)
        with target.open("wb") if isinstance(target, Path) else os.fdopen(target, "wb") as out:
            shutil.copyfileobj(file, out)
