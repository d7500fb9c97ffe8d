"""HDF5, read by ourselves (HDF Group, "HDF5 File Format Specification" version 4.0; sections are named by number).

libhdf5 loops for ever, or crashes, on files that are damaged in the right place, in C, where no signal gets in.  A
process that can be stopped would hold that, at the price of another interpreter with NumPy for every file.  But the
part of the format that holds weights is small, so it is read here, where every look at structure is counted against
the file's size (``counted.py``): each walk has an end, and nothing but Python, NumPy and zlib runs.  It takes less time
than libhdf5, too.  h5py is needed for writing only.
"""

from converter.formats.hdf5.tree import H5Group, matches, read_hdf5

__all__ = ["H5Group", "matches", "read_hdf5"]
