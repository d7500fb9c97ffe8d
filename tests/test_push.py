"""Publishing and loading over real HTTP with the real clients, against a stand-in Hub (hub_server.py)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import TOKEN, Fault, Hub
from networks import SMALL
from packages import TIMM, save

from converter.core.errors import ConverterError
from converter.demo.demo import CHECKPOINT, IMAGES, record
from converter.fetch.hub_files import choose, parse
from converter.publish.package import package
from converter.use.predict import predictor

REPO = "me/densenet"
CLI = "import sys; from converter.cli import main; sys.argv[0] = 'densenet'; main()"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        yield server


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a few files, one of them in git LFS."""
    folder = tmp_path_factory.mktemp("small")
    package(save(SMALL, folder / "small.safetensors"), folder / "package", onnx=["fp32"])
    return folder / "package"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "package"
    labels = [f"digit {name}" for name in record()["class_names"]]
    package(CHECKPOINT, folder, calibration=IMAGES, preprocess=record()["preprocessing"], labels=labels)
    return folder


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


# -- publishing --------------------------------------------------------------------------


def test_a_push_is_one_commit_of_every_file(hub: Hub, small: Path, tmp_path: Path) -> None:
    done = densenet(hub, tmp_path, "push", small, REPO, "--tag", "v1")
    assert done.status == 0, done.err
    repo = hub.repos[REPO]
    assert repo.messages == ["DenseNet: weights, ONNX, card and proofs"]
    assert set(repo.files) == names(small)
    assert repo.files["model.safetensors"] == (small / "model.safetensors").read_bytes()
    assert repo.tags == {"v1": repo.branches["main"]}
    assert "POST /api/validate-yaml" in hub.requests
    assert "read back, every hash is as published" in done.out


def test_the_card_learns_the_name_of_the_repository(hub: Hub, small: Path, tmp_path: Path) -> None:
    densenet(hub, tmp_path, "push", small, REPO)
    files = hub.repos[REPO].files
    assert b"OWNER/NAME" not in files["README.md"]
    assert f"hf://{REPO}".encode() in files["README.md"]
    assert b"OWNER/NAME" in (small / "README.md").read_bytes()  # the folder itself is not touched
    verdict = densenet(hub, tmp_path, "push", small, REPO)
    assert "nothing to change" in verdict.out


