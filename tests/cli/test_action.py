"""The GitHub Action's own steps, run as a runner runs them: bash, inputs through the environment, outputs in files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.networks import CIFAR, TIMM, save

from converter.demo.demo import CHECKPOINT, RECORD
from converter.use.export import export_onnx

ACTION = yaml.safe_load((Path(__file__).parents[2] / "action.yml").read_text("utf-8"))
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def act(folder: Path, **inputs: str) -> tuple[int, str, str]:
    """Exit status of the Verify step, what it wrote as outputs, and as the job's summary."""
    values = {name: str(spec.get("default", "")) for name, spec in ACTION["inputs"].items()} | inputs
    step: dict[str, Any] = next(step for step in ACTION["runs"]["steps"] if step.get("id") == "verify")
    given = {
        name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: values[m[1]], text) for name, text in step["env"].items()
    }
    given |= {"GITHUB_OUTPUT": str(folder / "output"), "GITHUB_STEP_SUMMARY": str(folder / "summary")}
    given |= {"PYTHON": sys.executable}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, env={**os.environ, **given}, cwd=folder, capture_output=True, text=True, check=False)
    summary = folder / "summary"
    return done.returncode, (folder / "output").read_text(), summary.read_text() if summary.exists() else done.stderr


def test_an_equal_file_passes_and_reports(tmp_path: Path) -> None:
    export_onnx(CHECKPOINT, tmp_path / "model.onnx")
    status, output, summary = act(tmp_path, against=str(RECORD), candidates="model.onnx\n", report="my report")
    assert (status, output) == (0, "passed=true\n")
    assert re.search("pass: .*reference.npz", summary.splitlines()[0])
    assert {path.suffix for path in (tmp_path / "my report").iterdir()} == {".json", ".md", ".html", ".xml"}


def test_another_network_fails_the_job(tmp_path: Path) -> None:
    export_onnx(save(TIMM, tmp_path / "other.safetensors"), tmp_path / "other.onnx")
    status, output, summary = act(tmp_path, against=str(RECORD), candidates="other.onnx")
    assert (status, output) == (1, "passed=false\n")
    assert re.search("FAIL: .*reference.npz", summary.splitlines()[0])


def test_what_a_caller_passes_is_never_run(tmp_path: Path) -> None:
    status, output, said = act(tmp_path, reference="$(touch one)", candidates="`touch two`\n; touch three")
    assert (status, output) == (2, "passed=false\n")
    assert "no such file" in said
    assert not {"one", "two", "three"} & {path.name for path in tmp_path.iterdir()}


def test_the_original_is_asked(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    save(CIFAR, tmp_path / "net.safetensors")
    code = f"from densenet import DenseNet, DenseNetConfig\n\ndef build():\n    return DenseNet({CIFAR!r})\n"
    (tmp_path / "authors.py").write_text(code)
    inputs = {"reference": "net.safetensors", "engines": "onnxruntime@1"}
    status, output, summary = act(tmp_path, **inputs, original="authors.py:build")
    assert (status, output) == (0, "passed=true\n")
    assert "the original's own logits (authors.py:build)" in summary
    (tmp_path / "output").unlink()
    (tmp_path / "summary").unlink()
    status, output, said = act(tmp_path, **inputs, original="$(touch one).py:build")
    assert (status, output) == (2, "passed=false\n")
    assert "no such file" in said
    assert not (tmp_path / "one").exists()
