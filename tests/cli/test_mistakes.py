"""Every mistake is one clear line with its exit status, and leaves nothing behind."""

import os
from pathlib import Path
from typing import Any

import pytest
from helpers.cases import LEGACY
from helpers.command import ok, refused, run
from helpers.networks import TIMM, random_model

from converter.demo.demo import CHECKPOINT, IMAGES, RECORD
from converter.formats.safetensors import write_safetensors


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("inspect", "missing.pth"), "no such file"),
        (("inspect", "densenet121.tv_1k"), "no such file; is densenet121.tv_in1k meant?"),
        (("inspect", "torchvision/densnet121"), "; is torchvision/densenet121 meant?"),
        (("convert", "missing.pth", "out.safetensors"), "no such file"),
        (("export", "missing.safetensors", "out.onnx"), "no such file"),
        (("convert", ".", "out.safetensors"), "folder"),
        (("convert", "text.pth", "out.safetensors"), "known format"),
        (("convert", "empty.pth", "out.safetensors"), "empty"),
        (("convert", "zip.pth", "out.safetensors"), "without tensors"),
        (("convert", "cut.pth", "out.safetensors"), "truncated"),
        (("convert", LEGACY, "out.tar"), "end the name in"),
        (("convert", LEGACY, "text.pth/out.safetensors"), "Not a directory"),
        (("convert", LEGACY, "out.safetensors", "--to", "caffe9"), "no layout is named"),
        (("convert", LEGACY, "out.safetensors", "--to", "Torchvison"), "; is torchvision meant?"),
        (("convert", LEGACY, "out.onnx"), f"densenet export {LEGACY} out.onnx writes such files"),
        (("export", LEGACY, "out.pth"), "densenet convert writes weights alone"),
        (("export", LEGACY, "out.onnx", "--for", "opencvv"), "; is opencv meant?"),
        (("export", LEGACY, "out.onnx", "--precision", "int7"), "; is int8 meant?"),
        (("package", LEGACY, "out", "--also", "openvin"), "; is openvino meant?"),
        (("verify", LEGACY, "--engine", "onnxruntme"), "; is onnxruntime meant?"),
        (("predict", LEGACY, "text.pth", "--engine", "pytorch"), "; is torch meant?"),
        (("predict", LEGACY, "text.pth", "--device", "cuda"), "pip install onnxruntime-gpu"),
        (("evaluate", LEGACY, "text.pth", "--device", "tensorrt"), "pip install onnxruntime-gpu"),
        (("verify", LEGACY, "--device", "directml"), "pip install onnxruntime-directml"),
        (("verify", LEGACY, "--device", "gpu"), "no device is called 'gpu'"),
        (("convert", LEGACY, "out.safetensors", "--activation", "softmx"), "; is softmax meant?"),
        (("convert", LEGACY, "out.safetensors", "--preprocess", "cifar11"), "; is cifar10 meant?"),
        (("inspect", LEGACY, "--set", "stem_pol=blur"), "; is stem_pool meant?"),
        (("inspect", LEGACY, "--set", "stem_pool=blurr"), "; is blur meant?"),
        (("inspect", "densnet121"), "densenet121.tv_in1k"),
        (("convert", LEGACY, "out.safetensors", "--layout", "mmpretrain"), "not a DenseNet"),
        (("convert", LEGACY, "out.safetensors", "--dtype", "int3"), "no dtype"),
        (("convert", LEGACY, "out.safetensors", "--weights", "ema"), "no weights at"),
        (("convert", LEGACY, "out.safetensors", "--set", "wings=2"), "not a setting"),
        (("convert", LEGACY, "out.safetensors", "--set", "eps=small"), "eps takes"),
        (("convert", LEGACY, "out.safetensors", "--labels", "text.pth"), "1 labels for 12"),
        (("export", LEGACY, "out.onnx", "--opset", "3"), "opset 3"),
        (("export", LEGACY, "out.onnx", "--graph", "fast"), "fused and exact"),
        (("verify", "out.onnx", "--against", "text.pth"), "known format"),
        (("predict", LEGACY, "text.pth"), "text.pth"),
        (("predict", LEGACY, "missing.png"), "missing.png"),
        (("evaluate", LEGACY, "nowhere"), "no such folder"),
        (("inspect", "densenet1234"), "no such file, and"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    args: tuple[object, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pth").write_text("hello\n")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "zip.pth").write_bytes(b"PK\x05\x06" + bytes(18))
    (tmp_path / "cut.pth").write_bytes(LEGACY.read_bytes()[:100_000])
    before = sorted(os.listdir(tmp_path))
    assert words in refused(2, *args)
    assert sorted(os.listdir(tmp_path)) == before


def test_wrong_usage_is_status_2() -> None:
    for args in (("convert",), ("convert", "a", "b", "--nonsense"), ("nonsense",)):
        done = run(*args)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_code_is_refused_with_status_3_and_not_run(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (tmp_path / "evil.pth").write_bytes(
        pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        + pickle.dumps(1001, 2)
        + pickle.dumps({}, 2)
        + pickle.dumps({"state_dict": Evil()}, 2)
    )
    for command in (("inspect",), ("convert",), ("export",)):
        target = [] if command == ("inspect",) else [tmp_path / f"out.{'onnx' if command == ('export',) else 'npz'}"]
        line = refused(3, *command, tmp_path / "evil.pth", *target)
        assert "system" in line
    assert os.listdir(tmp_path) == ["evil.pth"]


def test_wrong_usage_is_noticed_before_the_work(tmp_path: Path) -> None:
    model = tmp_path / "a.onnx"
    ok("export", CHECKPOINT, model)
    assert "--seed" in run("verify", CHECKPOINT, model, "--seed", "-1").stderr
    assert "end the name in .npz" in refused(2, "verify", CHECKPOINT, "--record", tmp_path / "a.foo")
    assert "a recorded reference is for ONNX files" in refused(
        2, "verify", model, "--against", RECORD, "--engine", "torch"
    )
    assert "no key matches" in refused(2, "inspect", CHECKPOINT, "--drop", "zzz*")
    assert "not a DenseNet in the keras layout" in refused(2, "inspect", CHECKPOINT, "--layout", "keras")
    assert "not a name of a file" in refused(2, "inspect", "x" * 300)
    assert "write hf://owner/name" in refused(2, "inspect", "owner/name")
    (tmp_path / "bad.toml").write_text("modules = 3")
    assert "are tables" in refused(2, "inspect", CHECKPOINT, "--layout", tmp_path / "bad.toml")


def test_an_error_of_ours_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converter.writing.target.inspect", lambda *_: 1 / 0)
    done = run("convert", CHECKPOINT, tmp_path / "a.safetensors")
    assert (done.returncode, "please report it" in done.stderr) == (2, True)


def test_zoo_names_download_through_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, a zoo name is one clear line; the real download is tested in test_download.py."""
    monkeypatch.setenv("DENSENET_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    line = refused(2, "convert", "densenet121_3rdparty_in1k", tmp_path / "a.safetensors")
    assert "densenet121_3rdparty_in1k" in line
    assert "offline" in line.lower()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"crop": [0, 0]}', '{"wings": 2}', '{"crop": "many"}'])
@pytest.mark.parametrize("verb", ["export", "convert", "predict", "verify", "inspect", "evaluate", "package"])
def test_damaged_preprocessing_in_a_file_is_one_line_in_every_verb(verb: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model = random_model(TIMM)
    write_safetensors(path, model.tensors, {**model.metadata(), "densenet.preprocess": text})
    more: dict[str, list[object]] = {
        "export": [tmp_path / "a.onnx"],
        "convert": [tmp_path / "b.safetensors"],
        "predict": [next(IMAGES.glob("3/*.png"))],
        "evaluate": [IMAGES],
        "package": [tmp_path / "out"],
    }
    line = refused(2, verb, path, *more.get(verb, []))
    assert "a.safetensors: its densenet.preprocess metadata is damaged" in line
    assert [found.name for found in tmp_path.iterdir()] == ["a.safetensors"]
