"""Every option that takes a file, with everything that is none: a line and a status, at once, and nothing left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.command import run

import densenet.bounds
from converter.demo.demo import CHECKPOINT, IMAGES

IMAGE = next(IMAGES.glob("3/*.png"))
SECONDS = 60
"""In which each must have ended, on a busy machine too."""


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _with(content: bytes, path: Path) -> Path:
    path.write_bytes(content)
    return path


def _unreadable(path: Path) -> Path:
    path.write_bytes(b"\x80")
    path.chmod(0)
    return path


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _sparse(path: Path) -> Path:
    path.touch()
    os.truncate(path, 5 << 30)
    return path


FILES = {
    "folder": _folder,
    "missing": lambda path: path,
    "unreadable": _unreadable,
    "noise": lambda path: _with(np.random.default_rng(0).bytes(3000), path),
    "long": lambda path: path.with_name("n" * 300 + path.suffix),
    "no text": lambda path: _with(b"\xff\xfe\xfd{\x80", path),
    "empty": lambda path: _with(b"", path),
    "fifo": _fifo,
    "sparse": _sparse,
    "odd name": lambda path: _with(b"\x1b[31m", path.with_name(os.fsdecode(b"a\xff\x1b[31m\xc2\x9b") + path.suffix)),
    "link to itself": lambda path: path.symlink_to(path.name) or path,
}
"""Makes what a path is given for, and returns the path to give."""

OPTIONS = {
    "SRC": ("inspect", "FILE.pth"),
    "SRC of convert": ("convert", "FILE.pth", "OUT.safetensors"),
    "SRC of export": ("export", "FILE.onnx", "OUT.onnx"),
    "labels": ("convert", CHECKPOINT, "OUT.safetensors", "--labels", "FILE.json"),
    "labels as text": ("convert", CHECKPOINT, "OUT.safetensors", "--labels", "FILE.txt"),
    "preprocess": ("convert", CHECKPOINT, "OUT.safetensors", "--preprocess", "FILE.json"),
    "layout": ("inspect", CHECKPOINT, "--layout", "FILE.toml"),
    "against": ("verify", "MODEL.onnx", "--against", "FILE.npz"),
    "images of verify": ("verify", CHECKPOINT, "MODEL.onnx", "--images", "FILE.npy"),
    "MODEL of predict": ("predict", "FILE.onnx", IMAGE),
    "IMAGE": ("predict", CHECKPOINT, "FILE.png"),
    "volume": ("predict", CHECKPOINT, "FILE.nii"),
    "DATA": ("evaluate", CHECKPOINT, "FILE.csv"),
    "DATA as a list": ("evaluate", CHECKPOINT, "FILE.txt"),
    "images of evaluate": ("evaluate", CHECKPOINT, "TRUTHS.csv", "--images", "FILE"),
    "calibration": ("package", CHECKPOINT, "OUT", "--calibration", "FILE"),
    "evaluate of package": ("package", CHECKPOINT, "OUT", "--onnx", "none", "--evaluate", "FILE.csv"),
}


@pytest.fixture
def alarm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(densenet.bounds, "WRITER", 0.1)

    def late(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("given") / "model.onnx"
    assert run("export", CHECKPOINT, path).returncode == 0
    return path


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("option", OPTIONS)
def test_a_file_that_is_none_is_a_line(option: str, what: str, model: Path, tmp_path: Path, alarm: None) -> None:
    words: list[object] = []
    for word in OPTIONS[option]:
        if str(word).startswith("FILE"):
            name, colon, function = str(word).partition(":")
            given = FILES[what](tmp_path / name)
            words.append(f"{given}{colon}{function}")
        elif str(word).startswith("OUT"):
            words.append(tmp_path / str(word))
        elif word == "TRUTHS.csv":
            words.append(_with(b"path,label\na.png,3\n", tmp_path / "TRUTHS.csv"))
        else:
            words.append(model if word == "MODEL.onnx" else word)
    before = sorted(os.listdir(tmp_path))
    done = run(*words)
    assert done.returncode in ((1, 2, 3) if option in ("IMAGE", "volume") else (2, 3)), done.stdout
    assert done.stderr.strip()
    assert not any(words in done.stderr for words in ("Traceback", "should not happen", "Aborted", "\x1b", "\x9b")), (
        done.stderr
    )
    assert len(done.stderr) < 1500, done.stderr
    assert sorted(os.listdir(tmp_path)) == before
