"""SHA-256 of files, also while something else is done."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from converter.core.errors import UnreadableFile
from converter.core.mapping import Stamp

PIECE = 1 << 23
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
    stamps = {path: Stamp(path.stat()) for path in expected if path.is_file()}
    stop = threading.Event()

    def run() -> None:
        with suppress(OSError, UnreadableFile):  # whoever opens the file says what is wrong with it
            found.append(sha256_of(expected, stop))

    thread = threading.Thread(target=run, daemon=True)
    with suppress(RuntimeError):  # no more threads: then it is hashed at the end
        thread.start()

    def finish() -> None:
        if thread.ident is not None:
            thread.join()

    def wait(files: Sequence[Path]) -> str:
        if tuple(files) != tuple(expected):
            return sha256_of(files)
        finish()
        for path, stamp in stamps.items():  # what was opened meanwhile is what was hashed
            stamp.check(path.stat(), path)
        return found[0] if found else sha256_of(files)

    try:
        yield wait
    finally:
        stop.set()
        finish()


def sha256_of(files: Iterable[Path], stop: threading.Event | None = None) -> str:
    """SHA-256 of a file; of several, of the lines ``<sha256>  <name>`` in order.  ``stop`` makes it give up.

    Raises:
        UnreadableFile: one changes meanwhile.
    """
    paths = list(files)
    digests = []
    for path in paths:
        digest = hashlib.sha256()
        size = path.stat().st_size
        if size:  # of a pipe it is 0
            with path.open("rb", buffering=0) as file:
                stamp = Stamp(os.fstat(file.fileno()))
                # In large pieces: a hashing thread that asks for the interpreter often gets it late.
                buffer = memoryview(bytearray(min(PIECE, size)))
                while read := file.readinto(buffer):
                    if stop is not None and stop.is_set():
                        break
                    digest.update(buffer[:read])
                stamp.check(os.fstat(file.fileno()), path)
        digests.append(digest.hexdigest())
    if len(paths) == 1:
        return digests[0]
    lines = "".join(f"{digest}  {path.name}\n" for digest, path in zip(digests, paths))
    return hashlib.sha256(lines.encode()).hexdigest()
