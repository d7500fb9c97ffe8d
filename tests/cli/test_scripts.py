"""What scripts rely on: one JSON document, also of an error; what -q and -v change; explanations of what fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import LEGACY
from helpers.command import ok, refused, run

from converter import load
from converter.core.checkpoint import Tensor
from converter.formats.torch.zip_writer import write_torch


def arrays(prefix: str = "", **others: np.ndarray) -> dict[str, Tensor]:
    """The tensors of a small network in the library's layout."""
    tensors = {f"{prefix}{name}": tensor for name, tensor in load(LEGACY).tensors.items()}
    return tensors | {name.replace("__", "."): Tensor.of(array) for name, array in others.items()}


@pytest.mark.parametrize(
    ("words", "status", "kind"),
    [
        (("inspect", "missing.pth"), 2, "unreadable-file"),
        (("inspect", "strange.pth"), 2, "not-a-densenet"),
        (("inspect", LEGACY, "--set", "wings=2"), 2, "wrong-usage"),
        (("convert", LEGACY), 2, "wrong-usage"),
        (("convert", LEGACY, "text.txt/a.npz"), 2, "cannot-write"),
        (("nonsense",), 2, "wrong-usage"),
        (("inspect", LEGACY, "--wings"), 2, "wrong-usage"),
    ],
)
def test_errors_are_json_where_json_was_asked_for(
    words: tuple[object, ...], status: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("x")
    write_torch(tmp_path / "strange.pth", arrays(att__in_proj_weight=np.ones((6, 2), np.float32)))
    done = run(*words, "--json")
    assert done.returncode == status
    error = json.loads(done.stdout)["error"]
    assert (error["status"], error["kind"]) == (status, kind)
    assert error["message"] in " ".join(done.stderr.split())
    assert run("convert", "missing.pth", "--", "--json").stdout == ""  # a file of that name


def test_what_fails_is_explained(tmp_path: Path) -> None:
    write_torch(tmp_path / "a.pth", arrays(att__in_proj_weight=np.ones((6, 2), np.float32)))
    done = run("inspect", tmp_path / "a.pth", "--explain", "--tensors")
    assert done.returncode == 2
    assert "layout tried" in done.stdout and "att.in_proj_weight" in done.stdout and "[6, 2]" in done.stdout
    tried = json.loads(run("inspect", tmp_path / "a.pth", "--explain", "--json").stdout)["error"]["tried"]
    assert {"layout": "library", "fits": False}.items() <= next(t for t in tried if t["layout"] == "library").items()
    names = {f"q{i}": Tensor.of(np.ones((2, i + 1), np.float32)) for i in range(9)}
    write_torch(tmp_path / "b.pth", names)
    assert "no layout has a name in common" in run("inspect", tmp_path / "b.pth", "--explain").stdout


def test_two_networks_under_two_prefixes_are_offered_and_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    write_torch(path, arrays("net_a.") | arrays("net_b."))
    assert "--weights net_a reads that one alone, or --weights net_b" in refused(2, "inspect", path)
    assert json.loads(ok("inspect", path, "--weights", "net_b", "--json"))["prefix"] == "net_b."
    assert "; is net_b meant?" in refused(2, "inspect", path, "--weights", "netb")
    write_torch(path, arrays("net_a.", join__weight=np.ones((3, 9), np.float32)) | arrays("net_b."))
    assert "--weights" not in refused(2, "inspect", path)
    assert "join.weight" in refused(2, "inspect", path, "--weights", "net_a")


def test_quiet_and_verbose(tmp_path: Path) -> None:
    usual, quiet, verbose = (run("export", LEGACY, tmp_path / "a.onnx", *more) for more in ((), ("-q",), ("-v",)))
    assert usual.stdout == quiet.stdout == verbose.stdout
    assert "note: " in usual.stderr and quiet.stderr == ""
    assert " s  " in verbose.stderr and "note: " in verbose.stderr and verbose.stderr.endswith(" s  in all\n")
    assert refused(2, "inspect", "missing.pth", "-q") == refused(2, "inspect", "missing.pth")
    assert "Traceback" in run("inspect", "missing.pth", "-v").stderr
    assert "say one of them" in refused(2, "inspect", LEGACY, "-q", "-v")


def test_widths_and_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, ok("list").splitlines())) <= 60
    monkeypatch.delenv("COLUMNS")
    assert max(map(len, ok("list").splitlines())) > 60
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b" not in ok("list")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" in ok("list")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in ok("list")
