"""What a verb writes beside weights is written over what this tool wrote, and over nobody else's but by --force."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.command import ok, refused

from converter.demo.demo import CHECKPOINT, IMAGES

IMAGE = next(path for path in sorted(IMAGES.rglob("*.png")))
FOREIGN = "exists, and does not say that this tool wrote it; name another file, or replace it with --force"


def kept_unless_forced(path: Path, content: bytes, *command: object) -> None:
    """The file stays as it is, or is replaced where that is asked for, and then again without asking."""
    path.write_bytes(content)
    assert FOREIGN in refused(2, *command)
    assert path.read_bytes() == content
    ok(*command, "--force")
    assert path.read_bytes() != content
    ok(*command)
    path.write_bytes(b"")  # as mktemp makes it
    ok(*command)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.npy"])
def test_answers_are_written_over_answers_alone(name: str, tmp_path: Path) -> None:
    if name == "a.parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    option = "--features" if name == "a.npy" else "--output"
    other = {"a.csv": b"path,label\na.png,3\n", "a.jsonl": b'{"path": "a.png", "label": 3}\n', "a.parquet": b"PAR1"}
    np.save(tmp_path / "mine.npy", np.zeros(3))
    content = other.get(name) or (tmp_path / "mine.npy").read_bytes()
    kept_unless_forced(path, content, "predict", CHECKPOINT, IMAGE, option, path)


def test_no_first_line_of_a_table_is_too_odd(tmp_path: Path) -> None:
    for line in (b"5\n", b"[" * 5000, b"\xff\n", b"null\n"):
        (tmp_path / "a.jsonl").write_bytes(line)
        assert FOREIGN in refused(2, "predict", CHECKPOINT, IMAGE, "-o", tmp_path / "a.jsonl")


def test_what_stands_beside_an_array_is_kept_too(tmp_path: Path) -> None:
    (tmp_path / "a.rows.csv").write_text("my,own\n")
    assert "a.rows.csv: exists" in refused(2, "predict", CHECKPOINT, IMAGE, "--features", tmp_path / "a.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["a.rows.csv"]


MINE = {
    ".json": b'{"tool": "mine", "densenet-converter ": 1}\n',
    ".csv": b"class,name\n0,a\n",
    ".html": b"<!doctype html>\n<p>about densenet-converter 0.1.0\n",
    ".md": b"# densenet verify\n\nMade with densenet-converter 0.1.0.\n",
    ".xml": b'<testsuites name="densenet verify"/>\n',
}


@pytest.mark.parametrize(
    ("verb", "endings"),
    [("diff", (".html", ".json")), ("evaluate", (".csv", ".json", ".html")), ("inspect", (".md", ".json", ".xml"))],
)
def test_reports_are_written_over_reports_alone(verb: str, endings: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "images" / "3").mkdir(parents=True)
    shutil.copy(IMAGE, tmp_path / "images" / "3")
    of = {"diff": (CHECKPOINT, CHECKPOINT), "evaluate": (CHECKPOINT, tmp_path / "images")}.get(verb, (CHECKPOINT,))
    paths = [tmp_path / f"report{ending}" for ending in endings]
    command = [verb, *of, *(word for path in paths for word in ("--report", path))]
    paths[0].write_bytes(MINE[paths[0].suffix])
    ok(*command, "--force")
    for path in paths:
        good = path.read_bytes()
        path.write_bytes(MINE[path.suffix])
        assert f"{path}: {FOREIGN}" in refused(2, *command)
        assert path.read_bytes() == MINE[path.suffix]
        path.write_bytes(good)
    paths[-1].write_bytes(b"")  # as mktemp makes it
    ok(*command)  # the others say that they are reports


def test_a_recorded_reference_is_written_over_its_own_kind_alone(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "r.npz"
    np.savez(path, record=np.zeros(3))
    assert FOREIGN in refused(2, "verify", CHECKPOINT, "--record", path)
    shutil.copy(CHECKPOINT.with_name("reference.npz"), path)
    ok("verify", CHECKPOINT, "--engine", "torch", "--record", path)


def test_a_layout_that_was_edited_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "l.toml"
    kept_unless_forced(path, b"edited", "inspect", CHECKPOINT, "--save-layout", path)
