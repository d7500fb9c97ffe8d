"""The verbs, as users run them: results for people and for programs, and what is said on the way."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import CASES, LEGACY
from helpers.command import ok, run
from helpers.networks import TIMM, save

from converter import load
from converter.demo.demo import CHECKPOINT, IMAGES

COMMANDS = (
    "inspect",
    "convert",
    "export",
    "verify",
    "predict",
    "evaluate",
    "package",
    "push",
    "list",
    "demo",
    "doctor",
)


def test_the_main_job(tmp_path: Path) -> None:
    model, graph, record = tmp_path / "m.safetensors", tmp_path / "m.onnx", tmp_path / "r.npz"
    assert "torchvision-legacy (torch legacy) -> library" in ok("convert", LEGACY, model)
    assert "pixel_values -> logits" in ok("export", model, graph)
    pytest.importorskip("torch")
    assert "pass" in ok("verify", model, graph, "--record", record)
    assert "pass" in ok("verify", graph, "--against", record)
    verdict = json.loads(ok("verify", LEGACY, graph, "--json"))
    assert verdict["passed"] is True
    other = CASES / "tv-bfloat16/half.pth"
    ok("export", other, tmp_path / "other.onnx")
    done = run("verify", LEGACY, tmp_path / "other.onnx")
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    done = run("verify", tmp_path / "other.onnx", "--against", record)
    assert done.returncode == 1


def test_json_everywhere(tmp_path: Path) -> None:
    found = json.loads(ok("inspect", LEGACY, "--json"))
    assert (found["format"], found["layout"], found["parameters"]) == ("torch legacy", "torchvision-legacy", 42144)
    assert found["config"]["block_config"] == [2, 3, 4, 2]
    assert found["tensors"]["stem.conv.weight"] == {
        "keys": ["features.conv0.weight"],
        "dtype": "float32",
        "shape": [16, 3, 7, 7],
    }
    done = json.loads(ok("convert", LEGACY, tmp_path / "m.safetensors", "--to", "timm", "--json"))
    assert (done["source_layout"], done["target_layout"], done["tensors"]) == ("torchvision-legacy", "timm", 136)
    done = json.loads(ok("export", LEGACY, tmp_path / "m.onnx", "--features", "--json"))
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
    text = ok("inspect", LEGACY, "--tensors", "--explain")
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


def test_what_is_assumed_of_images_is_said(tmp_path: Path) -> None:
    image = next(IMAGES.glob("0/*.png"))
    done = run("predict", CHECKPOINT, image)
    assert "how images are prepared is not recorded: short edge 256, centre 224 x 224" in done.stderr
    done = run("export", CHECKPOINT, tmp_path / "a.onnx", "--image-input")
    assert (done.returncode, "are assumed" in done.stderr) == (0, True)
    ok("demo", tmp_path / "demo")
    done = run("predict", tmp_path / "demo" / "model.onnx", image)
    assert (done.returncode, done.stderr) == (0, "")
    source = save(replace(TIMM, num_classes=1000), tmp_path / "k.safetensors")
    assert "ImageNet's are shown" in run("predict", source, image).stderr


def test_imagenets_class_names_need_no_file(tmp_path: Path) -> None:
    source = save(replace(TIMM, num_classes=1000), tmp_path / "a.safetensors")
    ok("convert", source, tmp_path / "b.safetensors", "--labels", "imagenet-1k")
    assert load(tmp_path / "b.safetensors").images.labels[:2] == ("tench", "goldfish")


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
