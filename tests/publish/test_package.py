"""The repository folder: what is in it, and that it is whole or as it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cases import CASES
from helpers.command import ok, python, refused
from helpers.networks import CIFAR, SMALL, TIMM, save
from helpers.packages import LABELS, read, save_described, small_images
from helpers.presets import PRESETS
from safetensors.numpy import load_file

from converter import convert, load
from converter.core.checkpoint import Tensor
from converter.core.errors import CannotWrite, ConverterError
from converter.core.hashing import sha256_of
from converter.demo.demo import CHECKPOINT, IMAGES, record
from converter.engines.coreml import COREML
from converter.engines.runtime import Job
from converter.formats.torch.zip_writer import write_torch
from converter.parity import budget
from converter.publish import package as home
from converter.publish import staging
from converter.publish.package import package
from converter.publish.provenance import parse_provenance
from converter.publish.repository import verify_repository
from converter.use.predict import predictor
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess, from_timm


def test_every_file_others_look_for_is_there(digits: Path) -> None:
    assert sorted(p.relative_to(digits).as_posix() for p in digits.rglob("*") if p.is_file()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "onnx/model.onnx",
        "onnx/model_fp16.onnx",
        "onnx/model_quantized.onnx",
        "parity.html",
        "parity.json",
        "preprocessor_config.json",
        "provenance.json",
    ]
    config = read(digits / "config.json")
    assert config["architecture"] == "densenet121"
    assert config["model_args"] == {"block_config": [3, 3, 3], "growth_rate": 12}
    assert config["label_names"] == [f"digit {i}" for i in range(10)]
    assert config["id2label"]["3"] == "digit 3"  # optimum's and transformers.js'
    assert "model_type" not in config
    assert read(digits / "preprocessor_config.json")["image_processor_type"] == "TimmWrapperImageProcessor"
    assert from_timm(config["pretrained_cfg"]) == Preprocess.from_dict(record()["preprocessing"])


def test_a_package_predicts_as_it_is(digits: Path, tmp_path: Path) -> None:
    images = [next(IMAGES.glob(f"{digit}/*.png")) for digit in range(10)]
    expected = predictor(digits / "onnx" / "model.onnx").results(images)
    for found, one in zip(predictor(digits).results(images), expected):
        np.testing.assert_allclose(found["pred_scores"], one["pred_scores"], atol=1e-5)
        assert found["pred_class"] == one["pred_class"]
    assert expected[3]["pred_class"] == "digit 3"
    eight = digits / "onnx" / "model_quantized.onnx"
    ok("predict", eight, *images, "--features", tmp_path / "a.npy")
    assert np.load(tmp_path / "a.npy").shape == (10, load(CHECKPOINT).config.num_features)
    line = refused(2, "predict", eight, *images, "--cam", tmp_path / "cam")
    assert "model_quantized.onnx: class activation maps need the classifier's weights" in line


def test_provenance_has_the_hash_of_every_other_file(digits: Path) -> None:
    text = (digits / "provenance.json").read_bytes()
    files = parse_provenance(text)
    assert set(files) | {"provenance.json"} == {
        p.relative_to(digits).as_posix() for p in digits.rglob("*") if p.is_file()
    }
    assert all(sha256_of((digits / name,)) == recorded.sha256 for name, recorded in files.items())
    values = json.loads(text)
    assert values["source"]["sha256"] == sha256_of((CHECKPOINT,))
    assert values["source"]["name"] == CHECKPOINT.name
    assert values["source"]["layout"] == "torchvision-legacy"


def test_no_local_path_is_in_any_file(digits: Path) -> None:
    for path in digits.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert str(CHECKPOINT.parent).encode() not in data, path
            assert str(digits.parent).encode() not in data, path


def test_packaging_again_gives_the_same_bytes(tmp_path: Path) -> None:
    source = save_described(TIMM, tmp_path / "source.safetensors")
    for name in ("a", "b"):
        package(source, tmp_path / name, labels=LABELS)
    files = {p.relative_to(tmp_path / "a"): p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert len(files) > 6
    assert files == {p.relative_to(tmp_path / "b"): p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}


@pytest.mark.parametrize("option", ["weights", "drop", "layout"])
def test_how_a_checkpoint_is_read_holds_for_its_proof(option: str, tmp_path: Path) -> None:
    first: dict[str, Any] = load_file(save_described(TIMM, tmp_path / "a.safetensors"))
    source = tmp_path / "a.npz"
    if option == "weights":
        source = tmp_path / "a.pth"
        sets = {"state_dict": 1.0, "state_dict_ema": 1.01}
        tree = {
            place: {name: Tensor.of(array * np.float32(factor)) for name, array in first.items()}
            for place, factor in sets.items()
        }
        write_torch(source, tree)
        assert load(source).origin.inside == "state_dict_ema"
        said: dict[str, Any] = {"weights": "state_dict"}
    elif option == "drop":
        np.savez(source, **first, extra=np.zeros(3, np.float32))
        said = {"drop": ["ext*"]}
    else:
        np.savez(source, **first)
        said = {"layout": "library"}
    package(source, tmp_path / "out", onnx=["fp32"], preprocess=small_images(TIMM), **said)
    expected = load(source, **said).tensors["classifier.weight"].read()
    assert (load(tmp_path / "out" / "model.safetensors").tensors["classifier.weight"].read() == expected).all()


def test_what_no_package_wrote_is_not_overwritten(tmp_path: Path) -> None:
    source, out = save_described(TIMM, tmp_path / "a.safetensors"), tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("my project")
    with pytest.raises(CannotWrite, match=r"README.md: is not of an earlier package"):
        package(source, out, onnx=[])
    assert [(p.name, p.read_text()) for p in out.iterdir()] == [("README.md", "my project")]
    package(source, out, onnx=[], force=True)
    assert "my project" not in (out / "README.md").read_text()
    (out / "README.md").write_text((out / "README.md").read_text() + "A word of mine.")
    with pytest.raises(CannotWrite, match=r"README.md: was changed since it was packaged"):
        package(source, out, onnx=["fp32"])
    assert (out / "README.md").read_text().endswith("A word of mine.")


def test_a_precision_over_budget_is_left_out_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(budget.BUDGETS, "int8", budget.Budget(1e-9, 0.95))  # type: ignore[index]
    done = package(save_described(TIMM, tmp_path / "a.safetensors"), tmp_path / "out")
    assert set(done.left_out) == {"onnx/model_quantized.onnx"}
    assert not (tmp_path / "out" / "onnx" / "model_quantized.onnx").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`onnx/model_quantized.onnx` is left out: logit error" in card
    assert "onnx/model_quantized.onnx" not in read(tmp_path / "out" / "provenance.json")["files"]


@pytest.mark.parametrize("wanted", [[], ["int8"], ["fp16", "fp32"]])
def test_onnx_files_can_be_chosen(wanted: list[str], tmp_path: Path) -> None:
    done = package(save_described(TIMM, tmp_path / "a.safetensors"), tmp_path / "out", onnx=wanted)
    names = {"fp32": "onnx/model.onnx", "fp16": "onnx/model_fp16.onnx", "int8": "onnx/model_quantized.onnx"}
    assert {name for name in done.files if name.endswith(".onnx")} == {names[p] for p in wanted}
    assert (tmp_path / "out" / "onnx").exists() == bool(wanted)
    said = "calibrated with synthetic images only" in (tmp_path / "out" / "README.md").read_text()
    assert said == any("synthetic images only" in note for note in done.proof.notes) == ("int8" in wanted)


def test_packaging_over_an_older_package_replaces_it_and_leaves_other_files_alone(tmp_path: Path) -> None:
    source, out = save_described(TIMM, tmp_path / "a.safetensors"), tmp_path / "out"
    package(source, out)
    (out / "notes.txt").write_text("mine")
    package(source, out, onnx=["fp32"])
    assert not (out / "onnx" / "model_fp16.onnx").exists()
    assert (out / "notes.txt").read_text() == "mine"
    assert verify_repository(out).passed


def test_a_failure_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = save_described(TIMM, tmp_path / "a.safetensors"), tmp_path / "out"
    package(source, out, onnx=["fp32"])
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    monkeypatch.setattr(home, "model_card", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        package(source, out)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "out"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"onnx": ["fp8"]}, "no precision is called fp8"),
        ({"labels": ["one"]}, "1 labels for 5 classes"),
        ({"calibration": "nowhere"}, "nowhere: no images there"),
        ({"license_id": "MIT | <b>"}, "not an identifier of a licence"),
        ({"preprocess": {**PRESETS["timm"].to_dict(), "channels": 1, "mean": [0.5], "std": [0.5]}}, "of 3 channels"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match=message):
        package(save_described(TIMM, tmp_path / "a.safetensors"), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (replace(SMALL, spatial_dims=3), "no volumes there"),
        (replace(SMALL, spatial_dims=1), "takes no ordinary images"),
        (replace(TIMM, in_channels=5), "takes no ordinary images"),
    ],
    ids=["volumes", "signals", "5 channels"],
)
def test_images_do_not_calibrate_what_takes_none(config: DenseNetConfig, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match=why):
        package(save(config, tmp_path / "a.safetensors"), tmp_path / "out", calibration=IMAGES)


def test_a_package_killed_while_it_moves_is_mended_by_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = save_described(TIMM, tmp_path / "a.safetensors"), tmp_path / "out"
    package(source, out, onnx=["fp32"])
    real, moved = shutil.move, list[Path]()

    def killed(file: Path, target: Path) -> None:
        moved.append(target)
        if len(moved) == 3:
            raise KeyboardInterrupt
        real(file, target)

    monkeypatch.setattr(staging.shutil, "move", killed)
    with pytest.raises(KeyboardInterrupt):
        package(source, out, onnx=["fp32"], labels=LABELS)
    assert not verify_repository(out).passed
    monkeypatch.undo()
    package(source, out, onnx=[])
    assert verify_repository(out).passed
    assert not list(out.glob(".*"))


NO_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "timm", "transformers", "torchvision"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)
from converter.cli import main
sys.argv[0] = "densenet"
main()
"""


