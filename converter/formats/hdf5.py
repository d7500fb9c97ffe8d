"""HDF5, as a tree of groups (HDF Group, "HDF5 File Format Specification"; parsed by h5py).

h5py reads the structure only: arrays that lie in one piece are used in place, mapped.
Of what HDF5 allows, links and arrays that live in other files are refused.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import ConverterError, Unavailable, UnreadableFile, UnsafeFile
from converter.core.mapping import steady
from converter.formats.hdf5_headers import check_heaps, text_lengths
from converter.formats.zips import MAX_RATIO

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_ATTRIBUTE = 1 << 20
MAX_DEPTH = 40
MAX_OBJECTS = 200_000
FILTERS = frozenset((1, 2, 3, 32000))
"""Deflate, shuffle, checksum, lzf: what h5py itself brings.  Any other would be loaded as a plugin."""


class H5Group(dict[str, Any]):
    """A group's members by name: groups, Tensors, or None for what is no array of numbers."""

    __slots__ = ("attributes",)

    def __init__(self, members: Any = (), attributes: dict[str, Any] | None = None) -> None:
        super().__init__(members)
        self.attributes: dict[str, Any] = attributes or {}


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins like HDF5."""
    return head.startswith(MAGIC)


def read_hdf5(data: Array, where: str) -> H5Group:
    """The root group of an HDF5 file, its tensors unread.

    Args:
        data: all bytes of the file, flat.
        where: names the file in errors.

    Raises:
        Unavailable: h5py is not installed.
        UnreadableFile: damaged, truncated, or compressed in a way h5py does not bring.
        UnsafeFile: it points to another file.
    """
    root: H5Group = _guarded(data, where, lambda file: _Walk(data, where).group(file, 0))
    return root


def h5py_module() -> Any:
    """The h5py package, which only HDF5 needs.

    Raises:
        Unavailable: it is not installed.
    """
    try:
        import h5py  # noqa: PLC0415
    except ImportError as error:
        raise Unavailable("HDF5 (Keras .h5 and .keras) needs h5py: pip install 'densenet-converter[keras]'") from error
    return h5py


def _guarded(data: Array, where: str, use: Callable[[Any], Any]) -> Any:
    """Open, use, close.  A damaged file makes h5py raise nearly anything; here it becomes our one error."""
    h5py = h5py_module()
    try:
        with h5py.File(_Bytes(data), "r") as file:
            return use(file)
    except ConverterError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise UnreadableFile(f"{where}: damaged or truncated HDF5 ({reason})") from error


class _Bytes(io.RawIOBase):
    """Mapped bytes as the file object h5py reads from: nothing is copied, nothing else can be opened."""

    def __init__(self, data: Array) -> None:
        self.data, self.at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + (0, self.at, len(self.data))[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        piece = self.data[self.at : self.at + len(buffer)]
        buffer[: len(piece)] = steady(piece).data
        self.at += len(piece)
        return len(piece)


class _Walk:
    """One pass over all objects of a file."""

    def __init__(self, data: Array, where: str) -> None:
        self.h5py = h5py_module()
        self.data, self.where = data, where
        self.seen: set[int] = set()
        self.text = 0  # length of all texts so far
        self.heaps = False  # whether they have been looked at

    def group(self, group: Any, depth: int) -> H5Group:
        h5py = self.h5py
        address = h5py.h5o.get_info(group.id).addr
        if address in self.seen or depth > MAX_DEPTH or len(self.seen) > MAX_OBJECTS:
            raise UnreadableFile(f"{self.where}: its groups contain each other, or are too many")
        self.seen.add(address)
        result = H5Group(attributes=self.attributes(group))
        links = group.id.links
        for raw in group.id:
            kind, path = links.get_info(raw).type, f"{group.name.rstrip('/')}/{raw.decode('utf-8', 'replace')}"
            if kind != h5py.h5l.TYPE_HARD:
                raise UnsafeFile(f"{self.where}: refused, {path} is a link, which can lead out of the file")
            member = h5py.h5o.open(group.id, raw)
            name = raw.decode("utf-8", "replace")
            if isinstance(member, h5py.h5g.GroupID):
                result[name] = self.group(h5py.Group(member), depth + 1)
            elif isinstance(member, h5py.h5d.DatasetID):
                result[name] = self.tensor(h5py.Dataset(member), path)
        return result

    def attributes(self, owner: Any) -> dict[str, Any]:
        """Numbers and texts among the attributes, as plain Python values."""
        h5a, h5t = self.h5py.h5a, self.h5py.h5t
        result: dict[str, Any] = {}
        claims: dict[str, int] | None = None
        names: list[bytes] = []
        h5a.iterate(owner.id, names.append)  # by index each would be searched for from the first on
        for raw in names:
            attribute = h5a.open(owner.id, raw)
            name, kind = raw.decode("utf-8", "replace"), attribute.get_type()
            if not isinstance(kind, (h5t.TypeStringID, h5t.TypeIntegerID, h5t.TypeFloatID)):
                continue
            size = prod(attribute.shape or ()) * kind.get_size()
            if isinstance(kind, h5t.TypeStringID) and kind.is_variable_str():
                if not self.heaps:
                    self.heaps = check_heaps(self.data)
                if claims is None:
                    claims = text_lengths(self.data, self.h5py.h5o.get_info(owner.id).addr)
                self.text += claims.get(name, len(self.data) + 1)
            if size > MAX_ATTRIBUTE or self.text > len(self.data):
                raise UnreadableFile(f"{self.where}: the attribute {name} has a size that cannot be right")
            result[name] = _plain(owner.attrs[name])
        return result

    def tensor(self, dataset: Any, path: str) -> Tensor | None:
        """A dataset, used in place if it is stored in one piece."""
        h5d, shape, itemsize = self.h5py.h5d, dataset.shape, dataset.id.get_type().get_size()
        dtype = dataset.dtype
        if "dtype" in dataset.attrs and itemsize == 2 and self.attributes(dataset)["dtype"] == "bfloat16":
            dtype = np.dtype(ml_dtypes.bfloat16)  # Keras 3, saving_lib.H5IOStore
        elif dtype.kind not in "fiub" or shape is None:
            return None  # text, references ...: no weights
        plist = dataset.id.get_create_plist()
        if plist.get_external_count() or plist.get_layout() == h5d.VIRTUAL:
            raise UnsafeFile(f"{self.where}: refused, the values of {path} are in another file")
        size, stored = prod(shape) * itemsize, dataset.id.get_storage_size()
        if not all(n >= 0 for n in shape) or stored > len(self.data):
            raise UnreadableFile(f"{self.where}: truncated, {path} is larger than the file")
        native = dtype.newbyteorder("=")
        offset = dataset.id.get_offset()
        if plist.get_layout() == h5d.CONTIGUOUS:
            if size and (offset is None or stored != size or offset + size > len(self.data)):
                raise UnreadableFile(f"{self.where}: truncated, {path} ends behind the end of the file")
            if dtype == ml_dtypes.bfloat16 or dataset.id.get_type() == self.h5py.h5t.py_create(dtype):
                return Tensor.over(self.data[offset or 0 :][:size], dtype, shape)
        elif plist.get_layout() == h5d.CHUNKED:
            used = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
            if used - FILTERS:
                raise UnreadableFile(f"{self.where}: {path} is compressed in a way that cannot be read")
            chunk = prod(plist.get_chunk()) * itemsize
            if size > stored * (MAX_RATIO if used else 1) or chunk > max(size, MAX_ATTRIBUTE):
                raise UnreadableFile(f"{self.where}: {path} has a size that cannot be right")
        elif size > stored:
            raise UnreadableFile(f"{self.where}: {path} has a size that cannot be right")
        data, where = self.data, self.where

        def read() -> Array:
            array: Array = _guarded(data, where, lambda file: file[path][()])
            return array.view(native) if dtype == ml_dtypes.bfloat16 else array.astype(native, copy=False)

        return Tensor(tuple(shape), native, read)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.ravel().tolist()]
    return value.item() if isinstance(value, np.generic) else value
