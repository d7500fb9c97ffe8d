"""Fields of a Protocol Buffers message by their number, for readers that want a few of them."""

from __future__ import annotations

from collections.abc import Iterator

from converter.core.errors import UnreadableFile
from converter.formats.protobuf import fields, signed


def messages(data: memoryview, number: int) -> Iterator[memoryview]:
    """The values of one repeated field that are messages or text."""
    return (value for n, _, value in fields(data) if n == number and isinstance(value, memoryview))


def text(data: memoryview, number: int) -> str:
    """A field of text; empty if it is absent.

    Raises:
        UnreadableFile: it is not UTF-8.
    """
    try:
        return next((str(value, "utf-8") for value in messages(data, number)), "")
    except UnicodeDecodeError as error:
        raise UnreadableFile("malformed protobuf, a name is not text") from error


def number(data: memoryview, field: int) -> int:
    """A field that is a number; 0 if it is absent."""
    return next((signed(value) for n, _, value in fields(data) if n == field and isinstance(value, int)), 0)
