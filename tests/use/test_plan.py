"""What predict and evaluate say that they would do: counted right, of images really measured, and nothing written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.command import refused, run
from helpers.networks import SMALL, random_model, save
from helpers.sets import images, parquet, tars

from converter import evaluate, predict
from converter.use.share import Share


class Stop:
    """Interrupts when so many images are done."""

    def __init__(self, after: int) -> None:
        self.after, self.done = after, 0

    def __call__(self, done: int) -> None:
        self.done += done
        if self.done >= self.after:
            raise KeyboardInterrupt


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return tars(tmp_path / "shards", images(160), 90)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 100 images are many."""
    for module in ("folder", "evaluate", "plan"):
        monkeypatch.setattr(f"converter.use.{module}.MANY", 100)


def planned(*words: object, status: int = 0) -> dict[str, Any]:
    """What is said, where nothing is written."""
    folder = next(Path(str(word)).parent for word in words if isinstance(word, Path) and "digits" not in str(word))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = run(*words, "--plan", "--json")
    assert done.returncode == status, done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_shards_are_counted_and_some_of_each_block_answered(digits: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    said = planned("predict", digits / "m.onnx", shards, "-o", out, "--features", tmp_path / "f.npy")
    size = sum(path.stat().st_size for path in shards.iterdir())
    assert said["kinds"] == {".tar": {"files": 2, "bytes": size, "images": 160}}
    assert (said["files"], said["bytes"], said["images"], said["asked"], said["done"]) == (2, size, 160, 160, 0)
    assert (said["blocks"], said["batch"], said["batches"]) == (4, 8, 8 + 4 + 8 + 1)  # 64, 26, 64, 6
    assert said["measured"] == 16 + 16 + 16 + 6
    assert said["seconds"] > 0
    assert said["targets"] == [{"path": str(path), "there": False} for path in (out, tmp_path / "f.npy")]
    assert predict(digits / "m.onnx", shards, output=out).images == said["asked"]
    assert planned("predict", digits / "m.onnx", shards, "-o", out)["targets"] == [{"path": str(out), "there": True}]


def test_what_is_said_for_people(digits: Path, shards: Path, tmp_path: Path) -> None:
    done = run("predict", digits / "m.onnx", shards, "-o", tmp_path / "out.csv", "--shard", "2/2", "--plan")
    lines = done.stdout.splitlines()
    assert next(line for line in lines if ".tar" in line).split()[::3] == [".tar", "160"]
    assert "predict: 70 images of shard 2/2 in 2 blocks, 9 batches of 8" in lines
    assert f"results go to {tmp_path / 'out.csv.2-of-2'}" in lines
    assert lines[-1].startswith("about ")
    assert lines[-1].endswith("(measured on 22 of them)")
    assert "results are printed" in run("evaluate", digits / "m.onnx", shards, "--plan").stdout


@pytest.mark.usefixtures("few")
def test_what_was_done_before_is_not_done_again(digits: Path, shards: Path, tmp_path: Path) -> None:
    model, out = digits / "m.onnx", tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        predict(model, shards, output=out, progress=Stop(90))
    said = planned("predict", model, shards, "-o", out)
    assert (said["asked"], said["done"], said["measured"]) == (160, 90, 16 + 6)
    assert planned("predict", model, shards, "-o", out, "--features", tmp_path / "f.npy")["done"] == 0  # another run
    assert (
        f"90 are answered already, in {out}.partial; 70 are left"
        in run("predict", model, shards, "-o", out, "--plan").stdout
    )
    note = predict(model, shards, output=out).notes
    assert any("90 of 160 images were done before" in line for line in note)
    (tmp_path / "new.csv.partial").write_text("mine")
    assert "none of what this tool writes" in refused(2, "predict", model, shards, "-o", tmp_path / "new.csv", "--plan")


def test_a_share_that_was_done(digits: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    predict(digits / "m.onnx", shards, output=out, share=Share(1, 2))
    for number, done, measured in ((1, 90, 0), (2, 0, 22)):
        said = planned("predict", digits / "m.onnx", shards, "-o", out, "--shard", f"{number}/2")
        assert (said["share"], said["images"], said["done"], said["measured"]) == (f"{number}/2", 160, done, measured)
        assert said["targets"] == [{"path": f"{out}.{number}-of-2", "there": bool(done)}]
    assert said["asked"] == 70
    words = ("predict", digits / "m.onnx", shards, "-o", out, "--shard", "1/2", "--plan")
    assert run(*words).stdout.endswith("none is left to be computed\n")


@pytest.mark.usefixtures("few")
def test_an_evaluation_of_parquet_and_of_folders(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    data = parquet(tmp_path / "set" / "val.parquet", images(130))
    report = tmp_path / "out.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate(digits / "m.onnx", data, target=report, progress=Stop(64))
    said = planned("evaluate", digits / "m.onnx", data, "-o", report, "-o", tmp_path / "out.html")
    assert (said["verb"], said["files"], said["asked"], said["done"]) == ("evaluate", 1, 130, 64)
    assert said["measured"] == 16 + 2
    assert [target["path"] for target in said["targets"]] == [str(report), str(tmp_path / "out.html")]
    for key, name, content in images(20):
        path = tmp_path / "folders" / name / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    said = planned("evaluate", digits / "m.onnx", tmp_path / "folders")
    assert said["kinds"][".png"]["images"] == said["measured"] + 4 == 20  # 16 of the only block


def test_what_would_fail_is_said_with_the_status_of_the_run(digits: Path, shards: Path, tmp_path: Path) -> None:
    second = shards / "digits-0001.tar"
    second.write_bytes(second.read_bytes()[:20000])
    said = planned("evaluate", digits / "m.onnx", shards, status=1)
    assert list(said["failed"]) == [str(second)]
    assert "damaged after 10 images" in said["failed"][str(second)]
    assert said["images"] == 100
    (tmp_path / "files").mkdir()
    for name, content in (("a.png", images(1)[0][2]), ("b.png", b"no image")):
        (tmp_path / "files" / name).write_bytes(content)
    said = planned("predict", digits / "m.onnx", tmp_path / "files", status=1)
    assert said["failed"] == {str(tmp_path / "files" / "b.png"): "not an image Pillow can read"}
    (tmp_path / "list.txt").write_text("files/a.png\nfiles/gone.png\n")
    said = planned("predict", digits / "m.onnx", tmp_path / "list.txt", status=1)
    assert (list(said["failed"]), said["asked"], said["measured"]) == (["files/gone.png"], 1, 1)


def test_of_features_alone_of_a_checkpoint_and_what_is_not_planned(digits: Path, shards: Path, tmp_path: Path) -> None:
    model = save(random_model(SMALL), tmp_path / "m.safetensors")
    said = planned("predict", model, shards / "digits-0001.tar", "--features", tmp_path / "f.npy")
    assert (said["asked"], said["measured"]) == (70, 22)
    shutil.rmtree(shards)
    assert "leave out --ray" in refused(2, "predict", model, tmp_path, "--plan", "--ray", "local")
    assert "leave out --ray" in refused(2, "evaluate", model, tmp_path, "--plan", "--ray", "local")
    assert "no such file" in refused(2, "predict", digits / "m.onnx", shards, "--plan")