def test_a_checkpoint_is_packaged_and_pushed_at_once(hub: Hub, tmp_path: Path) -> None:
    source = save(TIMM, tmp_path / "a.safetensors")
    done = densenet(hub, tmp_path / "home", "push", source, REPO, "--onnx", "fp32", "--private", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["committed"]
    assert hub.repos[REPO].private
    assert "onnx/model.onnx" in hub.repos[REPO].files
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_same_content_twice_is_one_commit(hub: Hub, small: Path, tmp_path: Path) -> None:
    for _ in range(2):
        done = densenet(hub, tmp_path, "push", small, REPO)
        assert done.status == 0, done.err
    assert len(hub.repos[REPO].messages) == 1
    assert done.out == f"{REPO}: nothing to change, no commit made\n"


def test_files_of_others_stay_and_ours_that_are_gone_go(hub: Hub, digits: Path, small: Path, tmp_path: Path) -> None:
    hub.add(REPO, {"notes.md": b"theirs", ".gitattributes": b"*.onnx filter=lfs"})
    densenet(hub, tmp_path, "push", digits, REPO)
    hub.add(REPO, {"onnx/model_fp16.onnx": b"changed by hand"})
    done = densenet(hub, tmp_path, "push", small, REPO)
    assert done.status == 0, done.err
    files = hub.repos[REPO].files
    assert "onnx/model_quantized.onnx" not in files
    assert files["onnx/model_fp16.onnx"] == b"changed by hand"
    assert files["notes.md"] == b"theirs"
    assert re.search(r"delete +0  onnx/model_quantized.onnx", done.out)


@pytest.mark.parametrize("exists", [False, True])
def test_a_dry_run_writes_nothing_anywhere(hub: Hub, small: Path, tmp_path: Path, exists: bool) -> None:
    if exists:
        hub.add(REPO, {"README.md": b"theirs"})
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    done = densenet(hub, tmp_path / "home", "push", small, REPO, "--dry-run", TMPDIR=str(tmp_path))
    assert done.status == 0, done.err
    assert re.search(rf"{'replace' if exists else 'add'} +[\d,]+  README.md", done.out)
    assert ("would be created" in done.out) == (not exists)
    assert [line for line in hub.requests if not line.startswith(("GET", "HEAD"))] == []
    assert not list(tmp_path.rglob("*"))
    assert before == {path: path.stat().st_mtime_ns for path in small.rglob("*")}


def test_a_dry_run_of_a_checkpoint_leaves_nothing_either(hub: Hub, tmp_path: Path) -> None:
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TMPDIR"), str(tmp_path))
    done = densenet(hub, tmp_path / "hf", "push", CHECKPOINT, REPO, "--dry-run", **homes)
    assert done.status == 0, done.err
    assert "onnx/model_quantized.onnx" in done.out
    assert not list(tmp_path.rglob("*"))


def test_a_dry_run_needs_no_token(hub: Hub, small: Path, tmp_path: Path) -> None:
    hub.add(REPO, {})
    assert densenet(hub, tmp_path, "push", small, REPO, "--dry-run", token=None).status == 0


def test_a_branch_and_a_pull_request(hub: Hub, small: Path, tmp_path: Path) -> None:
    hub.add(REPO, {"notes.md": b"theirs"})
    assert densenet(hub, tmp_path, "push", small, REPO, "--branch", "dev").status == 0
    done = densenet(hub, tmp_path, "push", small, REPO, "--create-pr", "-m", "DenseNet")
    assert done.status == 0, done.err
    repo = hub.repos[REPO]
    assert set(repo.files) == {"notes.md"}
    assert set(repo.commits[repo.branches["dev"]]) == names(small) | {"notes.md"}
    assert set(repo.commits[repo.pulls["refs/pr/1"]]) == names(small) | {"notes.md"}
    assert f"{REPO}/discussions/1" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((REPO, "--create-pr", "--tag", "v1"), "a pull request goes to main and has no tag"),
        (("no-owner",), "write OWNER/NAME"),
        (("a/../b",), "write OWNER/NAME"),
        ((REPO, "--tag", ""), "--tag '': not a name"),
        ((REPO, "--branch", "a..b"), "--branch 'a..b': not a name"),
        ((REPO, "--create-pr", "--tag", ""), "a pull request goes to main and has no tag"),
    ],
)
def test_wrong_usage_is_one_line(
    hub: Hub, small: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = densenet(hub, tmp_path, "push", small, *arguments)
    assert done.status == 2
    assert message in done.line
    assert hub.requests == []


def test_a_package_that_was_tampered_with_is_not_published(hub: Hub, small: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", small, copy], check=True)
    (copy / "README.md").write_text((copy / "README.md").read_text() + "\nA word of mine.\n")
    assert densenet(hub, tmp_path / "home", "push", copy, REPO).status == 0  # the card is for people to edit
    (copy / "onnx" / "model.onnx").write_bytes(b"something else")
    done = densenet(hub, tmp_path / "home", "push", copy, REPO)
    assert done.status == 1
    assert re.search(r"onnx/model.onnx \(has 14 bytes, \d+ are recorded\); package it again", done.line)
    assert len(hub.repos[REPO].messages) == 1


def test_tags_and_privacy_are_not_changed_behind_anyones_back(hub: Hub, small: Path, tmp_path: Path) -> None:
    hub.add(REPO, {"a": b"1"})
    hub.repos[REPO].tags["v1"] = hub.add(REPO, {"a": b"2"})
    hub.add(REPO, {"a": b"3"})
    done = densenet(hub, tmp_path, "push", small, REPO, "--tag", "v1")
    assert (done.status, "has a tag v1 already" in done.line) == (2, True)
    done = densenet(hub, tmp_path, "push", small, REPO, "--private")
    assert (done.status, "exists and is public" in done.line) == (2, True)
    assert len(hub.repos[REPO].messages) == 3


def test_a_tag_does_not_stay_behind_unnoticed(hub: Hub, small: Path, tmp_path: Path) -> None:
    assert densenet(hub, tmp_path, "push", small, REPO, "--tag", "v1").status == 0
    assert densenet(hub, tmp_path, "push", small, REPO, "--tag", "v1").status == 0  # the same content: nothing moves
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", small, copy], check=True)
    (copy / "README.md").write_text((copy / "README.md").read_text() + "\nMore.\n")
    done = densenet(hub, tmp_path, "push", copy, REPO, "--tag", "v1")
    assert (done.status, "has a tag v1 already" in done.line) == (2, True)
    assert len(hub.repos[REPO].messages) == 1


def test_a_first_push_does_not_overwrite_a_commit_in_between(hub: Hub, small: Path, tmp_path: Path) -> None:
    for request in (r"POST .*/preupload/", r"POST .*/repos/create"):
        hub.repos.pop(REPO, None)
        hub.faults = [Fault(request, then=lambda: hub.add(REPO, {"README.md": b"theirs"}) and None)]
        done = densenet(hub, tmp_path, "push", small, REPO)
        assert (done.status, "somebody else committed meanwhile" in done.line) == (2, True), done.err
        assert hub.repos[REPO].files == {"README.md": b"theirs"}


def test_what_others_changed_is_replaced_in_sight(hub: Hub, small: Path, tmp_path: Path) -> None:
    hub.add(REPO, {"README.md": b"theirs"})
    said = "README.md  (not as densenet push left it; the repository's history keeps it)\n"
    for arguments in (["--dry-run"], []):
        done = densenet(hub, tmp_path, "push", small, REPO, *arguments)
        assert (done.status, done.out.count("not as densenet push left it")) == (0, 1)
        assert said in done.out
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", small, copy], check=True)
    (copy / "README.md").write_text((copy / "README.md").read_text() + "\nMore.\n")
    assert "not as" not in densenet(hub, tmp_path, "push", copy, REPO).out
    hub.add(REPO, {"README.md": b"edited on its page"})
    assert said in densenet(hub, tmp_path, "push", small, REPO).out


def test_a_card_of_another_repository_is_not_published(hub: Hub, tmp_path: Path) -> None:
    source = save(SMALL, tmp_path / "small.safetensors")
    package(source, tmp_path / "package", onnx=[], repo="a/b")
    done = densenet(hub, tmp_path / "home", "push", tmp_path / "package", REPO)
    assert (done.status, "its card speaks of a/b" in done.line) == (2, True)
    assert densenet(hub, tmp_path / "home", "push", tmp_path / "package", "a/b").status == 0


def test_an_edited_file_that_no_package_has_any_more_is_named(
    hub: Hub, digits: Path, small: Path, tmp_path: Path
) -> None:
    densenet(hub, tmp_path, "push", digits, REPO)
    hub.add(REPO, {"onnx/model_fp16.onnx": b"edited"})
    done = densenet(hub, tmp_path, "push", small, REPO)
    assert re.search(r"keep +0  onnx/model_fp16.onnx  \(somebody edited it; nothing proves it now\)", done.out)


@pytest.mark.parametrize("card", [b"---\nlicense: [\n---\n", b"\xff\xfe", b"---\n- a\n---\n"])
def test_a_card_nobody_can_read_creates_no_repository(hub: Hub, small: Path, tmp_path: Path, card: bytes) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", small, copy], check=True)
    (copy / "README.md").write_bytes(card)
    done = densenet(hub, tmp_path / "home", "push", copy, REPO)
    assert (done.status, "README.md" in done.line) == (2, True)
    assert not hub.repos


def test_a_provenance_of_others_in_the_way_is_survived(hub: Hub, small: Path, tmp_path: Path) -> None:
    bad = b'{"kind": "densenet-converter provenance", "files": {"README.md": {"sha256": "0", "size": 1e999}}}'
    hub.add(REPO, {"provenance.json": bad})
    assert densenet(hub, tmp_path, "push", small, REPO).status == 0


@pytest.mark.parametrize("missing", ["README.md", "model.safetensors", "config.json"])
def test_a_provenance_that_leaves_out_what_it_must_list(hub: Hub, small: Path, tmp_path: Path, missing: str) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", small, copy], check=True)
    values = json.loads((copy / "provenance.json").read_text())
    del values["files"][missing]
    (copy / "provenance.json").write_text(json.dumps(values))
    done = densenet(hub, tmp_path / "home", "push", copy, REPO)
    assert (done.status, f"does not list {missing}; package it again" in done.line) == (1, True)


# -- faults ------------------------------------------------------------------------------


def published(hub: Hub) -> bool:
    return any("model.safetensors" in tree for tree in hub.repos[REPO].commits.values()) if REPO in hub.repos else False


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
        return Run(subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False))

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


# -- loading -----------------------------------------------------------------------------


def snippets(card: str) -> dict[str, str]:
    """The card's examples, by what they import first of the things that tell them apart."""
    blocks = re.findall(r"```python\n(.*?)```", card, re.S)
    kinds = {
        "import timm": "timm",
        "from transformers": "transformers",
        "from densenet": "library",
        "onnxruntime": "onnx",
    }
    return {next(kind for mark, kind in kinds.items() if mark in block): block for block in blocks}


SHOW = """
import json, numpy
def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value
print(json.dumps([plain(v) for v in output] if isinstance(output, list) else plain(output)))
"""


@pytest.mark.parametrize("kind", ["timm", "transformers", "library", "onnx"])
def test_the_cards_examples_run_and_agree(hub: Hub, digits: Path, tmp_path: Path, kind: str) -> None:
    for needed in {"timm": ["timm"], "transformers": ["transformers", "timm", "torchvision"]}.get(kind, []):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    assert densenet(hub, tmp_path / "publisher", "push", digits, REPO).status == 0
    image = sorted(IMAGES.glob("7/*.png"))[0]
    (tmp_path / "image.png").write_bytes(image.read_bytes())
    code = snippets(hub.repos[REPO].files["README.md"].decode())[kind] + SHOW
    environment = {**os.environ, **hub.environment(tmp_path / "reader", token=None)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout.splitlines()[-1])
    expected = predictor(digits / "model.safetensors").logits([image])[0]
    order = np.argsort(-expected)[:5]
    if kind in ("timm", "onnx"):
        assert np.abs(np.array(output)[0] - expected).max() < 1e-5 * np.abs(expected).max()
        assert np.argsort(-np.array(output)[0])[:5].tolist() == order.tolist()
    elif kind == "transformers":
        assert [found["label"] for found in output] == [f"digit {i}" for i in order]
        scores = np.exp(expected - expected.max())
        assert np.abs(np.array([found["score"] for found in output]) - (scores / scores.sum())[order]).max() < 1e-5
    else:
        assert output["pred_class"] == f"digit {order[0]}"
        assert np.argsort(-np.array(output["pred_scores"]))[:5].tolist() == order.tolist()


def test_an_address_on_the_hub_is_a_source(hub: Hub, digits: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    densenet(hub, home, "push", digits, REPO, "--tag", "v1")
    commit = hub.repos[REPO].branches["main"]
    hub.add(REPO, {"model.safetensors": b"broken"})
    facts = json.loads(densenet(hub, home, "inspect", f"hf://{REPO}@v1", "--json").out)
    assert facts["source"] == f"hf://{REPO}@{commit}/model.safetensors"
    for address in (f"hf://{REPO}@v1", f"hf://{REPO}@{commit}/model.safetensors"):
        done = densenet(hub, home, "convert", address, tmp_path / "a.safetensors")
        assert done.status == 0, done.err
        assert densenet(hub, home, "export", address, tmp_path / "a.onnx").status == 0
        image = sorted(IMAGES.glob("4/*.png"))[0]
        result = json.loads(densenet(hub, home, "predict", address, image, "--json").out)
        assert result[0]["pred_class"] == "digit 4"
    count = len(hub.requests)
    assert densenet(hub, home, "inspect", f"hf://{REPO}@v1", HF_HUB_OFFLINE="1").status == 0
    assert densenet(hub, home, "inspect", f"hf://{REPO}@v1", DENSENET_OFFLINE="1").status == 0
    assert len(hub.requests) == count
    done = densenet(hub, home, "inspect", "hf://me/other", HF_HUB_OFFLINE="1")
    assert (done.status, "not in the cache, and offline mode is on" in done.line) == (2, True)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://me/nothing", "not found, or your token may not see it"),
        (f"hf://{REPO}@nothing", "no such branch, tag or commit"),
        (f"hf://{REPO}/nothing.bin", "no such file in the repository"),
        ("hf://me", "write hf://owner/name"),
        (f"hf://{REPO}/../x", "not a path in a repository"),
    ],
)
def test_a_wrong_address_is_one_line(hub: Hub, tmp_path: Path, address: str, message: str) -> None:
    hub.add(REPO, {"model.safetensors": b""})
    done = densenet(hub, tmp_path, "inspect", address)
    assert (done.status, message in done.line) == (2, True), done.err


