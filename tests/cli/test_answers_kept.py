"""predict writes over its own tables and features, and over nobody else's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.command import ok, refused

from converter.demo.demo import CHECKPOINT, IMAGES

IMAGE = next(path for path in sorted(IMAGES.rglob("*.png")))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.npy"])
def test_answers_are_written_over_answers_alone(name: str, tmp_path: Path) -> None:
    if name == "a.parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    option = "--features" if name == "a.npy" else "--output"
    for _ in range(2):
        ok("predict", CHECKPOINT, IMAGE, option, path)
    other = {"a.csv": b"path,label\na.png,3\n", "a.jsonl": b'{"path": "a.png", "label": 3}\n', "a.parquet": b"PAR1"}
    np.save(tmp_path / "mine.npy", np.zeros(3))
    path.write_bytes(other.get(name) or (tmp_path / "mine.npy").read_bytes())
    for companion in set(tmp_path.glob("a.*")) - {path}:
        companion.unlink()
    before = path.read_bytes()
    assert "is none of what this tool writes" in refused(2, "predict", CHECKPOINT, IMAGE, option, path)
    assert path.read_bytes() == before
    path.write_bytes(b"")  # as mktemp makes it
    ok("predict", CHECKPOINT, IMAGE, option, path)
