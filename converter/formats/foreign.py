"""What stands where a checkpoint should: web pages, pointers, messages, archives that are not read."""

from __future__ import annotations

import re
from pathlib import Path

from converter.core import bounds

HTML = re.compile(rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
TITLE = re.compile(rb"<title[^>]*>([^<]*)", re.IGNORECASE)
TEXT = re.compile(rb"[\t\r\n\x20-\x7e]+")
SHOWN = 60
BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run git lfs pull"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd, which is not read; unpack it"),
    (b"\x04\x22\x4d\x18", "compressed with lz4, which is not read; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive, which is not read; unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive, which is not read; unpack it"),
    (b"%PDF", "a PDF document"),
)
"""First bytes, and what they say."""
FOLDERS: tuple[tuple[str, str], ...] = (
    (
        "_CHECKPOINT_METADATA",
        "a checkpoint of Orbax, which is not read; restore it and give what flax.serialization.msgpack_serialize makes",
    ),
)
"""Files that are in a folder, and what they say it is."""
EXECUTORCH = re.compile(rb".{4}ET\d\d", re.DOTALL)
"""A FlatBuffer's place of its root, then its identifier (ExecuTorch, schema/program.fbs: ``file_identifier``)."""


def what_it_is(path: Path, head: bytes) -> str:
    """What the first bytes of a file say it is that can be no checkpoint; empty where they say nothing."""
    if HTML.match(head):
        return (
            f"an HTML page{_titled(path)}, not a checkpoint: the address gave a web page (a login, a confirmation, an "
            "error); download the file itself"
        )
    if EXECUTORCH.match(head):
        return "a program for ExecuTorch, which is run and not read; name what it was made of"
    return next((what for magic, what in BEGINNINGS if head.startswith(magic)), "")


def folder_it_is(path: Path) -> str:
    """What a folder is that no reader takes."""
    found = (what for name, what in FOLDERS if (path / name).is_file())
    return f"is {next(found, 'a folder, not a checkpoint; name the file in it')}"


def _titled(path: Path) -> str:
    """The title of a page, where its beginning has one."""
    from html import unescape  # noqa: PLC0415 (for few)

    with path.open("rb") as file:
        found = TITLE.search(file.read(bounds.MANIFEST))
    title = " ".join(unescape(found[1].decode("utf-8", "replace")).split()) if found else ""
    return f" ({title if len(title) <= SHOWN else f'{title[:SHOWN]}...'!r})" if title else ""


def text_it_is(head: bytes) -> str:
    """How a file begins that is text and that no reader takes; empty where it is none."""
    if not TEXT.fullmatch(head):
        return ""
    first = head.decode("ascii").strip()
    line = first.splitlines()[0] if first else ""
    shown = line if len(line) <= SHOWN else f"{line[:SHOWN]}..."
    return f"a text file, not a checkpoint of a known format; it begins {shown!r}"
