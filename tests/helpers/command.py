"""The command line, run in this process: quick, and what it prints and its exit status are the same."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from converter.cli import main


@dataclass(frozen=True)
class Done:
    """What a command said, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


def run(*words: object) -> Done:
    """``densenet WORDS...``"""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    collecting = gc.isenabled()
    try:
        with (
            mock.patch.dict(os.environ),
            mock.patch.object(sys, "argv", ["densenet", *map(str, words)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as stop:
        status = stop.code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if collecting:
            gc.unfreeze()
            gc.enable()
    assert isinstance(status, int)
    return Done(status, out.getvalue(), err.getvalue())


def ok(*words: object) -> str:
    """What a command that must succeed prints."""
    done = run(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(status: int, *words: object) -> str:
    """The one line on stderr of a command that must fail."""
    done = run(*words)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("densenet: ")
    return lines[0]


def installed(*words: object) -> subprocess.CompletedProcess[str]:
    """The installed script, in a process of its own."""
    script = shutil.which("densenet", path=str(Path(sys.executable).parent))
    assert script, "the package is not installed beside this Python"
    command = [script, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def python(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """A program, in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
