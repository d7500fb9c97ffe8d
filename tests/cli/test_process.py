"""What only a process of its own can show: the installed command, life without PyTorch, signals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cases import CASES, LEGACY
from helpers.command import installed, ok, python

from converter import export_onnx, verify

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from converter.cli import main; main()"


def test_the_command_is_installed(tmp_path: Path) -> None:
    done = installed("convert", LEGACY, tmp_path / "m.safetensors")
    (line,) = done.stderr.splitlines()
    assert (done.returncode, line.startswith("note: the file holds tensors alone; ")) == (0, True)
    assert "torchvision-legacy (torch legacy) -> library" in done.stdout
    assert installed("inspect", tmp_path / "no.pth").returncode == 2
    assert installed("--version").stdout.startswith("densenet-converter ")


def test_a_recorded_reference_needs_no_torch(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    good, bad, record = tmp_path / "m.onnx", tmp_path / "other.onnx", tmp_path / "r.npz"
    export_onnx(LEGACY, good)
    export_onnx(CASES / "tv-bfloat16/half.pth", bad)
    assert verify(LEGACY, good, record=record).passed
    done = python(WITHOUT_TORCH, "verify", good, "--against", record)
    assert (done.returncode, "pass" in done.stdout) == (0, True), done.stderr
    assert python(WITHOUT_TORCH, "verify", bad, "--against", record).returncode == 1


def test_verify_without_torch_says_what_to_do() -> None:
    done = python(WITHOUT_TORCH, "verify", LEGACY)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install" in line
    assert "--against" in line


def test_demo(tmp_path: Path) -> None:
    """As installed; without PyTorch it is the first thing that ``.ci/run`` does."""
    done = json.loads(ok("demo", tmp_path / "out", "--json"))
    assert {"model.safetensors", "model.onnx"} <= set(os.listdir(tmp_path / "out"))
    assert all(verification["passed"] for verification in done["verifications"])
    assert done["evaluations"]["ONNX Runtime"]["top1"] >= 98
    assert "PyTorch" in done["evaluations"]
    text = ok("demo", tmp_path / "out")
    for verb in ("inspect", "convert", "export", "verify", "evaluate"):
        assert verb in text
    assert text.count("  densenet ") >= 3


@pytest.mark.parametrize(
    ("stop", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_termination_leaves_the_old_file(tmp_path: Path, stop: signal.Signals, status: int, word: str) -> None:
    """Stopped while it writes: the target is as before, and no temporary file stays."""
    target = tmp_path / "m.safetensors"
    ok("convert", LEGACY, target, "--dtype", "fp16")
    old = target.read_bytes()
    code = (
        "import time, os\n"
        "def slow(fd):\n    print('writing', flush=True); time.sleep(60)\n"
        "os.fsync = slow\n"
        "from converter.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "convert", str(LEGACY), str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(stop)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said.decode()) == (status, f"densenet: {word}\n")
    assert os.listdir(tmp_path) == ["m.safetensors"]
    assert target.read_bytes() == old


def test_an_interrupt_while_modules_are_imported_is_one_line() -> None:
    code = (
        "import os, signal, sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name == 'converter.core.source': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from converter.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "list"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "densenet: interrupted\n")
