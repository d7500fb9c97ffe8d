"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from converter.core.errors import CannotWrite


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` when the block ends well.

    It is written beside the target, flushed to disk and moved into place; if the block
    fails, whatever was there before stays and nothing else is left.

    Raises:
        CannotWrite: the folder is missing, not writable or full.
    """
    temporary: str | None = None
    try:
        if path.is_dir():
            raise CannotWrite(f"{path}: is a folder; name a file")
        name = str(path.parent / f".{path.name}.{os.getpid()}.tmp")
        with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            temporary = name
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
        temporary = None
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file at once, atomically."""
    with replacing(path) as file:
        file.write(data)


def make_folder(path: Path) -> None:
    """Create a folder and its parents; it may be there already.

    Raises:
        CannotWrite: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be created ({error.strerror or error})") from error
