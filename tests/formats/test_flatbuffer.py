"""FlatBuffers: whatever place a file has, nothing outside it is looked at, and nothing without end."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from converter.core.errors import UnreadableFile
from converter.formats.flatbuffer import PAGE, Buffer


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def table(*fields: bytes) -> bytes:
    """A root table with these fields, each of four bytes."""
    entries = range(4, 4 + 4 * len(fields), 4)
    vtable = struct.pack(f"<{2 + len(fields)}H", 4 + 2 * len(fields), 4 + 4 * len(fields), *entries)
    at = 4 + len(vtable)
    return struct.pack("<I", at) + vtable + struct.pack("<i", len(vtable)) + b"".join(fields)


def test_fields_and_their_defaults(tmp_path: Path) -> None:
    content = table(struct.pack("<i", -7), struct.pack("<f", 0.5), struct.pack("<I", 4))
    found = Buffer(written(tmp_path / "f", content + struct.pack("<I", 3) + b"abc\0")).root()
    assert (found.number(0), found.number(1, "<f"), found.text(2)) == (-7, 0.5, "abc")
    assert (found.number(3, default=9), found.text(4), found.table(5), list(found.tables(6))) == (9, "", None, [])
    assert bytes(found.raw(2)) == b"abc"
    assert found.has(2)


def test_fields_across_pages(tmp_path: Path) -> None:
    """A number may begin in one page and end in the next."""
    for shift in range(4):
        name = b"x" * (PAGE - 50 + shift)
        vector = struct.pack("<I", len(name)) + name
        content = table(struct.pack("<I", 8), struct.pack("<I", 4 + len(vector))) + vector
        content += struct.pack("<I", 25) + struct.pack("<25i", *range(25))
        found = Buffer(written(tmp_path / "f", content)).root()
        assert found.numbers(1) == list(range(25))
        assert bytes(found.raw(0)) == name


@pytest.mark.parametrize(
    "field",
    [struct.pack("<I", 0xFFFFFFFF), struct.pack("<I", 100), struct.pack("<I", 4)],
    ids=["far", "behind", "long"],
)
def test_places_outside_are_errors(tmp_path: Path, field: bytes) -> None:
    found = Buffer(written(tmp_path / "f", table(field) + struct.pack("<I", 1 << 30) + b"abc\0")).root()
    for look in (found.text, found.numbers, found.raw, found.texts, found.has, lambda n: list(found.tables(n))):
        with pytest.raises(UnreadableFile, match="damaged"):
            look(0)


def test_a_root_outside_is_an_error(tmp_path: Path) -> None:
    for content in (b"\xff\xff\xff\xff", b"\0\0", struct.pack("<Ii", 4, 1 << 30), struct.pack("<Ii", 4, -(1 << 30))):
        with pytest.raises(UnreadableFile, match="damaged"):
            Buffer(written(tmp_path / "f", content)).root().number(0)
