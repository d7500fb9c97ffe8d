"""HDF5 as h5py writes it, old and new forms, and damaged so that libhdf5 would loop or crash."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.keras import FLYYUFELIX, WEIGHTS

from converter.core.checkpoint import Tensor
from converter.core.errors import ConverterError, UnreadableFile
from converter.formats.hdf5 import H5Group, read_hdf5

FORMS = ["earliest", "v108", "latest"]
SHAPE = (13, 7, 5)
CHUNKED: dict[str, dict[str, Any]] = {
    "plain": {"chunks": (4, 3, 2)},
    "gzip": {"chunks": (4, 3, 2), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"chunks": (4, 7, 5), "compression": "lzf"},
    "one": {"chunks": SHAPE, "compression": "gzip"},
    "one plain": {"chunks": SHAPE},
    "grows": {"chunks": (2, 2, 2), "maxshape": (13, None, 5)},
    "grows compressed": {"chunks": (2, 2, 2), "maxshape": (13, None, 5), "compression": "gzip"},
    "grows twice": {"chunks": (1, 2, 2), "maxshape": (None, None, 5)},
    "grows twice, compressed": {"chunks": (1, 2, 2), "maxshape": (None, None, 5), "compression": "gzip"},
}


def written(path: Path, form: str, many: int = 300) -> Path:
    """A file with everything that weights have been stored in."""
    values = np.random.default_rng(0).random(SHAPE, np.float32)
    with h5py.File(path, "w", libver=(form, "latest")) as file:
        file.attrs["text"] = "grüße"
        file.attrs["fixed"] = np.array([b"aa", b"b"])
        file.attrs["texts"] = ["", "a", "bb"]
        file.attrs["none"] = np.zeros((0,), np.float32)
        file.attrs["numbers"] = [[1, 2], [3, 4]]
        file.attrs["long"] = "x" * 50_000
        file["half"] = values.astype(np.float16)
        file["big-endian"] = values.astype(">f8")
        file["integers"] = np.arange(7)
        file["boolean"] = np.array([True, False])
        file["scalar"] = np.float32(3)
        file["nothing"] = np.zeros((0, 3), np.float32)
        file["words"] = "no weights"
        file["type"] = np.dtype(np.float32)
        file.create_dataset("named type", data=values, dtype=file["type"])
        for name, how in CHUNKED.items():
            file.create_dataset(name, data=values, **how)
        file.create_dataset("many", data=np.arange(10 * many, dtype=np.float32), chunks=(1,))
        file.create_dataset("growing", data=np.arange(20 * many, dtype=np.float32), chunks=(2,), maxshape=(None,))
        made = file.create_group("by time", track_order=True)
        for name in "cab":
            made[name] = np.float32(ord(name))
        for i in range(many):
            file.create_group(f"many groups/{'n' * (i % 40)}{i}")
        attributes = file.create_group("many attributes").attrs
        for i in range(many):
            attributes[f"{'n' * (i % 40)}{i}"] = "text" * (i % 9)
        if form != "earliest":  # where no attribute has more than 64 kB
            attributes["huge"] = np.arange(9000.0)
    return path


def same(have: Any, want: h5py.Group | h5py.Dataset) -> None:
    """Compare with what h5py reads."""
    if isinstance(want, h5py.Datatype) or (isinstance(want, h5py.Dataset) and want.dtype.kind not in "fiub"):
        assert have is None
    elif isinstance(want, h5py.Dataset):
        assert isinstance(have, Tensor)
        values = want[()]
        assert have.shape == values.shape
        assert have.dtype == values.dtype.newbyteorder("=")
        assert np.array_equal(have.read(), values)
    else:
        assert isinstance(have, H5Group)
        assert have.attributes.keys() == want.attrs.keys()
        for name, value in want.attrs.items():
            flat = np.ravel(value).tolist() if np.ndim(value) else value
            said = [text.decode() if isinstance(text, bytes) else text for text in flat] if np.ndim(value) else flat
            assert have.attributes[name] == said
        members = [name for name in want if not isinstance(want[name], h5py.Datatype)]
        assert list(have) == members
        for name in members:
            same(have[name], want[name])


@pytest.mark.parametrize("form", FORMS)
def test_all_that_h5py_writes_is_read_as_h5py_reads_it(tmp_path: Path, form: str) -> None:
    path = written(tmp_path / "a.h5", form)
    with h5py.File(path) as file:
        same(read_hdf5(np.fromfile(path, np.uint8), "a.h5"), file)


def tensors(group: H5Group) -> list[Tensor]:
    found: list[Tensor] = []
    for member in group.values():
        found += tensors(member) if isinstance(member, H5Group) else [member] if isinstance(member, Tensor) else []
    return found


def changed(data: bytes, chance: random.Random) -> bytearray:
    """Some bytes, words or ranges replaced, or the end cut off."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at, size = chance.randrange(len(data)), chance.choice((1, 2, 4, 8, 64))
        new = chance.choice(
            (bytes(size), b"\xff" * size, chance.randbytes(size), chance.randrange(1 << 20).to_bytes(8))
        )
        result[at : at + len(new)] = new
    return result[: chance.randrange(len(data))] if chance.random() < 0.1 else result


@pytest.mark.parametrize("name", [*FORMS, "keras", "old"])
def test_damage_is_one_error_and_has_an_end(tmp_path: Path, name: str) -> None:
    files = {"keras": WEIGHTS, "old": FLYYUFELIX}
    path = files.get(name) or written(tmp_path / "a.h5", name, 12)
    data, chance = path.read_bytes(), random.Random(name)
    refused = 0
    for _ in range(40):
        piece = changed(data, chance)
        began = time.process_time()
        try:
            for tensor in tensors(read_hdf5(np.frombuffer(bytes(piece), np.uint8), "a.h5")):
                tensor.read()
        except ConverterError as error:
            refused += 1
            assert str(error).startswith("a.h5: ")
            assert "\n" not in str(error)
        assert time.process_time() - began < 5
    assert refused


