"""Publishing to a Hub that fails: one line, and a rerun completes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.hub import CLI, REPO, Run, densenet, names, published, start
from helpers.hub_server import Fault, Hub

from converter.demo.demo import CHECKPOINT

PERMANENT = {
    "401": (Fault(r"POST .*/commit/", status=401, times=-1), "log in"),
    "403": (Fault(r"POST .*/preupload/", status=403, times=-1), "your token lacks the right"),
    "404": (Fault(r"POST .*/commit/", status=404, times=-1), "not found"),
    "409": (Fault(r"POST .*/commit/", status=409, times=-1), "conflicts with what is there"),
    "412": (Fault(r"POST .*/commit/", status=412, times=-1), "somebody else committed"),
    "500": (Fault(r"POST .*/commit/", status=500, times=-1), "the Hub is in trouble (HTTP 500)"),
    "dropped": (Fault(r"POST .*/commit/", drop=True, times=-1), "the connection failed"),
    "yaml": (Fault(r"POST /api/validate-yaml", status=400, times=-1), "does not accept the card's metadata"),
    "no Hub": (Fault(r"GET /api/models/", status=200, times=-1, body=b"{}"), "is HF_ENDPOINT right?"),
    "a list": (Fault(r"GET /api/models/", status=200, times=-1, body=b"[]"), "is HF_ENDPOINT right?"),
    "null": (Fault(r"GET /api/models/", status=200, times=-1, body=b"null"), "is HF_ENDPOINT right?"),
    "no JSON": (Fault(r"GET /api/models/", status=200, times=-1, body=b"<html>"), "is HF_ENDPOINT right?"),
    "an odd commit": (Fault(r"POST .*/commit/", status=200, times=-1, body=b"{}"), "is HF_ENDPOINT right?"),
}


@pytest.mark.parametrize(("fault", "message"), PERMANENT.values(), ids=PERMANENT)
def test_a_fault_is_one_line_and_a_rerun_completes(
    hub: Hub, small: Path, tmp_path: Path, fault: Fault, message: str
) -> None:
    hub.faults = [Fault(**vars(fault))]
    done = densenet(hub, tmp_path, "push", small, REPO)
    assert done.status == 2
    assert message in done.line
    assert done.line.startswith(f"densenet: {REPO}: ")
    assert not published(hub)
    if "yaml" in fault.pattern:
        assert not hub.repos
    hub.faults = []
    assert densenet(hub, tmp_path, "push", small, REPO).status == 0
    assert set(hub.repos[REPO].files) == names(small)
    assert len(hub.repos[REPO].messages) == 1


PASSING = {
    "500 on create": Fault(r"POST /api/repos/create", status=500),
    "500 on commit": Fault(r"POST .*/commit/", status=500),
    "503 on upload": Fault(r"PUT /lfs/", status=503),
    "dropped in the middle of an upload": Fault(r"PUT /lfs/", drop=True),
    "dropped on commit": Fault(r"POST .*/commit/", drop=True),
    "committed, but the answer was lost": Fault(r"POST .*/commit/", drop=True, after=True),
    "committed, but answered 500": Fault(r"POST .*/commit/", status=500, after=True),
    "500 on reading back": Fault(r"GET .*/resolve/", status=500),
    "slow": Fault(r"(PUT|POST|GET) ", delay=0.5, times=12),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_passes_is_survived_with_one_commit(hub: Hub, small: Path, tmp_path: Path, fault: Fault) -> None:
    hub.faults = [Fault(**vars(fault))]
    done = densenet(hub, tmp_path, "push", small, REPO)
    assert done.status == 0, done.err
    assert set(hub.repos[REPO].files) == names(small)
    assert len(hub.repos[REPO].messages) == 1


def test_a_commit_of_somebody_else_in_between_is_not_overwritten(hub: Hub, small: Path, tmp_path: Path) -> None:
    hub.add(REPO, {"README.md": b"old"})
    hub.faults = [Fault(r"POST .*/preupload/", then=lambda: hub.add(REPO, {"README.md": b"newer"}) and None)]
    done = densenet(hub, tmp_path, "push", small, REPO)
    assert (done.status, "somebody else committed meanwhile; nothing was changed" in done.line) == (2, True)
    assert hub.repos[REPO].files == {"README.md": b"newer"}
    assert densenet(hub, tmp_path, "push", small, REPO).status == 0


def test_a_hub_that_returns_something_else_is_noticed(hub: Hub, small: Path, tmp_path: Path) -> None:
    def spoil() -> None:
        for tree in hub.repos[REPO].commits.values():
            if "config.json" in tree:
                tree["config.json"] = b"{}"

    hub.faults = [Fault(r"HEAD .*/resolve/.*/README.md", then=spoil)]
    done = densenet(hub, tmp_path, "push", small, REPO)
    assert done.status == 1
    assert "the Hub returns another config.json than was published" in done.line


def test_no_token_and_a_token_without_rights(hub: Hub, small: Path, tmp_path: Path) -> None:
    done = densenet(hub, tmp_path, "push", small, REPO, token=None)
    assert (done.status, "no Hugging Face token: log in with hf auth login, or set HF_TOKEN" in done.line) == (2, True)
    done = densenet(hub, tmp_path, "push", small, REPO, token="hf_ключ")
    assert (done.status, "the Hugging Face token has characters no token has" in done.line) == (2, True)
    hub.may_write = False
    done = densenet(hub, tmp_path, "push", small, REPO)
    assert (done.status, "your token lacks the right to do it" in done.line) == (2, True)
    assert not hub.repos


def test_offline_mode_pushes_nothing(hub: Hub, small: Path, tmp_path: Path) -> None:
    done = densenet(hub, tmp_path, "push", small, REPO, HF_HUB_OFFLINE="1")
    assert (done.status, "offline mode is on" in done.line) == (2, True)


@pytest.mark.parametrize("where", [r"PUT /lfs/", r"POST .*/commit/"])
def test_killed_in_the_middle(hub: Hub, small: Path, tmp_path: Path, where: str) -> None:
    hub.faults = [Fault(where, delay=3, drop=True)]
    process = start(hub, tmp_path, "push", small, REPO)
    deadline = time.monotonic() + 60
    while hub.faults[0].times and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert not published(hub)
    hub.faults = []
    assert densenet(hub, tmp_path, "push", small, REPO).status == 0
    assert set(hub.repos[REPO].files) == names(small)


@pytest.mark.skipif(sys.platform == "win32", reason="limits file sizes with ulimit")
def test_a_full_disk(hub: Hub, digits: Path, tmp_path: Path) -> None:
    def limited(*arguments: Any) -> Run:
        command = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", sys.executable, "-c", CLI, *map(str, arguments)]
        environment = {**os.environ, **hub.environment(tmp_path / "home")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        return Run(done.returncode, done.stdout, done.stderr)

    done = limited("package", CHECKPOINT, tmp_path / "out", "--onnx", "none")
    assert (done.status, "cannot be written" in done.line) == (2, True)
    assert not (tmp_path / "out").exists()
    done = limited("push", digits, REPO)  # the upload needs no disk, reading back does
    assert (done.status, "the disk is full" in done.line) == (2, True)
    assert set(hub.repos[REPO].files) == names(digits)
    assert densenet(hub, tmp_path / "home", "push", digits, REPO).status == 0
    done = limited("inspect", f"hf://{REPO}")
    assert done.status == 2
    assert "the disk is full" in done.line
