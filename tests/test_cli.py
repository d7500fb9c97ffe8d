"""The installed command, as users run it: results, exit statuses, one clear line for every mistake."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES
from packages import TIMM, save

from converter import load
from converter.demo.demo import CHECKPOINT, IMAGES, RECORD

SOURCE = CASES / "tv-legacy-old/densenet-legacy-old.pth"
COMMANDS = ("inspect", "convert", "export", "verify", "predict", "evaluate", "list", "demo")
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from converter.cli import main; main()"
WATCHED = (
    "import atexit, sys; "
    "atexit.register(lambda: print('torch imported:', 'torch' in sys.modules, file=sys.stderr)); "
    "from converter.cli import main; main()"
)


def densenet(*args: object, code: str | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    script = shutil.which("densenet", path=str(Path(sys.executable).parent))
    assert script, "the package is not installed beside this Python"
    command = [script] if code is None else [sys.executable, "-c", code]
    return subprocess.run([*command, *map(str, args)], capture_output=True, text=True, timeout=300, **options)


def ok(*args: object, **options: Any) -> str:
    done = densenet(*args, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(status: int, *args: object, **options: Any) -> str:
    """The one line on stderr of a command that must fail."""
    done = densenet(*args, **options)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("densenet: ")
    return lines[0]


def test_the_main_job(tmp_path: Path) -> None:
    model, graph, record = tmp_path / "m.safetensors", tmp_path / "m.onnx", tmp_path / "r.npz"
    assert "torchvision-legacy (torch legacy) -> library" in ok("convert", SOURCE, model)
    assert "pixel_values -> logits" in ok("export", model, graph)
    pytest.importorskip("torch")
    assert "pass" in ok("verify", model, graph, "--record", record)
    assert "pass" in ok("verify", graph, "--against", record, code=WITHOUT_TORCH)
    verdict = json.loads(ok("verify", SOURCE, graph, "--json"))
    assert verdict["passed"] is True
    other = CASES / "tv-bfloat16/half.pth"
    ok("export", other, tmp_path / "other.onnx")
    done = densenet("verify", SOURCE, tmp_path / "other.onnx")
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    done = densenet("verify", tmp_path / "other.onnx", "--against", record, code=WITHOUT_TORCH)
    assert done.returncode == 1


def test_json_everywhere(tmp_path: Path) -> None:
    found = json.loads(ok("inspect", SOURCE, "--json"))
    assert (found["format"], found["layout"], found["parameters"]) == ("torch legacy", "torchvision-legacy", 42144)
    assert found["config"]["block_config"] == [2, 3, 4, 2]
    assert found["tensors"]["stem.conv.weight"] == {
        "keys": ["features.conv0.weight"],
        "dtype": "float32",
        "shape": [16, 3, 7, 7],
    }
    done = json.loads(ok("convert", SOURCE, tmp_path / "m.safetensors", "--to", "timm", "--json"))
    assert (done["source_layout"], done["target_layout"], done["tensors"]) == ("torchvision-legacy", "timm", 136)
    done = json.loads(ok("export", SOURCE, tmp_path / "m.onnx", "--features", "--json"))
    assert done["outputs"] == ["logits", "features"]
    image = next(IMAGES.glob("7/*.png"))
    (result,) = json.loads(ok("predict", CHECKPOINT, image, "--top", 3, "--json"))
    assert len(result["top"]) == 3
    assert result["pred_label"] == result["top"][0]["label"]
    models = json.loads(ok("list", "*_3rdparty_*", "--json"))
    assert [(m["name"], m["parameters"], m["top1"]) for m in models] == [
        ("densenet121_3rdparty_in1k", 7978856, 74.96),
        ("densenet161_3rdparty_in1k", 28681000, 77.61),
        ("densenet169_3rdparty_in1k", 14149480, 76.08),
        ("densenet201_3rdparty_in1k", 20013928, 77.32),
    ]
    layouts = {entry["name"] for entry in json.loads(ok("list", "--layouts", "--json"))}
    assert {"library", "torchvision", "torchvision-legacy", "timm", "mmpretrain"} <= layouts


def test_tables_for_people(tmp_path: Path) -> None:
    text = ok("inspect", SOURCE, "--tensors", "--explain")
    assert "features.denseblock1.denselayer1.norm.1.weight" in text
    assert "keys explained" in text
    assert "densenet121_3rdparty_in1k" in ok("list")
    image = next(IMAGES.glob("7/*.png"))
    assert image.name in ok("predict", CHECKPOINT, image).replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_good_enough_to_work_from(command: str) -> None:
    text = ok(command, "--help")
    assert "--json" in text
    assert len(text.splitlines()) > 8
    assert command in ok("--help")
    assert "Exit status" in " ".join(ok("--help").split())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("inspect", "missing.pth"), "no such file"),
        (("convert", "missing.pth", "out.safetensors"), "no such file"),
        (("export", "missing.safetensors", "out.onnx"), "no such file"),
        (("convert", ".", "out.safetensors"), "folder"),
        (("convert", "text.pth", "out.safetensors"), "known format"),
        (("convert", "empty.pth", "out.safetensors"), "empty"),
        (("convert", "zip.pth", "out.safetensors"), "without tensors"),
        (("convert", "cut.pth", "out.safetensors"), "truncated"),
        (("convert", SOURCE, "out.tar"), "end the name in"),
        (("convert", SOURCE, "no/such/out.safetensors"), "cannot be written"),
        (("convert", SOURCE, "out.safetensors", "--to", "caffe9"), "no layout is named"),
        (("convert", SOURCE, "out.safetensors", "--layout", "mmpretrain"), "not a DenseNet"),
        (("convert", SOURCE, "out.safetensors", "--dtype", "int3"), "no dtype"),
        (("convert", SOURCE, "out.safetensors", "--weights", "ema"), "no weights at"),
        (("convert", SOURCE, "out.safetensors", "--set", "wings=2"), "not a setting"),
        (("convert", SOURCE, "out.safetensors", "--set", "eps=small"), "eps takes"),
        (("convert", SOURCE, "out.safetensors", "--labels", "text.pth"), "1 labels for 12"),
        (("export", SOURCE, "out.onnx", "--opset", "3"), "opset 3"),
        (("export", SOURCE, "out.onnx", "--graph", "fast"), "fused and exact"),
        (("verify", "out.onnx", "--against", "text.pth"), "known format"),
        (("predict", SOURCE, "text.pth"), "text.pth"),
        (("predict", SOURCE, "missing.png"), "missing.png"),
        (("evaluate", SOURCE, "nowhere"), "no such folder"),
        (("inspect", "densenet1234"), "no such file, and"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(args: tuple[object, ...], words: str, tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello\n")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "zip.pth").write_bytes(b"PK\x05\x06" + bytes(18))
    (tmp_path / "cut.pth").write_bytes(SOURCE.read_bytes()[:100_000])
    before = sorted(os.listdir(tmp_path))
    assert words in refused(2, *args, cwd=tmp_path)
    assert sorted(os.listdir(tmp_path)) == before


def test_wrong_usage_is_status_2() -> None:
    for args in (("convert",), ("convert", "a", "b", "--nonsense"), ("nonsense",)):
        done = densenet(*args)
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


@pytest.mark.parametrize(
    "args",
    [
        ("inspect", SOURCE),
        ("convert", SOURCE, "a.safetensors"),
        ("convert", SOURCE, "a.pth", "--to", "mmpretrain"),
        ("export", SOURCE, "a.onnx"),
        ("predict", CHECKPOINT, next(IMAGES.glob("1/*.png"))),
        ("list",),
    ],
)
def test_no_command_but_verify_imports_torch(args: tuple[object, ...], tmp_path: Path) -> None:
    done = densenet(*args, code=WATCHED, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "torch imported: False"


def test_verify_without_torch_says_what_to_do(tmp_path: Path) -> None:
    line = refused(2, "verify", SOURCE, code=WITHOUT_TORCH)
    assert "pip install" in line
    assert "--against" in line


@pytest.mark.parametrize("code", [None, WITHOUT_TORCH], ids=["as installed", "without torch"])
def test_demo(code: str | None, tmp_path: Path) -> None:
    done = json.loads(ok("demo", tmp_path / "out", "--json", code=code))
    assert {"model.safetensors", "model.onnx"} <= set(os.listdir(tmp_path / "out"))
    assert all(verification["passed"] for verification in done["verifications"])
    assert done["evaluations"]["ONNX Runtime"]["top1"] >= 98
    if code:
        assert "PyTorch" not in done["evaluations"]
    text = ok("demo", tmp_path / "out", code=code)
    for verb in ("inspect", "convert", "export", "verify", "evaluate"):
        assert verb in text
    assert text.count("  densenet ") >= 3


@pytest.mark.parametrize(
    ("stop", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_termination_leaves_the_old_file(tmp_path: Path, stop: signal.Signals, status: int, word: str) -> None:
    """Stopped while it writes: the target is as before, and no temporary file stays."""
    (tmp_path / "m.safetensors").write_text("old")
    code = (
        "import converter.exporters.atomic as a, time, os\n"
        "real = os.fsync\n"
        "def slow(fd):\n    print('writing', flush=True); time.sleep(60)\n"
        "os.fsync = slow\n"
        "from converter.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "convert", str(SOURCE), str(tmp_path / "m.safetensors")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(stop)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said.decode()) == (status, f"densenet: {word}\n")
    assert os.listdir(tmp_path) == ["m.safetensors"]
    assert (tmp_path / "m.safetensors").read_text() == "old"


def test_what_is_assumed_of_images_is_said(tmp_path: Path) -> None:
    image = next(IMAGES.glob("0/*.png"))
    done = densenet("predict", CHECKPOINT, image)
    assert "how images are prepared is not recorded: short edge 256, centre 224 x 224" in done.stderr
    done = densenet("export", CHECKPOINT, tmp_path / "a.onnx", "--image-input")
    assert (done.returncode, "are assumed" in done.stderr) == (0, True)
    ok("demo", tmp_path / "demo")
    done = densenet("predict", tmp_path / "demo" / "model.onnx", image)
    assert (done.returncode, done.stderr) == (0, "")
    source = save(replace(TIMM, num_classes=1000), tmp_path / "k.safetensors")
    assert "ImageNet's are shown" in densenet("predict", source, image).stderr


def test_wrong_usage_is_noticed_before_the_work(tmp_path: Path) -> None:
    model = tmp_path / "a.onnx"
    ok("export", CHECKPOINT, model)
    assert "--seed" in densenet("verify", CHECKPOINT, model, "--seed", "-1").stderr
    assert "its folder does not exist" in refused(2, "verify", CHECKPOINT, "--report", tmp_path / "no/report.json")
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


def test_an_error_of_ours_is_no_verdict(tmp_path: Path) -> None:
    code = (
        "import sys, converter.convert\nsys.modules['converter.convert'].load = lambda *a, **k: 1 / 0\n"
        "from converter.cli import main; main()"
    )
    done = densenet("convert", CHECKPOINT, tmp_path / "a.safetensors", code=code)
    assert (done.returncode, "please report it" in done.stderr) == (2, True)


def test_imagenets_class_names_need_no_file(tmp_path: Path) -> None:
    source = save(replace(TIMM, num_classes=1000), tmp_path / "a.safetensors")
    ok("convert", source, tmp_path / "b.safetensors", "--labels", "imagenet-1k")
    assert load(tmp_path / "b.safetensors").labels[:2] == ("tench", "goldfish")


def test_zoo_names_download_through_the_cache(tmp_path: Path) -> None:
    """Offline, a zoo name is one clear line; the real download is tested in test_download.py."""
    environment = {**os.environ, "DENSENET_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    line = refused(2, "convert", "densenet121_3rdparty_in1k", tmp_path / "a.safetensors", env=environment)
    assert "densenet121_3rdparty_in1k" in line
    assert "offline" in line.lower()


def test_image_input_predicts_the_digits(tmp_path: Path) -> None:
    """uint8 pixels straight into the graph: the same classes as through our own preprocessing."""
    import onnxruntime
    from PIL import Image

    ok("demo", tmp_path)
    preprocess = json.loads(
        onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
        .get_modelmeta()
        .custom_metadata_map["densenet.preprocess"]
    )
    assert preprocess["resize"] == 32
    ok("export", tmp_path / "model.safetensors", tmp_path / "image.onnx", "--image-input")
    session = onnxruntime.InferenceSession(str(tmp_path / "image.onnx"))
    for digit in range(10):
        image = next(IMAGES.glob(f"{digit}/*.png"))
        pixels = np.asarray(Image.open(image).convert("RGB"))[None]
        (logits,) = session.run(None, {"image": pixels})
        assert logits.argmax() == digit
