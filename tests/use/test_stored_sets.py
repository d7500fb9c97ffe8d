"""Sets of images in storage (fsspec's), read where they lie: as on a disk, and what goes wrong is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import refused, run
from helpers.sets import images, parquet, tars

from converter import predict
from converter.core.errors import ConverterError

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[str]:
    """A bucket with two tars, and the same on this disk in ``shards``."""
    system = fsspec.filesystem("memory")
    for path in sorted(tars(tmp_path / "shards", images(160), 90).iterdir()):
        system.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    yield "memory://bucket"
    system.rm("/bucket", recursive=True)


def test_rows_are_those_of_a_disk(digits: Path, stored: str, tmp_path: Path) -> None:
    predict(digits / "m.onnx", tmp_path / "shards", output=tmp_path / "disk.csv")
    predict(digits / "m.onnx", f"{stored}/*.tar", output=tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_text()
    assert text.replace(stored, str(tmp_path / "shards")) == (tmp_path / "disk.csv").read_text()
    one = parquet(tmp_path / "one.parquet", images(20))
    fsspec.filesystem("memory").pipe_file("/bucket/one.parquet", one.read_bytes())
    assert "20 images" in run("evaluate", digits / "m.onnx", f"{stored}/one.parquet").stdout


def test_a_shard_that_changed_there_meanwhile_is_done_again(
    digits: Path, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("converter.use.folder.MANY", 100)

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(digits / "m.onnx", stored, output=tmp_path / "out.csv", progress=stop)
    system = fsspec.filesystem("memory")
    first = min(system.find("/bucket"))
    system.pipe_file(first, tars(tmp_path / "other", images(200)[110:], 90).joinpath(Path(first).name).read_bytes())
    done = predict(digits / "m.onnx", stored, output=tmp_path / "out.csv")
    assert not any("before" in note for note in done.notes)
    predict(digits / "m.onnx", stored, output=tmp_path / "whole.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_what_goes_wrong_there_is_said(digits: Path, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = digits / "m.onnx"
    assert "memory://bucket/none.tar: no such file" in refused(2, "predict", model, f"{stored}/none.tar")
    assert "memory://bucket/no-*.tar: nothing is there" in refused(2, "predict", model, f"{stored}/no-*.tar")
    assert "Protocol not known: s4" in refused(2, "predict", model, "s4://b/val-*.tar")
    read = fsspec.implementations.memory.MemoryFile.read

    def lost(self: object, size: int = -1) -> bytes:
        if self.path.endswith("1.tar"):  # type: ignore[attr-defined]
            raise RuntimeError("connection lost")
        return read(self, size)  # type: ignore[no-any-return]

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.read", lost)
    done = run("predict", model, stored)
    assert done.returncode == 1
    assert "memory://bucket/digits-0001.tar: RuntimeError: connection lost" in done.stderr


def test_no_more_is_fetched_than_blocks_need(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from converter.use.sets.find import image_set

    asked: list[int | None] = []
    there = fsspec.filesystem("memory")
    opened = type(there)._open

    def sized(self: object, path: str, mode: str = "rb", block_size: int | None = None, **more: object) -> object:
        asked.append(block_size)
        return opened(self, path, mode, block_size, **more)

    monkeypatch.setattr(type(there), "_open", sized)
    assert image_set([stored]).count == 160
    assert asked
    assert all(size == 1 << 20 for size in asked)


def test_models_and_results_are_of_this_machine(digits: Path, stored: str, tmp_path: Path) -> None:
    model = digits / "m.onnx"
    assert "in storage" in refused(2, "predict", "memory://bucket/m.onnx", stored)
    asked = [("predict", model, stored, "-o", "s3://b/a.csv"), ("evaluate", model, stored, "--report", "s3://b/a.json")]
    for words in asked:
        assert "s3://b/a." in refused(2, *words)
    with pytest.raises(ConverterError, match="on this machine"):
        predict(model, tmp_path / "shards", features="s3://b/a.npy")
    assert not Path("s3:").exists()
