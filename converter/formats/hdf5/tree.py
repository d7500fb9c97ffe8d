"""A file as a tree of groups.  Links and arrays that live in other files are refused."""

from __future__ import annotations

import struct

from converter.core import dtypes
from converter.core.checkpoint import Array, Tensor
from converter.core.errors import UnreadableFile, UnsafeFile
from converter.formats.damage import damaged
from converter.formats.hdf5.attributes import Attributes
from converter.formats.hdf5.counted import UNDEFINED, Counted, NotRead
from converter.formats.hdf5.datasets import dataset
from converter.formats.hdf5.group import MAGIC, H5Group
from converter.formats.hdf5.headers import DATASPACE, DATATYPE, LAYOUT, Message, messages, one
from converter.formats.hdf5.links import is_group, members
from converter.formats.hdf5.types import kind_of, shape_of

MAX_DEPTH = 40
MAX_OBJECTS = 100_000
OBJECT = 64
"""What an object counts beside what is read of it."""
WRITING = 0b101
"""Flags of a file that is being written, or whose writer ended early (II.C)."""


def read_tree(data: Array, where: str) -> H5Group:
    """See :func:`converter.formats.hdf5.read_hdf5`."""
    what = f"{where}: damaged or truncated HDF5"
    try:
        with damaged(what, ValueError, LookupError, struct.error, OverflowError, why=_said):
            walk = _Walk(Counted(data, what))
            try:
                return walk.root()
            except NotRead as error:
                raise UnreadableFile(f"{where}: HDF5 that is not read: {_said(error)}") from error
    except UnsafeFile as error:
        raise UnsafeFile(f"{where}: refused, {error}") from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _root(file: Counted) -> int:
    """The root group's address, from the superblock (II)."""
    head = file.at(0, 96 if len(file.data) >= 96 else 48, MAGIC)
    version = head[8]
    if version in (0, 1):
        offsets, lengths, at = head[13], head[14], 24 if version == 0 else 28
        base, _, end, driver, _, root = struct.unpack_from("<6Q", head, at)
    elif version in (2, 3):
        offsets, lengths, driver = head[9], head[10], UNDEFINED
        base, _, end, root = struct.unpack_from("<4Q", file.summed(0, 48, MAGIC), 12)
        if version == 3 and head[11] & WRITING:
            raise NotRead("it was not closed by what wrote it")
    else:
        raise NotRead(f"version {version} is not known")
    if (offsets, lengths) != (8, 8) or base or driver != UNDEFINED:
        raise NotRead(f"addresses of {offsets} bytes, a file within a file, or one in several parts")
    if end > len(file.data):
        raise ValueError(f"it has {len(file.data):,} bytes of {end:,}")
    return int(root)


class _Walk:
    """One pass over all objects of a file."""

    def __init__(self, file: Counted) -> None:
        self.file = file
        self.attributes = Attributes(file)
        self.groups: set[int] = set()
        self.count = 0
        self.arrays: dict[int, Tensor | None] = {}

    def root(self) -> H5Group:
        address = _root(self.file)
        self.groups.add(address)
        return self.group(messages(self.file, address), "", 0)

    def group(self, found: list[Message], path: str, depth: int) -> H5Group:
        if not is_group(found):
            raise ValueError(f"{path or '/'} is no group")
        result = H5Group(attributes=self.attributes.of(found))
        for raw, address in members(self.file, found):
            name = raw.decode("utf-8", "replace")
            place = f"{path}/{name}"
            if address is None:
                raise UnsafeFile(f"{place} is a link, which can lead out of the file")
            self.file.spend(OBJECT)
            self.count += 1
            if address in self.groups or depth == MAX_DEPTH or self.count > MAX_OBJECTS:
                raise ValueError("its groups contain each other, or are too many")
            if address in self.arrays:
                result[name] = self.arrays[address]
                continue
            inside = messages(self.file, address)
            if is_group(inside):
                self.groups.add(address)
                result[name] = self.group(inside, place, depth + 1)
            elif one(self.file, inside, LAYOUT):
                result[name] = self.arrays[address] = self.array(inside, place)
            elif not one(self.file, inside, DATATYPE):  # a type with a name is nothing to read
                raise ValueError(f"{place} is neither group nor array")
        return result

    def array(self, found: list[Message], path: str) -> Tensor | None:
        """An array of numbers; None of anything else."""
        kind, space = kind_of(one(self.file, found, DATATYPE)), one(self.file, found, DATASPACE)
        dtype, shape = kind.dtype, shape_of(space)
        if kind.size == 2 and self.attributes.of(found).get("dtype") == "bfloat16":
            dtype = dtypes.dtype("bfloat16")  # Keras 3, saving_lib.H5IOStore
        if dtype is None or shape is None:
            return None  # text, references ...: no weights
        return dataset(self.file, found, dtype, shape, path)
