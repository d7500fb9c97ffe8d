"""Publishing over real HTTP with the real clients, against a stand-in Hub."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from helpers.hub import REPO, densenet, names
from helpers.hub_server import Fault, Hub
from helpers.networks import SMALL, TIMM, save
from helpers.packages import save_described

from converter.demo.demo import CHECKPOINT
from converter.publish.package import package


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
    source = save_described(TIMM, tmp_path / "a.safetensors")
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
    told, end = done.out.splitlines()
    assert re.fullmatch(r"these are the weights already there \(fingerprint [0-9a-f]{16}\)", told)
    assert end == f"{REPO}: nothing to change, no commit made"


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
