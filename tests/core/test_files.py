"""What is written appears whole or not at all, wherever it is written; killed runs' litter is swept."""

import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from helpers.quota import quota

from converter.core.errors import CannotWrite, UnreadableFile
from converter.core.files import replacing, scratch, sweep, write_bytes
from converter.core.hashing import sha256_of
from converter.core.mapping import mapped, steady

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
root = pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs to be root")
DEAD = ".densenet-0123456789abcdef.tmp"


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@posix
def test_links_are_followed_also_those_that_lead_nowhere_yet(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "there").symlink_to("inner/a")
    (tmp_path / "again").symlink_to("there")
    for content in (b"first", b"second"):
        write_bytes(tmp_path / "again", content)
        assert (inner / "a").read_bytes() == content
    assert (tmp_path / "again").is_symlink()
    assert (tmp_path / "there").is_symlink()
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(CannotWrite, match="too many symbolic links"):
        write_bytes(tmp_path / "round", b"")
    assert names(inner) == ["a"]


@posix
def test_the_old_mode_stays_and_a_new_file_obeys_umask(tmp_path: Path) -> None:
    (tmp_path / "a").touch(0o600)
    former = os.umask(0o077)
    try:
        write_bytes(tmp_path / "b", b"1")
    finally:
        os.umask(former)
    write_bytes(tmp_path / "a", b"1")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o600, 0o600]
    (tmp_path / "a").chmod(0o640)
    write_bytes(tmp_path / "a", b"2")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@posix
def test_pipes_and_devices_are_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_bytes(tmp_path / "pipe", bytes(1 << 20))
    reader.join(20)
    assert found == [bytes(1 << 20)]
    assert (tmp_path / "pipe").is_fifo()
    write_bytes(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()
    code = "from pathlib import Path; from converter.core.files import write_bytes; write_bytes(Path({!r}), b'said')"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code.format("/dev/stdout")], stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"said"
    if Path("/dev/full").exists():
        with pytest.raises(CannotWrite, match="No space left"):
            write_bytes(Path("/dev/full"), b"x")


@posix
def test_protected_files_are_replaced_by_force_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(CannotWrite, match="is read-only"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    write_bytes(path, b"new", force=True)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o444)


@root
def test_another_users_file_is_replaced_by_force_alone_and_stays_theirs(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    os.chown(path, 12345, 12345)
    with pytest.raises(CannotWrite, match="belongs to another user"):
        write_bytes(path, b"new")
    write_bytes(path, b"new", force=True)
    assert (path.read_bytes(), path.stat().st_uid) == (b"new", 12345)


def test_long_names_fit(tmp_path: Path) -> None:
    name = "x" * 244 + ".safetensors"[-11:]
    write_bytes(tmp_path / name, b"1")
    assert names(tmp_path) == [name]
    with pytest.raises(CannotWrite, match="too long"):
        write_bytes(tmp_path / ("x" * 300), b"1")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a") as file:
        file.write(b"half")
        assert 1 / 0
    assert (names(tmp_path), (tmp_path / "a").read_bytes()) == (["a"], b"old")


@pytest.mark.skipif(sys.platform == "win32", reason="no quota to set")
def test_a_quota_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with quota(1000), pytest.raises(CannotWrite, match="File too large"):
        write_bytes(tmp_path / "a", bytes(2000))
    assert names(tmp_path) == []


@posix
def test_litter_is_swept_but_not_what_is_being_written(tmp_path: Path) -> None:
    (tmp_path / DEAD).write_bytes(b"half")
    (tmp_path / DEAD.replace("0", "f")).mkdir()
    (tmp_path / DEAD.replace("0", "f") / "inside").touch()
    theirs = [".densenet-mine.tmp", "densenet-0123456789abcdef.tmp"]
    for name in theirs:
        (tmp_path / name).touch()
    with replacing(tmp_path / "a") as file, scratch(tmp_path) as folder:
        (folder / "b").touch()
        before = names(tmp_path)
        assert len(before) == 4
        write_bytes(tmp_path / "c", b"")
        assert names(tmp_path) == sorted([*before, "c"])
        file.write(b"whole")
    assert names(tmp_path) == sorted([*theirs, "a", "c"])
    assert (tmp_path / "a").read_bytes() == b"whole"


@posix
def test_temporary_files_are_tried_with_what_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = list[Path](), os.open

    def recorded(path: object, *args: int, **options: int) -> int:
        made.append(Path(str(path)))
        return real(path, *args, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(os, "open", recorded)
    with scratch() as folder:
        assert folder.parent == tmp_path
    inside = [path.name for path in made if path.parent == tmp_path]
    assert len(inside) > 1
    assert all(name.startswith(".densenet-") for name in inside)
    assert names(tmp_path) == []
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with scratch() as folder:
        assert folder.parent != tmp_path


@root
def test_what_others_left_is_not_swept(tmp_path: Path) -> None:
    (tmp_path / DEAD).touch()
    os.chown(tmp_path / DEAD, 12345, 12345)
    sweep(tmp_path)
    assert names(tmp_path) == [DEAD]


def test_a_sweep_of_no_folder_is_nothing(tmp_path: Path) -> None:
    sweep(tmp_path / "nowhere")


@posix
@pytest.mark.parametrize("how", ["shorter", "other"])
def test_what_changes_while_it_is_read_is_one_line(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(100_000))
    piece = mapped(path)[50_000:60_000]
    assert not steady(piece).any()
    if how == "shorter":
        os.truncate(path, 10)
    else:
        with path.open("r+b") as file:
            file.seek(55_000)
            file.write(b"other")
        os.utime(path, (1, 1))
    with pytest.raises(UnreadableFile, match="a: changed while it was read"):
        steady(piece)
    assert len(sha256_of([path])) == 64


def test_what_is_in_memory_is_steady_as_it_is() -> None:
    import numpy as np

    array = np.arange(5)
    assert steady(array[1:]).base is array


def test_folders_are_made_while_others_sweep(tmp_path: Path) -> None:
    sweeping = "import sys, pathlib, converter.core.files as f\nwhile True: f.sweep(pathlib.Path(sys.argv[1]))"
    others = [subprocess.Popen([sys.executable, "-c", sweeping, str(tmp_path)]) for _ in range(2)]
    try:
        for _ in range(1500):
            with scratch(tmp_path) as folder:
                (folder / "a").touch()
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert names(tmp_path) == []
