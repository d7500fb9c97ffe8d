"""The command line against the stand-in Hub: in this process, or in one of its own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from helpers.command import run
from helpers.hub_server import TOKEN, Hub

REPO = "me/densenet"
CLI = "import sys; from converter.cli import main; sys.argv[0] = 'densenet'; main()"


class Run:
    """What a client said; a token in it fails the test at once."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err
        assert TOKEN not in self.out + self.err
        assert "Traceback" not in self.err, self.err

    @property
    def line(self) -> str:
        """The error, which is one line."""
        (line,) = self.err.strip().splitlines()
        return line


@contextmanager
def client(hub: Hub, home: Path, token: str | None = TOKEN, **more: str) -> Iterator[None]:
    """huggingface_hub as it is in a process with this Hub's address and a cache of its own."""
    from huggingface_hub import close_session, constants

    try:
        # Both read the environment once: constants when it is imported, tempfile when it is first used.
        environment = mock.patch.dict(os.environ, {**hub.environment(home, token), **more})
        with environment, mock.patch.object(tempfile, "tempdir", None):
            importlib.reload(constants)
            yield
    finally:
        close_session()
        importlib.reload(constants)


def densenet(hub: Hub, home: Path, *arguments: Any, token: str | None = TOKEN, **more: str) -> Run:
    """The command line, with a cache of its own; it waits less between tries."""
    with client(hub, home, token, **more), mock.patch("converter.publish.push.PAUSE", 0.05):
        done = run(*arguments)
    return Run(done.returncode, done.stdout, done.stderr)


def start(hub: Hub, home: Path, *arguments: Any, token: str | None = TOKEN, **more: str) -> subprocess.Popen[str]:
    """The command line in a process of its own, to be killed."""
    environment = {**os.environ, **hub.environment(home, token), **more}
    command = [sys.executable, "-c", CLI, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def names(folder: Path) -> set[str]:
    """The files of a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def published(hub: Hub) -> bool:
    """Whether weights are in the repository."""
    return any("model.safetensors" in tree for tree in hub.repos[REPO].commits.values()) if REPO in hub.repos else False
