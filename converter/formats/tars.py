"""The members of a tar, found by their headers alone (POSIX.1-2001 ustar and pax, GNU's long names and sizes).

The standard library's reader backtracks over a damaged pax header; here a header costs what it is long.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array
from converter.core.errors import UnreadableFile
from converter.core.mapping import steady

BLOCK = 512


@dataclass(frozen=True)
class Member:
    """A file in a tar: its name and where its bytes are; ``head`` is where the first of its headers is."""

    name: str
    start: int
    size: int
    head: int = 0


def is_tar(head: bytes) -> bool:
    """Whether a file begins like a tar."""
    return head[257:262] == b"ustar"


def members(data: Array, where: str) -> list[Member]:
    """The files of a tar, in order.

    Args:
        data: all bytes, flat.
        where: names the tar in errors.

    Raises:
        UnreadableFile: it is damaged or truncated, or has too many members.
    """
    try:
        found = []
        for member in each_member(lambda at, size: steady(data[at : at + size]).tobytes(), len(data), where):
            found.append(member)
            if len(found) > bounds.MEMBERS:
                raise UnreadableFile(f"{where}: a tar of more than {bounds.MEMBERS} members")
        return found
    except ValueError as error:
        raise UnreadableFile(f"{where}: damaged tar ({error})") from error


def each_member(
    read: Callable[[int, int], bytes], length: int, where: str, at: int = 0
) -> Generator[Member, None, int]:
    """The files of a tar one after the other, however many there are.

    Args:
        read: gives as many bytes as asked for from a place on, or fewer where there are no more.
        length: bytes of the tar.
        where: names the tar in errors.
        at: where to begin: the first header of a member.

    Returns:
        where its end stands, or should.

    Raises:
        UnreadableFile: it is truncated.
        ValueError: it is damaged.
    """
    said, first = dict[str, str](), at
    while at + BLOCK <= length:
        head = read(at, BLOCK)
        if not head.strip(b"\0"):
            break
        _check_sum(head)
        size, kind = _number(head[124:136]), head[156:157]
        name = _text(head[:100])
        if head[257:263] == b"ustar\0" and (folder := _text(head[345:500])):
            name = f"{folder}/{name}"
        start = at + BLOCK
        if kind in b"xgLK" and kind:
            if size > bounds.TAR_HEADER:
                raise ValueError(f"a header of {size} bytes")
            said |= _extension(kind, read(start, size))
        else:
            size = int(said["size"]) if said.get("size", "").isdecimal() else size
            if kind in (b"0", b"\0", b"7"):
                if start + size > length:
                    raise UnreadableFile(f"{where}: truncated tar")
                yield Member(said.get("path", name), start, size, first)
            elif kind in b"123456":  # links, devices and folders have no bytes
                size = 0
            said = {}
        at = start + -(-size // BLOCK) * BLOCK
        first = first if said else at
    return at


def _check_sum(head: bytes) -> None:
    """Compare a header with the sum of its bytes, its own field taken as blanks (POSIX.1-1988, 10.1.1).

    Raises:
        ValueError: it is damaged: its name or size may be another's.
    """
    said, others = _number(head[148:156]), head[:148] + b" " * 8 + head[156:]
    if said != sum(others) and said != np.frombuffer(others, np.int8).sum():  # old tars count signed bytes
        raise ValueError("a header has another sum than it says")


def _number(field: bytes) -> int:
    """Octal digits; or GNU's base 256, marked by the first bit.

    Raises:
        ValueError: it is neither.
    """
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    if not digits.isdigit():  # a sign would lead back to where the reader was
        raise ValueError(f"a size of {digits!r}")
    return int(digits, 8)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def _extension(kind: bytes, body: bytes) -> dict[str, str]:
    """What a header says of the next member: GNU's long name, or pax records ``LENGTH KEY=VALUE``."""
    if kind == b"L":
        return {"path": _text(body)}
    result, at = dict[str, str](), 0
    while kind == b"x" and at < len(body):
        digits = body[at : at + 20].split(b" ", 1)[0]
        length = int(digits) if digits.isdigit() else 0
        if length <= len(digits) + 1:
            raise ValueError("a pax record without a length")
        key, _, value = body[at + len(digits) + 1 : at + length].rstrip(b"\n").partition(b"=")
        result[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        at += length
    return {key: value for key, value in result.items() if key in ("path", "size")}
