"""SHA-256 of files, also while something else is done."""

import hashlib
import mmap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

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
