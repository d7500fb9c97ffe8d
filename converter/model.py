"""A DenseNet's weights in the library layout, still unread, and where they come from."""

from __future__ import annotations

import hashlib
import json
import mmap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from converter.checkpoint import Tensor
from converter.evidence import CONFIG_KEY, LABELS_KEY, PREPROCESS_KEY, SOURCE_KEY, TOOL_KEY
from converter.version import __version__
from densenet.config import DenseNetConfig


@dataclass(frozen=True)
class Source:
    """Where weights come from.

    Attributes:
        name: file name, URL or zoo name, as given.
        sha256: of the file; for several files, of the list of their hashes and names.
        format, layout: as recognised.
        inside: where in the file's tree the weights were, ``state_dict`` say.
        prefix: what stood before every name.
    """

    name: str
    sha256: str
    format: str
    layout: str
    inside: str = ""
    prefix: str = ""


@dataclass(frozen=True)
class Model:
    """A DenseNet in the library layout.

    Attributes:
        config: the architecture.
        tensors: by library name, in network order, read on demand.
        source: where they come from.
        dropped: source keys that are no part of the network, and why.
        notes: what had to be assumed or was changed, for people.
        preprocess: what images go through, where the source says so.
        labels: class names, where the source says so.
        stated: what a file of this tool's says of itself, JSON values by key, to be held against its tensors.
    """

    config: DenseNetConfig
    tensors: Mapping[str, Tensor] = field(repr=False)
    source: Source
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    stated: Mapping[str, Any] = field(default_factory=dict)

    def metadata(self) -> dict[str, str]:
        """Everything about this model as text, for the artifact's own metadata."""
        result = {
            CONFIG_KEY: to_json(self.config.to_dict()),
            SOURCE_KEY: to_json(asdict(self.source)),
            TOOL_KEY: f"densenet-converter {__version__}",
        }
        if self.preprocess:
            result[PREPROCESS_KEY] = to_json(self.preprocess)
        if self.labels:
            result[LABELS_KEY] = to_json(self.labels)
        return result


def to_json(value: Any) -> str:
    """Compact JSON, keys in the order given."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


PIECE = 1 << 24
"""Bytes hashed at a time."""

Sha256 = Callable[[Sequence[Path]], str]
"""Gives the SHA-256 of files, as :func:`sha256_of` does."""


@contextmanager
def hashing(expected: Sequence[Path]) -> Iterator[Sha256]:
    """Hash files in a thread (hashing leaves Python free) while the block runs; gives what waits for the result.

    Should other files be asked for in the end, these are hashed instead.  The thread ends
    with the block: nothing reads the files after it.
    """
    found: list[str] = []
    stop = threading.Event()

    def run() -> None:
        with suppress(OSError):  # whoever opens the file says what is wrong with it
            found.append(sha256_of(expected, stop))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait(files: Sequence[Path]) -> str:
        if tuple(files) != tuple(expected):
            return sha256_of(files)
        thread.join()
        return found[0] if found else sha256_of(files)

    try:
        yield wait
    finally:
        stop.set()
        thread.join()


def sha256_of(files: Iterable[Path], stop: threading.Event | None = None) -> str:
    """SHA-256 of a file; of several, of the lines ``<sha256>  <name>`` in order.  ``stop`` makes it give up."""
    paths = list(files)
    digests = []
    for path in paths:
        digest = hashlib.sha256()
        if path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                for start in range(0, len(data), PIECE):
                    if stop is not None and stop.is_set():
                        break
                    # In large pieces: a hashing thread that asks for the interpreter often gets it late.
                    with memoryview(data) as view, view[start : start + PIECE] as piece:
                        digest.update(piece)
        digests.append(digest.hexdigest())
    if len(paths) == 1:
        return digests[0]
    lines = "".join(f"{digest}  {path.name}\n" for digest, path in zip(digests, paths))
    return hashlib.sha256(lines.encode()).hexdigest()
