"""Whether what is there was made of this source, in this way, by this version: then it need not be made again."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from converter.core.errors import ConverterError
from converter.core.hashing import sha256_of
from converter.core.metadata import MADE_KEY, TOOL, TOOL_KEY, json_or_none
from converter.core.source import Source
from converter.fetch.place import resolve
from converter.formats import open_checkpoint
from converter.publish.provenance import PROVENANCE, changed, read_provenance

DIGITS = 16


def digest(verb: str, source: Source, options: Mapping[str, Any]) -> str:
    """The hash of how something is made: the verb, how its source is read, all options, and files that they name."""
    how = {"verb": verb, "source": dataclasses.replace(source, address="", made=""), "options": dict(options)}
    return sha256(json.dumps(_plain(how), sort_keys=True).encode()).hexdigest()[:DIGITS]


def _plain(value: Any) -> Any:
    """A value as JSON; of a path what is in the file or folder."""
    if isinstance(value, Path):
        return [str(value), *_hashes(value)]
    if isinstance(value, str) and value.endswith(".toml") and Path(value).is_file():
        return _plain(Path(value))
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare}
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _hashes(path: Path) -> Iterator[str]:
    with suppress(OSError, ConverterError):
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        yield from (f"{file.relative_to(path).as_posix()} {sha256_of((file,))}" for file in inside if file.is_file())


def making(target: Path, source: Source) -> dict[str, str] | None:
    """What a target says of its making, if that is how ``source`` would be made again; None if it has to be.

    Args:
        target: a file, or a package's folder, that may be there.
        source: with its ``made``.
    """
    with suppress(ConverterError, OSError, ValueError):
        said = _said_by_package(target) if (target / PROVENANCE).is_file() else _said_by_file(target)
        if said and said.get("options") == source.made and _is_of(str(said.get("source")), source):
            return said
    return None


def _is_of(sha256: str, source: Source) -> bool:
    """Whether this is the hash of a source's files; a file that has it is not opened to know whether it is alone."""
    path = resolve(source.address).path
    if path.is_file() and sha256_of((path,)) == sha256:
        return True
    files = open_checkpoint(path).files
    return tuple(files) != (path,) and sha256_of(files) == sha256


def _said_by_file(target: Path) -> dict[str, str]:
    if not target.exists():
        return {}
    metadata = open_checkpoint(resolve(target).path).metadata
    said = json_or_none(metadata.get(MADE_KEY, ""))
    return said if isinstance(said, dict) and metadata.get(TOOL_KEY) == TOOL else {}


def _said_by_package(folder: Path) -> dict[str, str]:
    whole = json.loads((folder / PROVENANCE).read_bytes())
    said = whole.get("made")
    fits = isinstance(said, dict) and whole.get("tool") == TOOL and not changed(folder, read_provenance(folder))
    return said if fits else {}
