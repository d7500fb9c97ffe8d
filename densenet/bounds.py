"""Bounds of what pictures, volumes and descriptions of a network may ask for.  The reader of files has its own
(``converter.core.bounds``)."""

import stat
from errno import EISDIR
from os import strerror
from pathlib import Path


def never_ends(path: Path) -> bool:
    """Whether what is there is a pipe, a device or a socket: reading it may take for ever."""
    return path.exists() and not path.is_file() and not path.is_dir()


def read_small(path: Path, most: int | None = None) -> bytes:
    """A small file.

    Args:
        path: the file.
        most: its size; by default ``TEXT``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or no file but a device, say, or a pipe, which might never end.
    """
    limit = TEXT if most is None else most
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(EISDIR, strerror(EISDIR), str(path))
    if never_ends(path):
        raise ValueError("no regular file")
    if status.st_size > limit:
        raise ValueError(f"{status.st_size:,} bytes, {limit:,} are read")
    return path.read_bytes()


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