def test_without_torch_it_packages_and_says_what_was_not_measured(tmp_path: Path) -> None:
    (tmp_path / "images.json").write_text(json.dumps(record()["preprocessing"]))
    done = python(NO_TORCH, "package", CHECKPOINT, tmp_path / "out", "--preprocess", tmp_path / "images.json", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["proof"]["oracle"] == "the exact graph in ONNX Runtime, float32"
    parity = read(tmp_path / "out" / "parity.json")
    assert parity["passed"]
    assert "nothing was measured against float64" in (tmp_path / "out" / "README.md").read_text()
    assert "torch" not in read(tmp_path / "out" / "provenance.json")["libraries"]


def test_a_converted_file_packages_like_its_source(tmp_path: Path) -> None:
    convert(CHECKPOINT, tmp_path / "timm.safetensors", to="timm")
    done = package(tmp_path / "timm.safetensors", tmp_path / "out", onnx=["fp32"], preprocess=record()["preprocessing"])
    assert done.layout == "timm"


def test_files_of_other_runtimes_with_their_proof(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("torch")
    folder = tmp_path / "repo"
    source = save_described(CIFAR, tmp_path / "m.safetensors")
    done = package(source, folder, onnx=[], also=["openvino", "torchscript"])
    names = ["openvino/openvino_model.xml", "openvino/openvino_model.bin", "torch/model.pt"]
    assert set(names) <= set(done.files)
    parity = json.loads((folder / "parity.json").read_text())
    for engine in ("OpenVINO, openvino_model.xml", "TorchScript, model.pt"):
        assert all(comparison["problem"] == "" for comparison in parity["results"][engine])
    card = (folder / "README.md").read_text()
    assert "| `openvino/openvino_model.xml` (OpenVINO, fp32) |" in card
    weights = folder / names[1]
    changed = np.fromfile(weights, np.float32)
    changed[len(changed) // 2] += 0.5
    changed.tofile(weights)
    record = json.loads((folder / "provenance.json").read_text())
    record["files"][names[1]] = {
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "size": weights.stat().st_size,
    }
    (folder / "provenance.json").write_text(json.dumps(record))
    verdict = verify_repository(folder)
    wrong = {engine for engine, found in verdict.results.items() if not all(c.passed for c in found)}
    assert wrong == {"OpenVINO, openvino_model.xml"}
    with pytest.raises(ConverterError, match=r"no runtime is called 'tensorrt'; there are openvino, "):
        package(source, folder, also=["tensorrt"])


def test_core_ml_is_packaged_and_said_not_to_have_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    source, folder = CASES / "coreml-program" / "DenseNet.mlpackage", tmp_path / "repo"

    def written(_: Job, path: Path) -> None:  # as coremltools wrote it of this network
        shutil.copytree(source, path)

    core_ml = replace(COREML, writes=(), write=written)
    monkeypatch.setattr("converter.engines.runtimes.RUNTIMES", (core_ml,))
    done = package(source, folder, onnx=[], also=["coreml"])
    assert {f"coreml/model.mlpackage/{part}" for part in ("Manifest.json", "Data/com.apple.CoreML/model.mlmodel")} <= {
        *done.files
    }
    card = (folder / "README.md").read_text()
    assert "| `coreml/model.mlpackage` (Core ML, fp32) |" in card
    assert "`coreml/model.mlpackage` was not run in Core ML, which needs macOS: its weights and settings" in card
    assert "each file in its own runtime" not in card
    checks = {check.name: check for check in done.proof.checks["model.mlpackage"]}
    assert checks["engine"].ok is None and checks["weights"].ok
    monkeypatch.setattr("converter.publish.repository.has_torch", lambda: False)
    assert verify_repository(folder).passed
    weights = folder / "coreml/model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    kernel = load(source).tensors["classifier.weight"].read()
    assert kernel.tobytes() in weights.read_bytes()
    weights.write_bytes(weights.read_bytes().replace(kernel.tobytes(), (kernel * np.float32(1.1)).tobytes()))
    record, at = read(folder / "provenance.json"), weights.relative_to(folder).as_posix()
    record["files"][at]["sha256"] = sha256_of([weights])
    (folder / "provenance.json").write_text(json.dumps(record))
    verdict = verify_repository(folder)
    assert {name for name, found in verdict.results.items() if not all(c.passed for c in found)} == {
        "ONNX Runtime, model.mlpackage"
    }
