"""provenance.json: where every file of a repository comes from, and its SHA-256."""

import json
import platform
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.errors import UnreadableFile
from converter.core.hashing import sha256_of
from converter.core.model import Model
from converter.core.text import indented_json
from converter.core.version import __version__
from converter.publish.expectations import PLACEHOLDER
from densenet.module import COUNTER

PROVENANCE = "provenance.json"
KIND = "densenet-converter provenance"
NAME_MAX, PATH_MAX = 255, 1024
"""Bytes of a file's name, and of a path in a repository, that every file system allows."""
LIBRARIES = ("numpy", "onnx", "onnxruntime", "huggingface_hub", "safetensors")


@dataclass(frozen=True)
class Recorded:
    """One file as provenance.json has it: SHA-256 in hexadecimal, and its length in bytes."""

    sha256: str
    size: int


def record(path: Path) -> Recorded:
    """What provenance.json says of a file."""
    return Recorded(sha256_of((path,)), path.stat().st_size)


def provenance(
    model: Model, files: Mapping[str, Path], *, repo: str, used: Collection[str], added: int = 0
) -> dict[str, Any]:
    """The content of provenance.json for these files (by their path in the repository) and the card's repository.

    ``used`` are packages beside the usual ones, ``added`` is the number of norms that were given counters.
    """
    libraries = [*LIBRARIES, *used]
    return {
        "kind": KIND,
        **({"repository": repo} if repo != PLACEHOLDER else {}),
        "source": asdict(model.origin),
        "fingerprint": model.fingerprint,
        **({"made": model.making()} if model.made else {}),
        "config": model.config.to_dict(),
        "tool": f"densenet-converter {__version__}",
        "python": platform.python_version(),
        "libraries": {name: version for name in libraries if (version := _version(name))},
        "dropped": dict(model.dropped),
        **({"added": {f"*.{COUNTER}": f"zeros, of {added} norms: the source does not have them"}} if added else {}),
        "notes": list(model.notes),
        "files": {name: asdict(record(path)) for name, path in sorted(files.items())},
    }


def read_provenance(folder: Path) -> dict[str, Recorded]:
    """The files a package lists.

    Raises:
        UnreadableFile: there is no provenance.json, or it is damaged.
    """
    path = folder / PROVENANCE
    try:
        return parse_provenance(path.read_bytes())
    except OSError as error:
        raise UnreadableFile(f"{folder}: no {PROVENANCE} there; densenet package writes one") from error
    except ValueError as error:
        raise UnreadableFile(f"{path}: damaged ({error})") from error


def parse_provenance(text: bytes) -> dict[str, Recorded]:
    """The files a provenance.json lists.

    Raises:
        ValueError: it is damaged, of another kind, or names what is no file of a repository.
    """
    try:
        values = json.loads(text, parse_constant=_no_number)
        if values["kind"] != KIND:
            raise ValueError("another kind of file")
        files = {name: Recorded(str(v["sha256"]), int(v["size"])) for name, v in values["files"].items()}
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not as this tool writes it: {error}") from error
    for name in files:
        if not _inside(name):
            raise ValueError(f"it names {name[:80]!r}, which is no path in a repository")
    return files


def fingerprint_in(text: bytes) -> str:
    """The fingerprint of the weights that a good provenance.json is about; empty where it says none."""
    found = json.loads(text).get("fingerprint")
    return found if isinstance(found, str) else ""


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON's")


def changed(folder: Path, files: Mapping[str, Recorded]) -> dict[str, str]:
    """Which of the files are not as recorded, and why; empty if all are."""
    result = {}
    for name, recorded in files.items():
        path = folder / name
        if not path.is_file():
            result[name] = "missing"
        elif path.stat().st_size != recorded.size:
            result[name] = f"has {path.stat().st_size} bytes, {recorded.size} are recorded"
        elif sha256_of((path,)) != recorded.sha256:
            result[name] = "its SHA-256 is not the recorded one"
    return result


def to_text(value: Any) -> bytes:
    """JSON for people: indented, one final newline, the same bytes for the same value."""
    return indented_json(value).encode()


def rounded(value: Any) -> Any:
    """Floats with 3 significant digits: the rest depends on the processor."""
    if isinstance(value, float):
        return float(f"{value:.3g}") if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    return value


def _inside(name: str) -> bool:
    parts = name.split("/")
    plain = "\\" not in name and ":" not in name and name.isprintable() and len(name.encode()) <= PATH_MAX
    return plain and all(part not in ("", ".", "..") and len(part.encode()) <= NAME_MAX for part in parts)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
