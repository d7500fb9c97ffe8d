"""Where there is no room, no right or no folder: one line, status 2, nothing left, nothing lost, whatever the verb."""

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.cases import LEGACY
from helpers.command import ok, refused, run
from helpers.quota import quota

from converter.demo.demo import CHECKPOINT, IMAGES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
IMAGE = next(iter(sorted(IMAGES.glob("3/*.png"))))
NONE = "--onnx", "none"

RUN = """
import json, os, sys
sys.modules["torch"] = None
from helpers.command import run
done = [run(*words).__dict__ for words in json.loads(sys.argv[1])]
left = {folder: sorted(os.listdir(folder)) for folder in ("full", "ro", "ro/mounted")}
print(json.dumps([done, left]))
"""


def can_mount() -> bool:
    """Whether this process may mount file systems that nobody else sees."""
    try:
        return subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode == 0
    except OSError:
        return False


def mounted(folder: Path, *commands: tuple[Any, ...]) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """What commands say where ``full`` has 64 kB and ``ro`` is read-only but for ``ro/mounted``; and what is left."""
    mounts = (
        "mkdir full ro && mount -t tmpfs -o size=64k none full && mount -t tmpfs none ro && mkdir ro/mounted ro/old"
        f" && cp {LEGACY} ro/s.pth && mount -t tmpfs none ro/mounted && mount -o remount,ro ro"
    )
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{mounts} && exec "$@"', "sh", sys.executable, "-c", RUN, words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "DENSENET_HOME": "ro/cache"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    said, left = json.loads(done.stdout)
    return said, left


