"""The bytes of a shard, wherever it lies: a file, one of a data set on the Hub, an address of fsspec's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from converter.core.errors import ConverterError, Unavailable, UnreadableFile, first_line
from converter.core.source import shown


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
            yield file
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
    """What is another once a file is changed; of what is not local the address, which on the Hub names a commit."""
    try:
        status = Path(address).stat() if not is_remote(address) else None
    except (OSError, ValueError):  # which is said when it is read
        return "none"
    return address if status is None else f"{status.st_size} {status.st_mtime_ns}"


def _remote(address: str) -> Any:
    """A file of fsspec's."""
    try:
        import fsspec  # noqa: PLC0415 (for few)
    except ImportError:
        raise Unavailable(f"{shown(address)}: needs fsspec: pip install fsspec") from None
    try:
        return fsspec.open(address, "rb").open()
    except ImportError as error:
        raise Unavailable(f"{shown(address)}: {first_line(error)}") from error
    except Exception as error:  # of whatever file system
        raise UnreadableFile(f"{shown(address)}: cannot be opened ({type(error).__name__})") from error


def listing(pattern: str) -> list[str]:
    """Addresses of fsspec's that a pattern, a folder or a file means, in order.

    Raises:
        Unavailable, ConverterError: it cannot be listed, or nothing is there.
    """
    try:
        import fsspec  # noqa: PLC0415 (for few)

        system, path = fsspec.core.url_to_fs(pattern)
        found = system.glob(path) if any(c in path for c in "*?[") else [path]
        found = [inner for each in found for inner in (system.find(each) if system.isdir(each) else [each])]
        result = sorted(system.unstrip_protocol(name) for name in found)
    except ImportError as error:
        raise Unavailable(f"{shown(pattern)}: {first_line(error)}") from error
    except Exception as error:  # of whatever file system
        raise UnreadableFile(f"{shown(pattern)}: cannot be listed ({type(error).__name__})") from error
    if not result:
        raise ConverterError(f"{shown(pattern)}: nothing is there")
    return result


def size_of(file: IO[bytes]) -> int:
    """Bytes of an open file."""
    return file.seek(0, os.SEEK_END)
