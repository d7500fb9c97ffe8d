"""Texts out of pipes, as ``--labels <(command)`` gives them; a checkpoint out of one is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.command import ok, refused

import densenet.bounds
from converter import load
from converter.demo.demo import CHECKPOINT, IMAGES
from converter.layouts import layout_named
from converter.layouts.custom import save_layout
from densenet.preprocess import TORCHVISION

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
NAMES = [f"number {i}" for i in range(10)]


def _pipe(folder: Path, content: bytes, name: str = "pipe") -> Path:
    """A named pipe, into which somebody writes once it is opened."""
    os.mkfifo(folder / name)
    threading.Thread(target=(folder / name).write_bytes, args=(content,), daemon=True).start()
    return folder / name


def test_class_names_and_steps_come_out_of_pipes(tmp_path: Path) -> None:
    labels = _pipe(tmp_path, "\n".join(NAMES).encode())
    steps = _pipe(tmp_path, json.dumps(TORCHVISION.to_dict()).encode(), "steps")
    ok("convert", CHECKPOINT, tmp_path / "m.safetensors", "--labels", labels, "--preprocess", steps)
    images = load(tmp_path / "m.safetensors").images
    assert list(images.labels) == NAMES
    assert images.preprocess == TORCHVISION


def test_a_layout_comes_out_of_a_pipe(tmp_path: Path) -> None:
    save_layout(tmp_path / "keras.toml", layout_named("keras"))
    ok("convert", CHECKPOINT, tmp_path / "m.npz", "--to", "keras")
    pipe = _pipe(tmp_path, (tmp_path / "keras.toml").read_bytes())
    ok("convert", tmp_path / "m.npz", tmp_path / "back.safetensors", "--layout", pipe)
    ok("convert", tmp_path / "m.npz", tmp_path / "file.safetensors", "--layout", tmp_path / "keras.toml")
    have, want = load(tmp_path / "back.safetensors").tensors, load(tmp_path / "file.safetensors").tensors
    assert list(have) == list(want)
    assert all(np.array_equal(have[name].read(), want[name].read()) for name in want)


def test_a_list_of_images_comes_out_of_a_pipe(tmp_path: Path) -> None:
    lines = [f"{path.name} {path.parent.name}" for path in sorted(IMAGES.glob("*/*.png"))[:20]]
    pipe = _pipe(tmp_path, "\n".join(lines).encode())
    assert "20 images" in ok("evaluate", CHECKPOINT, pipe, "--images", IMAGES)


def test_a_pipe_is_read_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(densenet.bounds, "TEXT", 1000)
    labels = _pipe(tmp_path, b"name\n" * 1000)
    assert "a pipe of more than 1,000 bytes" in refused(
        2, "convert", CHECKPOINT, tmp_path / "m.npz", "--labels", labels
    )


def test_a_pipe_that_does_not_end_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(densenet.bounds, "PIPED", 1)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)
    os.write(writer, b"name\n")
    said = refused(2, "convert", CHECKPOINT, tmp_path / "m.npz", "--labels", tmp_path / "pipe")
    os.close(reader)
    os.close(writer)
    assert "a pipe that does not end within 1 s" in said


def test_an_interrupt_gets_through_to_who_waits_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    code = "import signal, sys; from densenet.labels import read_labels; from pathlib import Path;"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); print(1, flush=True);"
    command = [sys.executable, "-c", code + "read_labels(Path(sys.argv[1]))", str(tmp_path / "pipe")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    os.close(writer)
    assert "KeyboardInterrupt" in said


def test_a_checkpoint_does_not_come_out_of_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refused(2, "inspect", tmp_path / "pipe")
