"""``hf://datasets/owner/name[@revision][/folder or pattern]``: the shards of a data set on the Hub, in its cache."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from converter.core.errors import ConverterError
from converter.fetch.hub_files import Cached, HubAddress, parse

SETS = "hf://datasets/"


def _parsed(address: str) -> HubAddress:
    if not address.startswith(SETS):
        raise ConverterError(f"{address}: not a data set on the Hub; write {SETS}owner/name[@revision][/folder]")
    return parse(f"hf://{address.removeprefix(SETS)}")


def shards(address: str, endings: Sequence[str]) -> list[str]:
    """The addresses of a data set's files, of one commit, that are called like shards.

    Args:
        address: of all, or of a file, a folder, a pattern of files, or a split (``test``, of ``test-00000-of-00003``).
        endings: of their names.

    Raises:
        Unavailable: no such data set or revision, or the Hub cannot be reached.
        ConverterError: none of its files is one.
    """
    wanted = _parsed(address)
    cached = Cached(wanted, "dataset")
    asked = wanted.file or ""
    files = sorted(cached.files())
    found = [name for name in files if name.endswith(tuple(endings)) and _is_meant(name, asked)]
    if not found:
        few = ", ".join(files[:4])
        raise ConverterError(f"{address}: no file there ends in {' or '.join(endings)} ({few} ...)")
    cached.get(found[0])  # by name, for the cache to remember what the name meant when it is asked offline
    commit = wanted.revision if cached.offline else cached.commit
    at = f"@{commit.replace('/', '%2F')}" if commit else ""
    return [f"{SETS}{wanted.repo}{at}/{name}" for name in found]


def _is_meant(name: str, asked: str) -> bool:
    """Whether a file is the one that is asked for, in that folder, of that pattern, or of the split of that name."""
    base = name.rpartition("/")[2]
    return (
        not asked
        or name == asked
        or name.startswith(f"{asked}/")
        or fnmatchcase(name, asked)
        or ("/" not in asked and base.startswith((f"{asked}-", f"{asked}_")))
    )


@lru_cache(maxsize=1024)
def local(address: str) -> Path:
    """A file of a data set, downloaded once.

    Raises:
        Unavailable: it cannot be had.
    """
    wanted = _parsed(address)
    assert wanted.file
    return Cached(wanted, "dataset").get(wanted.file)
