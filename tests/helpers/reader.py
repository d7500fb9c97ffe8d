"""A process that reads files, so that one that hangs it can be stopped."""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS = 120
"""After which a file hangs, on a busy machine too; processor time has a limit of its own."""
CPU, MEMORY = 10, 4 << 30
MOST = 1 << 26
"""Bytes of tensors that are read."""


class Reader:
    """The process; it is started anew after one that ended."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def ask(self, path: Path) -> str:
        """What becomes of a file: ``read``, ``refused``, or what should not happen, in words."""
        if self.process is None:
            root = Path(__file__).parents[2]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "helpers.reader"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join((str(root), str(root / "tests")))},
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(str(path)) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], SECONDS)[0]:
            self._stop()
            return f"hangs for {SECONDS} s"
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self._stop()
            return f"ends its process with {status}"
        return str(json.loads(line))

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def _read(path: Path) -> str:
    from converter import load
    from converter.core.errors import ConverterError

    try:
        left = MOST
        for tensor in load(path).tensors.values():
            left -= prod(tensor.shape) * tensor.dtype.itemsize
            if left > 0:
                tensor.read()
    except ConverterError as error:
        return "refused" if error.exit_status in (2, 3) and "\n" not in str(error) else f"status or lines: {error!r}"
    except Exception as error:
        import traceback

        return f"{type(error).__name__}: {error}\n{''.join(traceback.format_tb(error.__traceback__)[-3:])}"
    return "read"


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + CPU  # for this file
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        print(json.dumps(_read(Path(json.loads(line)))), flush=True)


if __name__ == "__main__":
    _main()
