"""Sources and results in object storage: the same entries and bytes as on a disk, whole or not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.cases import LEGACY
from helpers.command import refused, run

from converter.core.metadata import MADE_KEY
from converter.demo.demo import CHECKPOINT
from converter.fetch.storage import stored
from converter.formats import open_checkpoint


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """Good, broken and foreign files."""
    root = tmp_path / "bucket"
    (root / "a").mkdir(parents=True)
    shutil.copy(CHECKPOINT, root / "a" / "digits.pth")
    shutil.copy(LEGACY, root / "old.pth")
    (root / "cut.pth").write_bytes(CHECKPOINT.read_bytes()[:5000])
    (root / "readme.txt").write_text("models")
    return root


def told(text: str) -> dict[str, dict[str, object]]:
    return {Path(str(one["source"])).name: one for one in map(json.loads, text.splitlines())}


def test_a_tree_in_storage_becomes_a_tree_in_storage(bucket: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    source, target = f"file://{bucket}", f"file://{there}"
    local = run("convert", bucket, here, "--recursive", "--json")
    done = run("convert", source, target, "--recursive", "--json", "--jobs", 1)
    assert done.returncode == local.returncode == 1
    assert "2 done, 0 up to date, 1 failed; not checkpoints: 1" in done.stderr
    assert json.loads(json.dumps(told(done.stdout)).replace("file://", "").replace(str(there), str(here))) == told(
        local.stdout
    )
    assert {p.name: p.read_bytes() for p in there.rglob("*.*")} == {p.name: p.read_bytes() for p in here.rglob("*.*")}
    assert MADE_KEY in open_checkpoint(there / "a" / "digits.safetensors").metadata
    again = run("convert", source, target, "--recursive", "--jobs", 1)
    assert "0 done, 2 up to date, 1 failed" in again.stdout
    mixed = run("export", f"{source}/a/digits.pth", tmp_path / "onnx", "--jobs", 1)
    assert mixed.returncode == 0
    assert (tmp_path / "onnx" / "digits.onnx").is_file()


def test_a_plan_counts_what_is_in_storage(bucket: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "old.safetensors").write_bytes(b"one")
    done = run("convert", f"file://{bucket}", f"file://{there}", "--recursive", "--plan", "--json", "--jobs", 1)
    said = json.loads(done.stdout)
    assert said["bytes"] == sum(path.stat().st_size for path in bucket.rglob("*.*"))
    assert (said["sources"], said["there"], said["unknown"], list(said["failed"])) == (
        *(4, 1, 0),
        [f"file://{bucket}/cut.pth"],
    )
    assert [path.name for path in there.iterdir()] == ["old.safetensors"]


def test_what_somebody_else_wrote_stays(bucket: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "old.safetensors").write_bytes(b"theirs")
    done = run("convert", bucket / "old.pth", f"file://{there}", "--jobs", 1)
    assert done.returncode == 1
    assert f"file://{there}/old.safetensors" in done.stderr
    assert (there / "old.safetensors").read_bytes() == b"theirs"


def test_addresses_and_what_is_refused(bucket: Path) -> None:
    assert stored("s3://b/x.pth") == stored(Path("s3://b/x.pth")) == "s3://b/x.pth"
    assert stored(Path("file:///b/x")) == "file:///b/x"
    assert not any(map(stored, ("x.pth", "https://a/b.pth", "hf://a/b", Path("hf://a/b"), "C:\\x.pth", "a:b")))
    assert "go into a folder" in refused(2, "convert", bucket / "old.pth", f"file://{bucket}/x.safetensors")
    missing = run("inspect", f"file://{bucket}/none.pth", "--json")
    assert told(missing.stdout)["none.pth"]["error"] == "no such file"
    unknown = run("inspect", "s4://b/x.pth", "--json")
    assert unknown.returncode == 1
    assert "s4" in str(told(unknown.stdout)["x.pth"]["error"])
    assert "copy or mount" in run("verify", f"file://{bucket}/old.pth", "--jobs", 1).stderr
