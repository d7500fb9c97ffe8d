"""The bytes of a file's structure, read through its descriptor and counted."""

from __future__ import annotations

from converter.core.checkpoint import Array
from converter.core.mapping import steady
from converter.formats.hdf5.checksums import lookup3

UNDEFINED = (1 << 64) - 1
"""The address of what was never written (I)."""
SHIFT = 14
PAGES = 1 << 10
COST = 64
"""What a read or an entry counts beside its bytes."""
SUMMED = 4
"""How often a byte counts, beside once, whose checksum is compared."""
RATIO, BASE = 7, 1 << 20
"""Valid structure is read once, so its reads come to no more than the file, times this, and this."""


class NotRead(ValueError):
    """HDF5 of a form that is not read; says which.  Other ValueErrors mean damage."""


class Counted:
    """A file's bytes; what is read of them, in all, is in proportion to the file.

    Attributes:
        data: all bytes, flat.
        what: names it where something is wrong.
    """

    def __init__(self, data: Array, what: str) -> None:
        self.data, self.what = data, what
        self.left = RATIO * len(data) + BASE
        self.values = len(data)
        self.pages: dict[int, bytes] = {}

    def spend(self, size: int) -> None:
        """Count work of so many bytes.

        Raises:
            ValueError: more than a valid file of this size can ask for.
        """
        self.left -= size
        if self.left < 0:
            raise ValueError("its parts refer to each other without end")

    def take(self, size: int) -> None:
        """Count bytes of values.

        Raises:
            ValueError: more than the file has, so that some would be in two arrays.
        """
        self.values -= size
        if self.values < 0:
            raise ValueError("its arrays are larger than the file")

    def at(self, address: int, size: int, signature: bytes = b"") -> bytes:
        """Bytes of the structure.

        Raises:
            ValueError: they are not in the file, or do not begin as they should.
        """
        end = address + size
        if size < 0 or end > len(self.data):
            raise ValueError(f"truncated, or an address ({address}) that cannot be right")
        self.spend(size + COST)
        number = address >> SHIFT
        if end <= (number + 1) << SHIFT:
            page = self.pages.get(number)
            if page is None:
                if len(self.pages) == PAGES:
                    self.pages.clear()
                page = self.pages[number] = steady(self.data[number << SHIFT : (number + 1) << SHIFT]).tobytes()
            start = address - (number << SHIFT)
            found = page[start : start + size]
        else:
            found = steady(self.data[address:end]).tobytes()
        if not found.startswith(signature):
            raise ValueError(f"no {signature.decode('ascii')} at {address}")
        return found

    def summed(self, address: int, size: int, signature: bytes) -> bytes:
        """Bytes of the structure that end with a checksum, without it.

        Raises:
            ValueError: they are not in the file, do not begin as they should, or have another sum.
        """
        found = self.at(address, size, signature)
        self.spend(SUMMED * size)
        if size < 4 or lookup3(found[:-4]) != int.from_bytes(found[-4:], "little"):
            raise ValueError(f"a wrong checksum at {address}")
        return found[:-4]
