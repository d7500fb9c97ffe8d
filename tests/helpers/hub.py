"""The command line against the stand-in Hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from helpers.hub_server import TOKEN, Hub

REPO = "me/densenet"
CLI = "import sys; from converter.cli import main; sys.argv[0] = 'densenet'; main()"


class Run:
    """What a client's process said; a token in it fails the test at once."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert TOKEN not in self.out + self.err
        assert "Traceback" not in self.err, self.err

    @property
    def line(self) -> str:
        """The error, which is one line."""
        (line,) = self.err.strip().splitlines()
        return line


def start(hub: Hub, home: Path, *arguments: Any, token: str | None = TOKEN, **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **hub.environment(home, token), **more}
    command = [sys.executable, "-c", CLI, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def densenet(hub: Hub, home: Path, *arguments: Any, **more: Any) -> Run:
    """The command line in a process of its own, with a cache of its own."""
    process = start(hub, home, *arguments, **more)
    out, err = process.communicate(timeout=120)
    return Run(subprocess.CompletedProcess(process.args, process.returncode, out, err))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def published(hub: Hub) -> bool:
    return any("model.safetensors" in tree for tree in hub.repos[REPO].commits.values()) if REPO in hub.repos else False
