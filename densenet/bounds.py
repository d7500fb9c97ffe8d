"""Bounds of what pictures, volumes and descriptions of a network may ask for.  The reader of files has its own
(``converter.core.bounds``)."""

import os
import stat
import time
from errno import EISDIR
from os import strerror
from pathlib import Path


def never_ends(path: Path) -> bool:
    """Whether what is there is a pipe, a device or a socket: reading it may take for ever."""
    return path.exists() and not path.is_file() and not path.is_dir()


def is_pipe(path: str | Path) -> bool:
    """Whether what is there is a pipe."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116 (of any text)
    except (OSError, ValueError):
        return False


def read_small(path: Path, most: int | None = None) -> bytes:
    """A small file, or what comes out of a pipe (``--labels <(command)``).

    Args:
        path: the file.
        most: its size; by default ``TEXT``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, a device, say, which might never end, or a pipe that does not end in time.
    """
    limit = TEXT if most is None else most
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(EISDIR, strerror(EISDIR), str(path))
    if stat.S_ISFIFO(status.st_mode):
        return _piped(path, limit)
    if never_ends(path):
        raise ValueError("no regular file")
    if status.st_size > limit:
        raise ValueError(f"{status.st_size:,} bytes, {limit:,} are read")
    return path.read_bytes()


def _piped(path: Path, limit: int) -> bytes:
    """All that comes out of a pipe.  Opening does not wait for its writer, and an interrupt gets through."""
    import select  # noqa: PLC0415 (for few)

    content, end = bytearray(), time.monotonic() + PIPED
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            ready = poll.poll(min(left, WRITER) * 1000)
            try:
                part = os.read(handle, 1 << 16)
            except BlockingIOError:  # who writes is there, and takes time
                continue
            if not part and not ready:
                raise ValueError(f"a pipe that nobody has opened for writing within {WRITER} s")
            if not part:
                return bytes(content)
            content += part
            if len(content) > limit:
                raise ValueError(f"a pipe of more than {limit:,} bytes")
    finally:
        os.close(handle)
    raise ValueError(f"a pipe that does not end within {PIPED} s")


class Bound(int):
    """A number that nothing in a file may exceed.

    Attributes:
        unit: of what.
        why: what it is measured by.
    """

    unit: str
    why: str

    def __new__(cls, most: int, unit: str, why: str) -> "Bound":
        """A bound of so many."""
        self = super().__new__(cls, most)
        self.unit, self.why = unit, why
        return self


PIXELS = Bound(
    178_956_970,
    "pixels of an image, decoded or resized; numbers of a volume",
    "the figure at which Pillow refuses to decode (2 * 1024**3 / 4 / 3)",
)
INPUT = Bound(1 << 24, "pixels of what goes into a network of images", "4096 x 4096")
TEXT = Bound(16 << 20, "bytes of a text: class names, steps, a layout", "ImageNet's class names take 13 kB")
WIDTH = Bound(1 << 20, "features of a layer of a head", "no layer is wider")
PIPED, WRITER = 60, 5
"""Seconds: until a pipe of text has ended, and until somebody opens a named one for writing."""
