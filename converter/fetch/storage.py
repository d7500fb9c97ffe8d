"""Object storage and other places that fsspec knows: ``s3://``, ``gs://``, ``az://``, ``file://`` ...

What is there is copied here to be read, and what is made here is copied there, whole or not at all.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from converter.core import bounds
from converter.core.errors import CannotWrite, Unavailable, UnreadableFile, first_line
from converter.core.source import is_url, shown

ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,3}(.+)", re.DOTALL)
LOCAL = ("file", "local")
"""Schemes whose paths begin at the root of this machine."""
WITH_FOLDERS = (*LOCAL, "memory", "sftp", "ssh", "smb", "hdfs")
"""Those where a folder has to be made before a file is put into it; object storage has names alone."""


def stored(place: object) -> str:
    """The address of something in such storage, also where a :class:`Path` took a slash from it; else nothing."""
    text = str(place)
    found = ADDRESS.fullmatch(text)
    if found is None or is_url(text) or text.startswith("hf:/"):
        return ""
    return f"{found[1]}:///{found[2]}" if found[1] in LOCAL else f"{found[1]}://{found[2]}"


def inside(root: str) -> list[str]:
    """Paths of all files below an address, but for hidden ones, relative to it; none if it is a file itself.

    Raises:
        Unavailable: it cannot be listed.
    """
    with speaking(root) as (system, path):
        base = path.rstrip("/")
        below = (name[len(base) + 1 :] for name in system.find(base) if name.startswith(f"{base}/"))
        return sorted(name for name in below if name and not any(part.startswith(".") for part in name.split("/")))


def size_of(address: str) -> int | None:
    """Bytes of a file; None where there is none.

    Raises:
        Unavailable: it cannot be asked.
    """
    with speaking(address) as (system, name):
        return int(system.size(name) or 0) if system.isfile(name) else None


def fetched(address: str, folder: Path) -> Path:
    """Copy a file into a folder, and what it cannot be read without (shards, the other half of a pair).

    Raises:
        UnreadableFile: there is no such file.
        Unavailable: it cannot be had.
    """
    from converter.fetch.hub_files import companions  # noqa: PLC0415 (for few)

    path = folder / PurePosixPath(address).name
    if not _copied(address, path):
        raise UnreadableFile(f"{address}: no such file")
    for name in companions(path, path.name):
        if ".." not in PurePosixPath(name).parts and not (folder / name).exists():
            _copied(f"{address.rpartition('/')[0]}/{name}", folder / name)
    return path


def fetched_if_there(address: str, folder: Path) -> None:
    """The same of what may not be there."""
    path = folder / PurePosixPath(address).name
    if _copied(address, path) and path.suffix == ".onnx":
        _copied(f"{address}_data", folder / f"{path.name}_data")


def _copied(address: str, path: Path) -> bool:
    with speaking(address) as (system, name):
        if not system.isfile(name):
            return False
        if (system.size(name) or 0) > bounds.DOWNLOAD:
            raise Unavailable(f"{address}: is larger than {bounds.DOWNLOAD >> 30} GB, as no checkpoint of one is")
        path.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(name, str(path))
        return True


def put(path: Path, address: str) -> None:
    """Copy a file there; it is there when all of it is.

    Raises:
        CannotWrite: it cannot be written.
    """
    try:
        with speaking(address) as (system, name):
            if address.partition(":")[0] in WITH_FOLDERS:
                system.makedirs(str(PurePosixPath(name).parent), exist_ok=True)
            with system.transaction, system.open(name, "wb") as there, path.open("rb") as here:
                shutil.copyfileobj(here, there, 1 << 20)
    except Unavailable as error:
        raise CannotWrite(str(error)) from error


@contextmanager
def speaking(address: str) -> Iterator[tuple[Any, str]]:
    """The file system of an address, and the path in it; whatever that raises is one line.

    Raises:
        Unavailable: it failed, or the package that speaks with it is not installed.
    """
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 (for few)

        yield url_to_fs(address)
    except Unavailable:
        raise
    except Exception as error:  # each file system has errors of its own
        raise Unavailable(f"{shown(address)}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Why a file system of fsspec's did not do something, in a line."""
    line = first_line(error)
    if isinstance(error, ImportError):  # fsspec says which package: "Install s3fs to access S3"
        return "needs fsspec: pip install fsspec" if error.name == "fsspec" else f"{line} (with pip)"
    if isinstance(error, FileNotFoundError):  # which says no more than the path, but of buckets
        return line if " " in line else "no such file"
    return f"{type(error).__name__}: {line}"
