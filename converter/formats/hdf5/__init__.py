"""HDF5, read by ourselves (HDF Group, "HDF5 File Format Specification" version 4.0; sections are named by number).

libhdf5 loops for ever, or crashes, on files that are damaged in the right place, in C, where no signal gets in.  A
process that can be stopped would hold that, at the price of another interpreter with NumPy for every file.  But the
part of the format that holds weights is small, so it is read here, where every look at structure is counted against
the file's size (``counted.py``): each walk has an end, and nothing but Python, NumPy and zlib runs.  It takes less time
than libhdf5, too.  h5py is needed for writing only.
"""

from pathlib import Path

from converter.core.checkpoint import Array
from converter.formats.hdf5.group import MAGIC, H5Group

__all__ = ["H5Group", "matches", "read_hdf5"]


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins like HDF5."""
    return head.startswith(MAGIC)


def read_hdf5(data: Array, where: str) -> H5Group:
    """The root group of an HDF5 file, its tensors unread.

    Args:
        data: all bytes of the file, flat.
        where: names the file in errors.

    Raises:
        UnreadableFile: damaged, truncated, or of a form that is not read.
        UnsafeFile: it points to another file.
    """
    from converter.formats.hdf5.tree import read_tree  # noqa: PLC0415 (a dozen modules that other formats do without)

    return read_tree(data, where)
