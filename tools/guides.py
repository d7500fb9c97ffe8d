"""Run the guides: what stands in docs/guides, in empty folders, with the installed package.

A guide is Markdown.  In blocks of ``console`` a line behind ``$ `` is a command, and what follows is what it prints; blocks
of ``python`` run one after the other in one process.  Comments say what else a guide needs:

    <!-- file: tests/data/.../checkpoint.pth as birds.pth -->   a real file, copied into the folder
    <!-- needs: openvino -->                                    the next block is left out where that is not installed
    <!-- status: 1 -->                                          with what exit status the last command of the next block ends
    <!-- hub -->                                                commands talk to a stand-in of the Hub
    <!-- python                                                 lines that are run and not shown, up to the end of the comment

Outputs are compared loosely: numbers and hashes are any, spaces do not count, ``...`` stands for anything, also for lines.

    python tools/guides.py [--update] [GUIDE...]

``--update`` writes what was printed into the page instead, but where the page has ``...``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

HOME = Path(__file__).parents[1]
GUIDES = HOME / "docs" / "guides"
FENCE = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!-- (file|needs|status|hub|python)(?:: )?(.*?)-->", re.DOTALL)
ANYTHING = "..."
NUMBER = re.compile(r"\b[0-9a-f]{12,}\b|\d[\d.,]*(?:e[+-]?\d+)?")
RULE = re.compile(r"[─-]{3,}|\s+")
SHELL = re.compile(r"[|;&<>*$`]")


@dataclass(frozen=True)
class Block:
    """A block of a guide: its kind, its text, where it stands, and what was said of it."""

    kind: str
    text: str
    span: tuple[int, int]
    needs: tuple[str, ...] = ()
    status: int = 0


@dataclass
class Guide:
    """What is in a guide."""

    path: Path
    text: str
    files: list[tuple[Path, str]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    hub: bool = False

    @classmethod
    def read(cls, path: Path) -> Guide:
        """A guide with its blocks in order."""
        text = path.read_text("utf-8")
        guide = cls(path, text)
        needs: tuple[str, ...] = ()
        status = 0
        found = sorted([*FENCE.finditer(text), *COMMENT.finditer(text)], key=lambda match: match.start())
        for match in found:
            kind, what = match.group(1), match.group(2)
            if match.group().startswith("```") or kind == "python":
                guide.blocks.append(Block(kind, what, match.span(2), needs, status))
                needs, status = (), 0
            elif kind == "file":
                source, _, name = what.strip().partition(" as ")
                guide.files.append((HOME / source, name))
            elif kind == "needs":
                needs = tuple(what.split())
            elif kind == "status":
                status = int(what)
            else:
                guide.hub = True
        return guide


def commands_of(block: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what is shown behind it; ``> `` continues it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        command = [lines.pop(0)]
        while lines and lines[0].startswith("> "):
            command.append(lines.pop(0)[2:])
        yield "\n".join(command), "\n".join(lines)


class Runner:
    """Runs commands and Python in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.names = folder, {"__name__": "guide"}
        shims = folder.parent / "bin"
        shims.mkdir(exist_ok=True)
        (shims / "densenet").write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c \'import sys; sys.argv[0] = "densenet"; '
            'from converter.cli import main; main()\' "$@"\n'
        )
        (shims / "densenet").chmod(0o755)
        self.path = f"{shims}{os.pathsep}{os.environ['PATH']}"

    def command(self, text: str) -> tuple[int, str]:
        """The exit status of a command and what it printed, on stdout and then on stderr."""
        if text.startswith("densenet ") and not SHELL.search(text):
            return self.within(shlex.split(text)[1:])
        environment = {**os.environ, "PATH": self.path}
        done = subprocess.run(  # its status is compared
            ["bash", "-c", text], check=False, capture_output=True, text=True, cwd=self.folder, env=environment
        )
        return done.returncode, done.stdout + done.stderr

    def within(self, words: list[str]) -> tuple[int, str]:
        """``densenet`` in this process, which saves starting it."""
        from converter.cli import main

        out, err = io.StringIO(), io.StringIO()
        status: Any = 0
        try:
            with (
                mock.patch.object(sys, "argv", ["densenet", *words]),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                main()
        except SystemExit as stop:
            status = stop.code
        return status, out.getvalue() + err.getvalue()

    def python(self, code: str) -> str:
        """What code printed; names stay for the next block."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "guide", "exec"), self.names)
        return out.getvalue()


def loosely(text: str) -> str:
    """A line without what may differ."""
    return NUMBER.sub("#", RULE.sub(" ", text)).strip()


def matches(shown: str, printed: str) -> bool:
    """Whether what was printed is what a page shows, loosely."""
    lines = [loosely(line) for line in shown.splitlines() if line.strip()]
    pattern = "\n".join(
        r"(?:.*\n)*?.*" if line == ANYTHING else re.escape(line).replace(re.escape(ANYTHING), ".*") for line in lines
    )
    found = "\n".join(loosely(line) for line in printed.splitlines() if line.strip())
    return re.fullmatch(pattern, found) is not None


def run(path: Path, *, update: bool = False) -> list[str]:
    """Run a guide; returns what did not go as it says."""
    guide, problems = Guide.read(path), list[str]()
    written = guide.text
    with ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = top / "work"
        folder.mkdir()
        for source, name in guide.files:
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        if guide.hub:
            sys.path.insert(0, str(HOME / "tests"))
            from helpers.hub import client
            from helpers.hub_server import Hub

            stack.enter_context(client(stack.enter_context(Hub()), top / "home"))
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(mock.patch.dict(os.environ))
        runner = Runner(folder)
        replaced: list[tuple[tuple[int, int], str]] = []
        for block in guide.blocks:
            if any(importlib.util.find_spec(name) is None for name in block.needs):
                print(f"{path.name}: a block is left out, it needs {' and '.join(block.needs)}")
                continue
            if block.kind == "python":
                try:
                    runner.python(block.text)
                except Exception as error:
                    problems.append(f"{path.name}: {type(error).__name__}: {error}\n{block.text}")
                continue
            text, statuses = "", list[int]()
            for command, shown in commands_of(block.text):
                status, printed = runner.command(command)
                statuses.append(status)
                if not matches(shown, printed):
                    problems.append(f"{path.name}: $ {command}\nprints\n{printed}\nand not\n{shown}")
                lines = [line.rstrip() for line in printed.strip("\n").splitlines()]
                text += (
                    "$ "
                    + command.replace("\n", "\n> ")
                    + "\n"
                    + "".join(f"{line}\n" for line in (shown.splitlines() if ANYTHING in shown else lines))
                )
            expected = [0] * (len(statuses) - 1) + [block.status]
            if statuses != expected:
                problems.append(f"{path.name}: exit statuses {statuses}, and not {expected}, of\n{block.text}{text}")
            replaced.append((block.span, text))
        for (start, end), text in reversed(replaced):
            written = written[:start] + text + written[end:]
    if update and written != guide.text:
        path.write_text(written, "utf-8")
    return problems


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run the guides.")
    parser.add_argument("guides", nargs="*", type=Path)
    parser.add_argument("--update", action="store_true", help="Write what is printed into the pages.")
    asked = parser.parse_args()
    problems = []
    for path in asked.guides or sorted(GUIDES.glob("*.md")):
        start = time.perf_counter(), time.process_time()
        found = run(path.resolve(), update=asked.update)
        print(
            f"{path.name}: {len(found)} problems, {time.perf_counter() - start[0]:.1f} s, "
            f"{time.process_time() - start[1]:.1f} s of processor time"
        )
        problems += found
    print("\n\n".join(problems))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
