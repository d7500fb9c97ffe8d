"""What is where a file is to be written, as a user meets it on the command line."""

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cases import LEGACY
from helpers.command import ok, refused, run
from helpers.keras import FLYYUFELIX

import converter.writing.convert as writing
from converter import load
from converter.demo.demo import CHECKPOINT, IMAGES

pwd = pytest.importorskip("pwd")
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
root = pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs to be root")


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "npz", "h5", "onnx"])
def test_what_this_tool_wrote_is_replaced_and_nothing_else(suffix: str, tmp_path: Path) -> None:
    verb, source, target = "export" if suffix == "onnx" else "convert", tmp_path / "k.h5", tmp_path / f"a.{suffix}"
    shutil.copy(FLYYUFELIX, source)
    target.touch()  # empty, as mktemp makes it: nothing to lose
    ok(verb, source, target)
    content = target.read_bytes()
    ok(verb, source, target)
    assert target.read_bytes() == content
    assert "is what is read" in refused(2, verb, target, target)
    assert target.read_bytes() == content
    shutil.copy(source, target)
    assert "exists, and does not say that this tool wrote it" in refused(2, verb, source, target)
    assert target.read_bytes() == source.read_bytes()
    ok(verb, source, target, "--force")
    assert target.read_bytes() == content


def test_a_training_checkpoint_does_not_lose_its_optimizer(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "train.pth"
    state = {name: torch.from_numpy(t.read().copy()) for name, t in load(LEGACY).tensors.items()}
    torch.save({"state_dict": state, "optimizer": {"lr": 0.1}}, path)
    content = path.read_bytes()
    os.link(path, tmp_path / "same.pth")
    for target in (path, tmp_path / "same.pth"):
        assert "--force" in refused(2, "convert", path, target)
    assert path.read_bytes() == content


@posix
def test_devices_links_and_modes(tmp_path: Path) -> None:
    ok("inspect", LEGACY, "--save-layout", "/dev/null")
    ok("inspect", LEGACY, "--save-layout", tmp_path / "l.toml")
    ok("inspect", LEGACY, "--save-layout", tmp_path / "l.toml")
    (tmp_path / "l.toml").write_text("edited")
    assert "--force" in refused(2, "inspect", LEGACY, "--save-layout", tmp_path / "l.toml")
    (tmp_path / "l.toml").unlink()
    assert Path("/dev/null").is_char_device()
    (tmp_path / "link.npz").symlink_to("there.npz")
    ok("convert", LEGACY, tmp_path / "link.npz")
    (tmp_path / "there.npz").chmod(0o600)
    ok("convert", LEGACY, tmp_path / "link.npz")
    assert stat.S_IMODE((tmp_path / "there.npz").stat().st_mode) == 0o600
    (tmp_path / "there.npz").chmod(0o400)
    assert "is read-only" in refused(2, "convert", LEGACY, tmp_path / "link.npz")
    (tmp_path / "full.npz").symlink_to("/dev/full")
    if Path("/dev/full").exists():
        assert "No space left" in refused(2, "convert", LEGACY, tmp_path / "full.npz")
    assert sorted(os.listdir(tmp_path)) == ["full.npz", "link.npz", "there.npz"]


def test_folders_of_targets_are_made_and_gone_again_where_nothing_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = IMAGES / "3"
    ok("convert", CHECKPOINT, tmp_path / "a/b/c.npz")
    ok("export", CHECKPOINT, tmp_path / "d/e.onnx")
    ok("verify", tmp_path / "d/e.onnx", "--record", tmp_path / "f/g.npz", "--report", tmp_path / "h/i.md")
    ok("predict", tmp_path / "d/e.onnx", digits, "-o", tmp_path / "j/k.csv", "--cam", tmp_path / "l/m")
    ok("inspect", CHECKPOINT, "--save-layout", tmp_path / "n/o.toml")
    assert sorted(os.listdir(tmp_path)) == ["a", "d", "f", "h", "j", "l", "n"]
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert "No space left" in refused(2, "convert", CHECKPOINT, tmp_path / "full/of/it.npz")
    assert not (tmp_path / "full").exists()


@root
def test_another_user_in_a_folder_that_is_not_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rights to write, and without a home: one line, nothing left."""
    for name in ("HOME", "XDG_CACHE_HOME", "DENSENET_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: {}["nobody of that number"])
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        shutil.copy(LEGACY, folder / "a.pth")
        shutil.copy(LEGACY, folder / "closed.pth")
        (folder / "closed.pth").chmod(0o600)
        refused(2, "convert", "densenet121.ra_in1k", folder / "b.npz")  # imports what another user may not
        ok("convert", LEGACY, folder / "b.npz")
        (folder / "b.npz").chmod(0o666)
        content = (folder / "b.npz").read_bytes()
        os.seteuid(12345)
        try:
            assert "belongs to another user" in refused(2, "convert", folder / "a.pth", folder / "b.npz")
            assert "Permission denied" in refused(2, "convert", folder / "a.pth", folder / "b.npz", "--force")
            assert "Permission denied" in refused(2, "convert", folder / "a.pth", folder / "c.npz")
            assert "Permission denied" in refused(2, "inspect", folder / "closed.pth")
            assert "DENSENET_HOME" in refused(2, "convert", "densenet121.ra_in1k", folder / "c.npz")
        finally:
            os.seteuid(0)
        assert (folder / "b.npz").read_bytes() == content
        assert sorted(os.listdir(folder)) == ["a.pth", "b.npz", "closed.pth"]
    finally:
        shutil.rmtree(folder)


SOURCES = ("legacy", "pth", "safetensors", "npz", "h5", "onnx")


@posix
@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_that_is_cut_off_while_it_is_read(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / f"s.{kind}"
    if kind == "legacy":
        shutil.copy(LEGACY, source)
    else:
        ok("export" if kind == "onnx" else "convert", FLYYUFELIX if kind == "h5" else LEGACY, source)
    real = writing.in_layout

    def cut(*args: Any, **options: Any) -> Any:
        os.truncate(source, 4096)  # structure is read, values are not
        return real(*args, **options)

    monkeypatch.setattr(writing, "in_layout", cut)
    assert "changed while it was read" in refused(2, "convert", source, tmp_path / "o.safetensors")
    assert os.listdir(tmp_path) == [source.name]


def test_options_that_take_files_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    image, target = next(IMAGES.glob("3/*.png")), tmp_path / "o.npz"
    deep, empty, wrong = tmp_path / "deep", tmp_path / "empty.npy", tmp_path / "wrong.npy"
    deep.write_text("x=" + "[" * 5000)
    empty.touch()
    wrong.write_bytes(b"\x93NUMPY\x01\x00v\x00" + b"{'descr': " + b"(" * 108)
    (tmp_path / "deep.json").write_text("[" * 5000)
    (tmp_path / "deep.toml").write_text("x=" + "[" * 5000)
    (tmp_path / "big.toml").write_text("x=" + "9" * 5000)
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    long = "x" * 300
    for words in (
        ("convert", LEGACY, target, "--preprocess", tmp_path / "deep.json"),
        ("convert", LEGACY, target, "--preprocess", long),
        ("convert", LEGACY, target, "--labels", tmp_path / "binary"),
        ("convert", LEGACY, target, "--labels", empty),
        ("convert", LEGACY, target, "--labels", long),
        ("convert", LEGACY, target, "--layout", tmp_path / "deep.toml"),
        ("convert", LEGACY, target, "--layout", tmp_path / "big.toml"),
        ("convert", LEGACY, tmp_path / f"{long}.npz"),
        ("export", CHECKPOINT, tmp_path / "o.onnx", "--precision", "int8", "--calibration", empty),
        ("export", CHECKPOINT, tmp_path / "o.onnx", "--precision", "int8", "--calibration", wrong),
        ("predict", long, image),
        ("evaluate", CHECKPOINT, long),
        ("push", long, "owner/name"),
        ("package", long, tmp_path / "out"),
        ("package", CHECKPOINT, tmp_path / long),
        ("verify", long),
    ):
        refused(2, *words)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("o")]


def test_names_before_which_an_editor_put_a_mark(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\ufeff" + "\n".join(f"class {i}" for i in range(12)), "utf-8")
    ok("convert", LEGACY, tmp_path / "a.safetensors", "--labels", tmp_path / "names.txt")
    assert load(tmp_path / "a.safetensors").images.labels[0] == "class 0"


def test_external_data_elsewhere_is_refused_by_every_verb(tmp_path: Path) -> None:
    import onnx
    from onnx.external_data_helper import convert_model_to_external_data

    ok("export", CHECKPOINT, tmp_path / "in.onnx")
    folder = tmp_path / "folder"
    folder.mkdir()
    model = onnx.load(tmp_path / "in.onnx")
    convert_model_to_external_data(model, location="w.bin", size_threshold=0)
    onnx.save(model, folder / "bad.onnx")
    shutil.move(folder / "w.bin", tmp_path / "w.bin")
    content = (folder / "bad.onnx").read_bytes().replace(b"w.bin", b"../ww")
    (folder / "bad.onnx").write_bytes(content)
    image = next(IMAGES.glob("3/*.png"))
    for words in (
        ("inspect", folder / "bad.onnx"),
        ("convert", folder / "bad.onnx", tmp_path / "o.npz"),
        ("predict", folder / "bad.onnx", image),
        ("evaluate", folder / "bad.onnx", IMAGES),
        ("verify", folder / "bad.onnx", "--against", CHECKPOINT.with_name("reference.npz")),
        ("package", folder / "bad.onnx", tmp_path / "out"),
    ):
        assert "outside its own folder" in refused(3, *words)


@posix
def test_files_of_the_hub_s_cache_are_links_into_its_blobs(tmp_path: Path) -> None:
    import onnx

    ok("export", CHECKPOINT, tmp_path / "in.onnx")
    repo = tmp_path / "models--a--b"
    snapshot, blobs = repo / "snapshots" / "abc", repo / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    onnx.save(onnx.load(tmp_path / "in.onnx"), blobs / "1", save_as_external_data=True, location="w", size_threshold=0)
    (blobs / "w").rename(blobs / "2")
    (snapshot / "m.onnx").symlink_to("../../blobs/1")
    (snapshot / "w").symlink_to("../../blobs/2")
    ok("convert", snapshot / "m.onnx", tmp_path / "o.npz")
    (tmp_path / "secret").write_bytes((blobs / "2").read_bytes())
    (snapshot / "w").unlink()
    (snapshot / "w").symlink_to(tmp_path / "secret")
    assert "outside" in refused(3, "inspect", snapshot / "m.onnx")


def test_odd_bytes_in_names_go_through_every_writer(tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"\xff\x1b[31m.safetensors")
    labels = tmp_path / "names"
    labels.write_text("".join(f"\x9b{i}\x1b[2J\n" for i in range(10)), "utf-8")
    try:
        ok("convert", CHECKPOINT, source, "--labels", labels)
    except OSError:
        pytest.skip("names are text here")
    for done in (run("inspect", source), run("inspect", source, "--json"), run("convert", source, tmp_path / "o.npz")):
        assert done.returncode == 0
        assert not {"\x1b", "\x9b"} & set(done.stdout + done.stderr)
    out = tmp_path / "out"
    ok("package", source, out, "--onnx", "none")
    for path in out.rglob("*.*"):
        if path.suffix in (".md", ".html", ".json"):
            assert not {"\x1b", "\x9b"} & set(path.read_text("utf-8")), path
    assert np.isfinite(load(out / "model.safetensors").tensors["norm.weight"].read()).all()
