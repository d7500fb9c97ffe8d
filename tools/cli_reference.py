"""Write docs/reference/cli.md from the help of every verb: python tools/cli_reference.py."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from converter.cli.app import VERBS, command_line

TARGET = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
START = """# Every verb

What `densenet --help` and `densenet VERB --help` say; `python tools/cli_reference.py` writes this page.

"""


def help_of(words: Sequence[str]) -> str:
    """What the command line says of itself, on a terminal of 80 columns."""
    out = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": "80", "TERMINAL_WIDTH": "80"}), contextlib.redirect_stdout(out):
        command_line(words)([*words, "--help"], prog_name="densenet", standalone_mode=False)
    return out.getvalue().strip()


def reference() -> str:
    """The page."""
    parts = [f"```text\n{help_of([])}\n```\n"]
    parts += [f"## {verb}\n\n```text\n{help_of([verb])}\n```\n" for verb in VERBS]
    lines = (line.rstrip() for line in (START + "\n".join(parts)).splitlines())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), "utf-8")
    sys.stdout.write(f"{TARGET}\n")