def test_shards_and_config_come_along(hub: Hub, tmp_path: Path) -> None:
    data = Path(__file__).parent / "data" / "timm-hf-small"
    hub.add(
        REPO,
        {
            "model.safetensors": (data / "model.safetensors").read_bytes(),
            "config.json": (data / "config.json").read_bytes(),
        },
    )
    facts = json.loads(densenet(hub, tmp_path, "inspect", f"hf://{REPO}", "--json").out)
    assert facts["source"].endswith("/model.safetensors")
    assert any(line.endswith("/config.json") for line in hub.requests)


def test_an_address_taken_apart() -> None:
    found = [
        parse(a)
        for a in ("hf://a/b", "hf://a/b@v1", "hf://a/b@refs/pr/3/x/y.bin", "hf://a/b@refs%2Fpr%2F3", "hf://a/b/x.bin")
    ]
    assert [(f.repo, f.revision, f.file) for f in found] == [
        ("a/b", None, None),
        ("a/b", "v1", None),
        ("a/b", "refs/pr/3", "x/y.bin"),
        ("a/b", "refs/pr/3", None),
        ("a/b", None, "x.bin"),
    ]


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["pytorch_model.bin", "model.safetensors", "onnx/model.onnx"], "model.safetensors"),
        (
            ["model.safetensors.index.json", "model-1-of-2.safetensors", "model-2-of-2.safetensors"],
            "model.safetensors.index.json",
        ),
        (["README.md", "weights/densenet.safetensors", "x.pth"], "weights/densenet.safetensors"),
        (["a.pth", "old/b.pth", "README.md"], "a.pth"),
        (["onnx/model.onnx"], "onnx/model.onnx"),
    ],
)
def test_the_right_file_is_chosen(files: list[str], chosen: str) -> None:
    assert choose("a/b", files) == chosen


