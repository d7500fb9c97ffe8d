"""Standard streams of all kinds: a process each, as a shell would start it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cases import LEGACY

from converter import export_onnx
from converter.demo.demo import CHECKPOINT, RECORD

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell's redirections")


def shell(folder: Path, line: str, **environment: str) -> tuple[int, str, str]:
    """Status and output of a line for bash, in which $DENSENET is the command."""
    command = f"{sys.executable} -c 'from converter.cli import main; main()'"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line.replace('$DENSENET', command)}"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_reader_that_has_gone_does_not_change_the_verdict(tmp_path: Path) -> None:
    export_onnx(CHECKPOINT, tmp_path / "m.onnx")
    status, _, said = shell(tmp_path, f"$DENSENET verify m.onnx --against {RECORD} --json | true")
    assert (status, said) == (0, "")
    export_onnx(LEGACY, tmp_path / "other.onnx")
    status, _, said = shell(tmp_path, f"$DENSENET verify other.onnx --against {RECORD} 2>&1 --json | true")
    assert (status, said) == (1, "")


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    status, _, said = shell(tmp_path, f"$DENSENET convert {LEGACY} a.npz >&-")
    assert (status, said) == (
        2,
        "densenet: standard output is closed; >/dev/null throws away what is printed\n",
    )
    assert not list(tmp_path.iterdir())
    if Path("/dev/full").exists():
        status, _, said = shell(tmp_path, f"$DENSENET inspect {LEGACY} --json >/dev/full")
        assert (status, said) == (2, "densenet: standard output: cannot be written (No space left on device)\n")
        status, out, _ = shell(tmp_path, f"$DENSENET convert {LEGACY} a.npz 2>/dev/full")
        assert (status, out[:6]) == (0, "a.npz:")


def test_a_poor_terminal(tmp_path: Path) -> None:
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "20"}
    name = tmp_path / "d\u00fcnn\x1b[31m.pth"
    name.write_bytes(LEGACY.read_bytes())
    status, out, _ = shell(tmp_path, "$DENSENET inspect d*.pth --tensors --explain 2>&-", **poor)
    assert status == 0
    assert "DenseNet" in out
    assert "\x1b" not in out


def test_no_home_is_one_line_where_one_is_needed(tmp_path: Path) -> None:
    line = f"env -u HOME -u XDG_CACHE_HOME -u DENSENET_HOME $DENSENET convert {LEGACY} a.npz"
    assert shell(tmp_path, line)[0] == 0
