"""Runs over many images: stopped and gone on with, in shards, and joined: always the same bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.command import ok, refused, run
from helpers.networks import SMALL, random_model, save
from helpers.sets import images, parquet, sample, tar, tars

from converter import evaluate, merge, predict
from converter.core.errors import ConverterError
from converter.core.model import Images
from converter.use.evaluate import Asked, examined
from converter.use.share import Share
from densenet.preprocess import Preprocess

pytest.importorskip("pyarrow")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 100 images are many."""
    monkeypatch.setattr("converter.use.folder.MANY", 100)
    monkeypatch.setattr("converter.use.evaluate.MANY", 100)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return tars(tmp_path / "shards", images(160), 90)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder a class, with an image that cannot be read."""
    for key, name, data in images(130):
        path = tmp_path / "files" / name / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if key != "00077" else data[:90])
    return tmp_path / "files"


class Stop:
    """Interrupts when so many images are done."""

    def __init__(self, after: int) -> None:
        self.after, self.done = after, 0

    def __call__(self, done: int) -> None:
        self.done += done
        if self.done >= self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", [".csv", ".npy"])
@pytest.mark.usefixtures("few")
def test_a_stopped_run_goes_on_to_the_same_bytes(kind: str, digits: Path, files: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / f"whole{kind}", tmp_path / f"out{kind}"
    target = "features" if kind == ".npy" else "output"
    first = predict(digits / "m.onnx", files, **{target: whole})  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        predict(digits / "m.onnx", files, progress=Stop(128), **{target: out})  # type: ignore[arg-type]
    kept = tmp_path / f"out{kind}.partial"
    assert kept.is_file()
    assert not out.exists()
    kept.write_bytes(kept.read_bytes()[:-7])  # killed while it wrote
    again = predict(digits / "m.onnx", files, **{target: out})  # type: ignore[arg-type]
    assert any("64 of 130 images were done before" in note for note in again.notes)
    assert out.read_bytes() == whole.read_bytes()
    assert again.failed == first.failed
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name or "densenet-" in path.name) == (
        ["out.npy", "out.rows.csv"] if kind == ".npy" else [out.name]
    )


@pytest.mark.usefixtures("few")
def test_what_changed_meanwhile_is_done_again(digits: Path, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        predict(digits / "m.onnx", files, output=out, progress=Stop(64))
    mended = next(files.rglob("00077.png"))
    mended.write_bytes(images(78)[77][2])
    done = predict(digits / "m.onnx", files, output=out)
    assert done.answered == 130
    whole = tmp_path / "whole.csv"
    predict(digits / "m.onnx", files, output=whole)
    assert out.read_bytes() == whole.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        predict(digits / "m.onnx", files, output=out, progress=Stop(64))
    other = Images(Preprocess(resize=28, crop=(28, 28)))
    done = predict(digits / "m.onnx", files, output=out, about=other)
    assert not any("before" in note for note in done.notes)  # rows of another question are none of this
    (tmp_path / "new.csv.partial").write_text("mine")
    with pytest.raises(ConverterError, match="none of what this tool writes"):
        predict(digits / "m.onnx", files, output=tmp_path / "new.csv")


def test_a_few_images_leave_nothing(digits: Path, files: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict(digits / "m.onnx", files, output=tmp_path / "out.csv", progress=Stop(100))
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


@pytest.mark.parametrize("count", [1, 5])
def test_shards_joined_are_the_whole(count: int, digits: Path, shards: Path, tmp_path: Path) -> None:
    model, whole, out = digits / "m.onnx", tmp_path / "whole", tmp_path / "out"
    ok("predict", model, shards, "-o", whole.with_suffix(".csv"), "--features", whole.with_suffix(".npy"))
    for number in range(count, 0, -1):
        text = ok(
            "predict", model, shards, "-o", f"{out}.csv", "--features", f"{out}.npy", "--shard", f"{number}/{count}"
        )
        assert "densenet merge" in text
    assert "160 of 160 images" in ok("merge", f"{out}.csv", "-o", f"{out}.csv", "-o", f"{out}.npy")
    for kind in ("csv", "npy", "rows.csv"):
        assert Path(f"{out}.{kind}").read_bytes() == Path(f"{whole}.{kind}").read_bytes()
    ok("merge", f"{out}.csv", "-o", f"{out}.parquet")
    ok("predict", model, shards, "-o", f"{whole}.parquet")
    assert Path(f"{out}.parquet").read_bytes() == Path(f"{whole}.parquet").read_bytes()


def test_figures_of_shards_joined_are_those_of_the_whole(digits: Path, files: Path, tmp_path: Path) -> None:
    whole = run("evaluate", digits / "m.onnx", files, "-o", tmp_path / "whole.json", "--json")
    for number in (1, 2, 3):
        done = run("evaluate", digits / "m.onnx", files, "-o", tmp_path / "out.json", "--shard", f"{number}/3")
        assert done.returncode == int("00077.png" in done.stderr)
    joined = run("merge", tmp_path / "out.json", "-o", tmp_path / "out.json", "-o", tmp_path / "out.html", "--json")
    assert (joined.returncode, joined.stdout, joined.stderr) == (1, whole.stdout, whole.stderr)
    assert (tmp_path / "out.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert "00077.png: the image is damaged" in joined.stderr


def test_figures_of_labels_too(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    model = random_model(SMALL)
    path = save(model, tmp_path / "m.safetensors")
    labels = [f"l{i}" for i in range(model.config.num_classes)]
    names = {"feature": {"names": labels, "_type": "ClassLabel"}, "_type": "Sequence"}
    chosen = [[i % 3, 3] if i % 2 else [] for i in range(20)]
    data = parquet(
        tmp_path / "x.parquet", images(20), features={"image": {"_type": "Image"}, "found": names}, found=chosen
    )
    about: Any = {"images": Images(Preprocess(resize=32, crop=(32, 32)), tuple(labels), "sigmoid")}
    whole = evaluate(path, data, **about).to_dict()
    for number in (1, 2):
        examined(Asked.of(path, data, **about), target=tmp_path / "out.json", share=Share(number, 2))
    found: Any = merge(tmp_path / "out.json")
    assert found.to_dict() == whole
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(json.dumps(whole))


def test_what_cannot_be_joined_is_said(digits: Path, shards: Path, tmp_path: Path) -> None:
    model, out = digits / "m.onnx", tmp_path / "out.csv"
    assert "no results of shards" in refused(2, "merge", out)
    for number in (1, 3):
        ok("predict", model, shards, "-o", out, "--shard", f"{number}/3")
    assert "1 of 3 shards are not there yet: 2/3" in refused(2, "merge", out)
    predict(model, shards, output=out, share=Share(2, 3), about=Images(Preprocess(resize=28, crop=(28, 28))))
    assert "2-of-3: of another run" in refused(2, "merge", out)
    ok("predict", model, shards, "-o", out, "--shard", "2/3")
    second = tmp_path / "out.csv.2-of-3"
    data = second.read_bytes()
    second.write_bytes(data[:-20])
    assert "2-of-3: not done" in refused(2, "merge", out)
    second.write_bytes(data)
    ok("merge", out)
    for words in (("--shard", "4/3"), ("--shard", "0/3"), ("--shard", "x")):
        assert "--shard" in refused(2, "predict", model, shards, "-o", out, *words)
    assert "--output" in refused(2, "predict", model, shards, "--shard", "1/3")
    assert "--report" in refused(2, "evaluate", model, shards, "--shard", "1/3")


def test_the_bottleneck_is_told(digits: Path, shards: Path, tmp_path: Path) -> None:
    said = run("predict", digits / "m.onnx", shards, "-o", tmp_path / "a.csv").stderr
    assert "note: the bottleneck is " in said
    assert "decoding" in said


def test_shards_of_copies_elsewhere_are_joined_and_those_of_other_files_are_not(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = digits / "m.onnx"
    for place in ("one", "other"):
        folder = tmp_path / place / "images"
        folder.mkdir(parents=True)
        for key, _, data in images(6):
            (folder / f"{key}.png").write_bytes(data)
            os.utime(folder / f"{key}.png", (len(place), len(place)))
    for number, place in enumerate(("one", "other"), 1):
        monkeypatch.chdir(tmp_path / place)
        ok("predict", model, "images", "-o", tmp_path / "out.csv", "--shard", f"{number}/2")
    assert "6 of 6 images" in ok("merge", tmp_path / "out.csv")
    (folder / "00003.png").write_bytes(b"another")
    ok("predict", model, "images/00000.png", "images", "-o", tmp_path / "out.csv", "--shard", "1/2")
    run("predict", model, "images", "-o", tmp_path / "out.csv", "--shard", "2/2")
    assert "other images" in refused(2, "merge", tmp_path / "out.csv")


def test_what_is_no_file_of_rows_is_neither_waited_for_nor_followed(digits: Path, shards: Path, tmp_path: Path) -> None:
    model, out = digits / "m.onnx", tmp_path / "out.csv"
    ok("predict", model, shards, "-o", out, "--shard", "1/2")
    (tmp_path / "out.csv.01-of-2").write_bytes(b"an older one, named otherwise")
    os.mkfifo(tmp_path / "out.csv.2-of-2")
    assert "2-of-2: exists, and is no file" in refused(2, "predict", model, shards, "-o", out, "--shard", "2/2")
    assert "2-of-2: no file" in refused(2, "merge", out)
    (tmp_path / "out.csv.2-of-2").unlink()
    (tmp_path / "out.csv.2-of-2").symlink_to(tmp_path / "elsewhere")
    assert "2-of-2: exists, and is no file" in refused(2, "predict", model, shards, "-o", out, "--shard", "2/2")
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "out.csv.2-of-2").unlink()
    ok("predict", model, shards, "-o", out, "--shard", "2/2")
    assert "160 of 160 images" in ok("merge", out)


def test_a_first_line_that_was_cut_is_written_again(digits: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    place = tmp_path / "out.csv.1-of-1"
    ok("predict", digits / "m.onnx", shards, "-o", out, "--shard", "1/1")
    whole = place.read_bytes()
    for count in (1, 12, 300):
        place.write_bytes(whole[:count])
        ok("predict", digits / "m.onnx", shards, "-o", out, "--shard", "1/1")
        assert place.read_bytes() == whole
    place.write_bytes(b'{"kind": "mine"}')
    assert "is none of what this tool writes" in refused(
        2, "predict", digits / "m.onnx", shards, "-o", out, "--shard", "1/1"
    )


def test_an_empty_shard_is_not_the_whole(digits: Path, shards: Path, tmp_path: Path) -> None:
    """As a variable of a scheduler that is not set gives it."""
    out = tmp_path / "out.csv"
    assert "--shard" in refused(2, "predict", digits / "m.onnx", shards, "-o", out, "--shard", "")
    assert not out.exists()


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_shard_that_is_replaced_meanwhile_is_not_counted_with_the_old_classes(
    kind: str, digits: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{kind}"

    def write(every: Any) -> None:
        path.unlink(missing_ok=True)
        _ = parquet(path, every) if kind == "parquet" else tar(path, map(sample, every))

    def replaced(_: int) -> None:
        write(images(150)[::-1])

    write(images(150))
    with pytest.raises(ConverterError, match="changed while it was read"):
        evaluate(digits / "m.onnx", path, progress=replaced)
