"""The bytes of a shard, wherever it lies: a file, one of a data set on the Hub, an address of fsspec's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from converter.core.errors import ConverterError, Unavailable, UnreadableFile
from converter.core.source import shown
from converter.fetch.storage import reason, speaking

AHEAD = 1 << 20
"""Bytes that are fetched at once of what is in storage: some file systems take 50 MB, of which a block needs two."""
MARKS = (("etag",), ("generation",), ("mtime", "lastmodified", "last_modified", "updated", "modify"), ("created",))
"""What file systems call what is another once a file is changed, the surest first."""


def is_remote(address: str) -> bool:
    """Whether an address is no local path."""
    return "://" in address


def place_of(address: str | None) -> str | Path | None:
    """An address as a path where it is one, whose content can be told."""
    return Path(address) if address and not is_remote(address) else address


@contextmanager
def opened(address: str) -> Iterator[IO[bytes]]:
    """A shard's bytes, to be read and sought in.

    Raises:
        UnreadableFile: it cannot be opened.
        Unavailable: what opens such an address is not installed, or it cannot be had.
    """
    if address.startswith("hf://"):
        from converter.fetch.hub_sets import local  # noqa: PLC0415 (huggingface_hub, for few)

        address = str(local(address))
    if is_remote(address):
        with _remote(address) as file:
            try:
                yield file
            except ConverterError:
                raise
            except Exception as error:  # it is gone, was changed, or the connection broke
                raise UnreadableFile(f"{shown(address)}: {reason(error)}") from error
        return
    try:
        if not Path(address).is_file():
            raise UnreadableFile(f"{address}: no such file" if not os.path.lexists(address) else f"{address}: no file")
        file = Path(address).open("rb", buffering=0)  # noqa: SIM115 (closed below)
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{address}: cannot be read ({getattr(error, 'strerror', '') or error})") from error
    with file:
        yield file


def stamp(address: str) -> str:
    """What is another once a file is changed; of what is on the Hub the address, which names a commit."""
    if address.startswith("hf://"):
        return address
    try:
        if not is_remote(address):
            status = Path(address).stat()
            return f"{status.st_size} {status.st_mtime_ns}"
        with speaking(address) as (system, path):
            system.invalidate_cache(path)  # what was listed before is remembered
            return _told(system.info(path))
    except (OSError, ValueError, Unavailable):  # which is said when it is read
        return "none"


def _told(said: Mapping[str, Any]) -> str:
    """What a file system says of a file that is another once that is changed, however it was asked."""
    known = {name.lower(): value for name, value in said.items() if value is not None}
    marks = next((found for names in MARKS if (found := [name for name in names if name in known])), [])
    return " ".join(str(known[name]) for name in ("size", *marks) if name in known)


def _remote(address: str) -> Any:
    """A file of fsspec's, of which no more is fetched than a block has.

    Raises:
        UnreadableFile: it cannot be opened.
        Unavailable: what opens it is not installed.
    """
    try:
        with speaking(address) as (system, path):
            return system.open(path, "rb", block_size=AHEAD)
    except Unavailable as error:
        if isinstance(error.__cause__, ImportError):
            raise
        raise UnreadableFile(str(error)) from error.__cause__


def listing(pattern: str) -> list[str]:
    """Addresses of fsspec's that a pattern, a folder or a file means, in order.

    Raises:
        Unavailable, ConverterError: it cannot be listed, or nothing is there.
    """
    with speaking(pattern) as (system, path):
        found = system.glob(path) if any(c in path for c in "*?[") else [path]
        found = [inner for each in found for inner in (system.find(each) if system.isdir(each) else [each])]
        whole = pattern.rstrip("/").endswith(path)  # then what is before has the host, too, which no file system tells
        before = pattern.rstrip("/").removesuffix(path)
        result = sorted(before + name if whole else system.unstrip_protocol(name) for name in found)
    if not result:
        raise ConverterError(f"{shown(pattern)}: nothing is there")
    return result


def size_of(file: IO[bytes]) -> int:
    """Bytes of an open file."""
    return file.seek(0, os.SEEK_END)