def test_full_and_read_only_file_systems(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("may not mount")
    full = [
        *(("convert", LEGACY, f"full/a.{suffix}") for suffix in ("safetensors", "pth", "npz")),
        ("export", LEGACY, "full/a.onnx"),
        ("package", CHECKPOINT, "full/p", *NONE),
        ("package", CHECKPOINT, "full", *NONE),
    ]
    read_only = [
        ("convert", "ro/s.pth", "ro/a.npz"),
        ("convert", "ro/s.pth", "ro/s.pth", "--force"),
        ("export", LEGACY, "ro/a.onnx"),
        ("package", CHECKPOINT, "ro/p", *NONE),
        ("package", CHECKPOINT, "ro/old", *NONE),
        ("predict", CHECKPOINT, IMAGE, "-o", "ro/t.csv"),
        ("predict", CHECKPOINT, IMAGE, "--features", "ro/t.npy"),
        ("predict", CHECKPOINT, IMAGE, "--cam", "ro/cam"),
        ("inspect", "densenet121.ra_in1k"),
    ]
    (*done, packaged), left = mounted(tmp_path, *full, *read_only, ("package", CHECKPOINT, "ro/mounted", *NONE))
    for said, words in zip(done, [*full, *read_only], strict=True):
        assert (said["returncode"], said["stdout"], said["stderr"].count("\n")) == (2, "", 1), (words, said)
        reason = "No space left on device" if words in full else "Read-only file system"
        assert said["stderr"].startswith("densenet: "), said
        assert reason in said["stderr"], said
        assert ".densenet-" not in said["stderr"], said  # a name that nobody knows
    assert packaged["returncode"] == 0, packaged["stderr"]
    assert (left["full"], left["ro"]) == ([], ["mounted", "old", "s.pth"])
    assert {"model.safetensors", "provenance.json"} <= set(left["ro/mounted"])
    assert not [name for name in left["ro/mounted"] if name.startswith(".")]


def test_a_quota(tmp_path: Path) -> None:
    with quota(4000):
        for words in (
            *(("convert", LEGACY, tmp_path / f"a.{suffix}") for suffix in ("safetensors", "pth", "npz")),
            ("export", LEGACY, tmp_path / "a.onnx"),
            ("evaluate", CHECKPOINT, IMAGES, "-o", tmp_path / "r.html"),
        ):
            assert "File too large" in refused(2, *words)
    assert not list(tmp_path.iterdir())


def test_pipes_are_no_sources_and_nobody_waits_for_them(tmp_path: Path) -> None:
    pipe, folder = tmp_path / "f.pth", tmp_path / "images"
    folder.mkdir()
    for path in (pipe, folder / "b.png"):
        os.mkfifo(path)
    shutil.copy(IMAGE, folder / "a.png")
    for source in (pipe, Path("/dev/null"), Path("/dev/zero")):
        for words in (
            ("inspect", source),
            ("convert", source, tmp_path / "a.npz"),
            ("export", source, tmp_path / "a.onnx"),
            ("predict", source, IMAGE),
            ("evaluate", source, IMAGES),
            ("verify", source),
            ("package", source, tmp_path / "p", *NONE),
        ):
            assert "is not a regular file" in refused(2, *words)
    done = run("predict", CHECKPOINT, folder)
    assert done.returncode == 1
    assert "b.png: is not a regular file" in done.stderr
    reader = threading.Thread(target=lambda: found.append((tmp_path / "out.npz").read_bytes()))
    found: list[bytes] = []
    os.mkfifo(tmp_path / "out.npz")
    reader.start()
    ok("convert", LEGACY, tmp_path / "out.npz")
    reader.join(30)
    ok("convert", LEGACY, tmp_path / "file.npz")
    assert found == [(tmp_path / "file.npz").read_bytes()]
    assert (tmp_path / "out.npz").is_fifo()


def test_links_that_lead_nowhere_and_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # takes long to import
    for link, to in (("l.pth", "no"), ("l.csv", "t.csv"), ("l", "p"), ("r.npz", "r.npz")):
        (tmp_path / link).symlink_to(to)
    assert "l.pth: no such file" in refused(2, "inspect", tmp_path / "l.pth")
    assert "too many symbolic links" in refused(2, "convert", LEGACY, tmp_path / "r.npz")
    old = os.umask(0o077)
    try:
        ok("predict", CHECKPOINT, IMAGE, "-o", tmp_path / "l.csv", "--cam", tmp_path / "cam")
        ok("package", CHECKPOINT, tmp_path / "l", *NONE)
    finally:
        os.umask(old)
    assert all((tmp_path / link).is_symlink() for link in ("l.csv", "l"))
    written = [path for name in ("t.csv", "cam", "p") for path in (tmp_path / name, *(tmp_path / name).rglob("*"))]
    assert len(written) > 8
    assert not [path for path in written if stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    ok("inspect", LEGACY)
    for words in (
        ("convert", LEGACY, "a.npz"),
        ("export", LEGACY, "a.onnx"),
        ("predict", CHECKPOINT, IMAGE, "-o", "t.csv"),
        ("evaluate", CHECKPOINT, "images"),
        ("package", CHECKPOINT, "p", *NONE),
    ):
        said = refused(2, *words)
        assert "No such file" in said or "no such" in said or "the current folder was removed" in said


def test_too_little_memory_to_start(tmp_path: Path) -> None:
    line = 'ulimit -v 60000; exec "$0" -c "$1" convert "$2" a.npz'
    words = "bash", "-c", line, sys.executable, "from converter.cli import main; main()", str(LEGACY)
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("densenet: a library cannot be loaded")
    assert "not enough memory" in done.stderr
    assert not list(tmp_path.iterdir())


def test_names_where_the_locale_is_ascii(tmp_path: Path) -> None:
    folder = tmp_path / "Bildér"
    folder.mkdir()
    shutil.copy(IMAGE, folder / "é.png")
    shutil.copy(CHECKPOINT, tmp_path / "dünn.pth")
    line = '"$0" -c "$1" convert dünn.pth ä.npz >&2 && "$0" -c "$1" predict ä.npz Bildér --json'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, "from converter.cli import main; main()"],
        cwd=tmp_path,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["image"] == "Bildér/é.png"
    assert (tmp_path / "ä.npz").is_file()
