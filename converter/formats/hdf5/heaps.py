"""Heaps: of names (local, III.D), of texts (global, III.E), of links and attributes (fractal, III.G)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from converter.formats.hdf5.btrees import records, width
from converter.formats.hdf5.checksums import lookup3
from converter.formats.hdf5.counted import COST, UNDEFINED, Counted, NotRead

HUGE_RECORDS = 1
"""The kind of tree that finds the huge objects of a fractal heap."""


def names(file: Counted, address: int) -> bytes:
    """The names in a local heap, each with a zero behind it.

    Raises:
        ValueError: no valid heap is there.
    """
    _, size, _, place = struct.unpack_from("<4s4xQQQ", file.at(address, 32, b"HEAP"))
    return file.at(place, size)


def name_at(found: bytes, offset: int) -> bytes:
    """One of them.

    Raises:
        ValueError: there is none.
    """
    end = found.find(b"\0", offset)
    if end < 0 or offset > len(found):
        raise ValueError("a name that is not in its heap")
    return found[offset:end]


class GlobalHeaps:
    """The texts of a file by heap and number."""

    def __init__(self, file: Counted) -> None:
        self.file = file
        self.heaps: dict[int, dict[int, tuple[int, int]]] = {}

    def object(self, address: int, number: int) -> bytes:
        """One text.

        Raises:
            ValueError, KeyError: it is not there.
        """
        if address not in self.heaps:
            self.heaps[address] = self._heap(address)
        if number not in self.heaps[address]:
            raise ValueError(f"no text {number} in the heap at {address}")
        start, size = self.heaps[address][number]
        return self.file.at(start, size)

    def _heap(self, address: int) -> dict[int, tuple[int, int]]:
        """Where its objects are, and how long."""
        (size,) = struct.unpack_from("<Q", self.file.at(address, 16, b"GCOL\x01"), 8)
        body, at = self.file.at(address, size), 16
        result: dict[int, tuple[int, int]] = {}
        while at + 16 <= size:
            number, length = struct.unpack_from("<H6xQ", body, at)
            self.file.spend(COST)
            if number:
                result[number] = address + at + 16, length
            elif length < 16:  # of what is free, the length counts these 16 bytes too
                raise ValueError("a heap with an object of no size")
            at += 16 + -(-length // 8) * 8 if number else length
            if at > size:
                raise ValueError("a heap with an object that reaches behind it")
        return result


class Block(NamedTuple):
    """A direct block: objects lie in it."""

    offset: int
    size: int
    address: int


class FractalHeap:
    """Objects by their ids.

    Raises:
        ValueError, struct.error: no valid heap is there, or its blocks are compressed.
    """

    def __init__(self, file: Counted, address: int) -> None:
        head = file.at(address, 146, b"FRHP")
        if int.from_bytes(head[7:9], "little"):
            raise NotRead("compressed heaps are not read")
        head = file.summed(address, 146, b"FRHP")
        self.file, self.flags = file, head[9]
        (largest, _, huge) = struct.unpack_from("<IQQ", head, 10)
        self.columns, self.first, self.most, bits = struct.unpack_from("<HQQH", head, 110)
        (root, rows) = struct.unpack_from("<QH", head, 132)
        self.offset_width = -(-bits // 8)
        self.length_width = min(width(self.most), width(largest))
        powers = all(value > 0 and value & (value - 1) == 0 for value in (self.columns, self.first, self.most))
        if not powers or self.first > self.most or bits > 64 or rows > 64:
            raise ValueError("a heap with blocks of impossible sizes")
        self.direct_rows = self.most.bit_length() - self.first.bit_length() + 2
        self.huge_address, self.huge = huge, dict[bytes, tuple[int, int]]()
        self.blocks: list[Block] = []
        if root != UNDEFINED:
            if rows:
                self._indirect(root, 0, rows)
            else:
                self.blocks.append(Block(0, self.first, root))
        for block in self.blocks:
            self._check(block)

    def _indirect(self, address: int, offset: int, rows: int) -> None:
        """List the direct blocks below an indirect one; rows 0 and 1 have the first size, each next one doubles it."""
        size = 4 + 1 + 8 + self.offset_width + 8 * self.columns * rows + 4
        body = self.file.summed(address, size, b"FHIB")
        at = 13 + self.offset_width
        for row in range(rows):
            length = self.first << max(row - 1, 0)
            for _ in range(self.columns):
                (child,) = struct.unpack_from("<Q", body, at)
                if child != UNDEFINED and row < self.direct_rows:
                    self.blocks.append(Block(offset, length, child))
                elif child != UNDEFINED:
                    below = (length // (self.first * self.columns)).bit_length()
                    if not below or below >= rows:
                        raise ValueError("a heap whose blocks contain each other")
                    self._indirect(child, offset, below)
                at, offset = at + 8, offset + length

    def _check(self, block: Block) -> None:
        """Compare a block with its checksum, which stands in its head, if it has one."""
        head = 13 + self.offset_width
        body = self.file.at(block.address, block.size, b"FHDB")
        if self.flags & 2:
            zeroed = body[:head] + bytes(4) + body[head + 4 :]
            if lookup3(zeroed) != int.from_bytes(body[head : head + 4], "little"):
                raise ValueError(f"a wrong checksum at {block.address}")

    def object(self, key: bytes) -> bytes:
        """An object by its id: managed (in a block), huge (anywhere) or tiny (in the id).

        Raises:
            ValueError: there is none.
        """
        kind = key[0] >> 4 & 3
        if kind == 2:
            return key[1 : 2 + (key[0] & 15)]
        if kind == 1:
            return self.file.at(*self._huge(key))
        end = 1 + self.offset_width
        offset, length = (
            int.from_bytes(key[1:end], "little"),
            int.from_bytes(key[end : end + self.length_width], "little"),
        )
        for block in self.blocks:
            self.file.spend(1)
            if block.offset <= offset and offset + length <= block.offset + block.size:
                return self.file.at(block.address + offset - block.offset, length)
        raise ValueError("an object that is in no block of its heap")

    def _huge(self, key: bytes) -> tuple[int, int]:
        """Where a huge object is: its id is the key of a tree, or says so where it is long enough."""
        if len(key) >= 17:
            return struct.unpack_from("<QQ", key, 1)
        if not self.huge:
            for record in records(self.file, self.huge_address, HUGE_RECORDS):
                address, length = struct.unpack_from("<QQ", record)
                self.huge[record[16:24]] = address, length
        wanted = key[1:9].ljust(8, b"\0")
        if wanted not in self.huge:
            raise ValueError("an object that is not in its heap")
        return self.huge[wanted]