@pytest.mark.parametrize("files", [["README.md"], [], ["a.pth", "b.pth"]])
def test_where_the_file_is_not_clear_people_are_asked(files: list[str]) -> None:
    with pytest.raises(ConverterError, match="name one: hf://a/b/"):
        choose("a/b", files)


VERIFY = """
import sys
from converter.hub.repository import verify_repository
proof = verify_repository(sys.argv[1])
print(proof.passed, len(proof.checks["provenance.json"]))
"""


def test_a_published_repository_is_proved_from_its_own_files(hub: Hub, digits: Path, tmp_path: Path) -> None:
    densenet(hub, tmp_path / "a", "push", digits, REPO)
    for target in (REPO, f"hf://{REPO}"):
        environment = {**os.environ, **hub.environment(tmp_path / "b", token=None)}
        done = subprocess.run(
            [sys.executable, "-c", VERIFY, target], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == "True 10\n"
    reports = [tmp_path / f"report.{kind}" for kind in ("json", "md", "xml", "html")]
    wanted = [part for report in reports for part in ("--report", report)]
    done = densenet(hub, tmp_path / "b", "verify", REPO, *wanted, token=None, HF_HUB_OFFLINE="1")
    assert done.status == 0, done.err
    for report in reports:
        assert "provenance.json" in report.read_text()
    cached = next((tmp_path / "b").rglob("snapshots/*/config.json")).resolve()
    cached.write_bytes(b"x" * cached.stat().st_size)
    done = densenet(hub, tmp_path / "b", "verify", REPO, token=None, HF_HUB_OFFLINE="1")
    assert (done.status, "its SHA-256 is not the recorded one" in done.out) == (1, True)
    assert densenet(hub, tmp_path / "b", "verify", REPO, token=None).status == 0  # the fault was the cache's