# -- made to take long ----------------------------------------------------------------------

NEVER = (1 << 64) - 1
NO_LINKS = (2, struct.pack("<BBQQ", 0, 0, NEVER, NEVER))
ROOT = 96


def superblock(size: int) -> bytes:
    head = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI", 4, 16, 0)
    return head + struct.pack("<4Q", 0, NEVER, size, NEVER) + struct.pack("<QQII16x", 0, ROOT, 0, 0)


def header(*parts: tuple[int, bytes]) -> bytes:
    padded = [(kind, body.ljust(-(-len(body) // 8) * 8, b"\0")) for kind, body in parts]
    body = b"".join(struct.pack("<HHB3x", kind, len(body), 0) + body for kind, body in padded)
    return struct.pack("<BBHII4x", 1, 0, 0, 1, len(body)) + body


def symbols(tree: int, heap: int) -> bytes:
    return header((0x11, struct.pack("<QQ", tree, heap)))


def tree(level: int, children: list[int]) -> bytes:
    entries = b"".join(struct.pack("<QQ", 0, child) for child in children)
    return b"TREE" + struct.pack("<BBHQQ", 0, level, len(children), NEVER, NEVER) + entries + bytes(8)


def names(at: int, text: bytes) -> bytes:
    return b"HEAP" + bytes(4) + struct.pack("<QQQ", len(text), 1, at + 32) + text


def loop_in_a_tree() -> bytes:
    at = ROOT + len(symbols(0, 0))
    node = tree(1, [at] * 32)
    return symbols(at, at + len(node)) + node + names(at + len(node), bytes(8))


def one_long_name_for_all() -> bytes:
    at, count = ROOT + len(symbols(0, 0)), 5000
    entry = struct.pack("<QQII16x", 0, ROOT, 0, 0)
    node = tree(0, [at + len(tree(0, [0]))]) + b"SNOD\1\0" + struct.pack("<H", count) + entry * count
    return symbols(at, at + len(node)) + node + names(at + len(node), b"n" * 1_000_000 + b"\0")


def one_long_text_for_all() -> bytes:
    size, count = 1 << 20, 3000
    kind = bytes([0x19, 1, 0, 0]) + struct.pack("<I", 16) + bytes([0x13, 0, 0, 0]) + struct.pack("<I", 1) + bytes(8)
    shape = bytes([1, 1]) + bytes(6) + struct.pack("<Q", count)
    head = bytes([1, 0]) + struct.pack("<HHH", 2, len(kind), len(shape)) + b"a".ljust(8, b"\0") + kind + shape

    def root(heap: int) -> bytes:
        return header(NO_LINKS, (0x0C, head + struct.pack("<IQI", size, heap, 1) * count))

    heap = b"GCOL\1\0\0\0" + struct.pack("<Q", 32 + size) + struct.pack("<HHIQ", 1, 0, 0, size) + b"x" * size
    return root(ROOT + len(root(0))) + heap


def header_that_continues_in_itself() -> bytes:
    return header(NO_LINKS, (0x10, struct.pack("<QQ", ROOT + 16, 48)))


def group_in_itself() -> bytes:
    return header(NO_LINKS, (6, bytes([1, 0, 1]) + b"a" + struct.pack("<Q", ROOT)))


def array_in_two_places() -> bytes:
    """Each array of this file is all of the file."""
    size = 4096
    kind = bytes([0x11, 0x20, 31, 0]) + struct.pack("<IHHBBBBI", 4, 0, 32, 23, 8, 0, 23, 127)
    shape = bytes([1, 1]) + bytes(6) + struct.pack("<Q", size // 4)
    one = header((1, shape), (3, kind), (8, struct.pack("<BBQQ", 3, 1, 0, size)))

    def root(at: int) -> bytes:
        links = [(6, bytes([1, 0, 1, 65 + i]) + struct.pack("<Q", at + i * len(one))) for i in range(26)]
        return header(NO_LINKS, *links)

    return (root(ROOT + len(root(0))) + one * 26).ljust(size, b"\0")


ENDLESS = [
    loop_in_a_tree,
    one_long_name_for_all,
    one_long_text_for_all,
    header_that_continues_in_itself,
    group_in_itself,
    array_in_two_places,
]


@pytest.mark.parametrize("made", ENDLESS, ids=lambda made: made.__name__)
def test_what_refers_to_itself_has_an_end(made: Any) -> None:
    body = made()
    data = np.frombuffer(superblock(ROOT + len(body)) + body, np.uint8)
    began = time.process_time()
    with pytest.raises(UnreadableFile, match=r"m\.h5: damaged or truncated HDF5"):
        read_hdf5(data, "m.h5")
    assert time.process_time() - began < 1


def test_a_file_that_its_writer_did_not_close_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["w"] = np.zeros(3)
        file.flush()
        data = np.fromfile(path, np.uint8)
    with pytest.raises(UnreadableFile, match="not closed"):
        read_hdf5(data, "m.h5")


@pytest.mark.parametrize("form", FORMS)
def test_a_chunk_with_a_wrong_checksum_is_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w", libver=(form, "latest")) as file:
        file.create_dataset("w", data=np.full(64, 7, np.uint8), chunks=(64,), fletcher32=True)
    data = bytearray(path.read_bytes())
    data[data.index(b"\7" * 64)] ^= 1
    tensor = read_hdf5(np.frombuffer(bytes(data), np.uint8), "m.h5")["w"]
    with pytest.raises(UnreadableFile, match="checksum"):
        tensor.read()
