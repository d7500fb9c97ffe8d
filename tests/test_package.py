"""The repository folder: what is in it, who can load it, and that it says only what is known."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import CIFAR, SMALL, random_tensors
from packages import TIMM, save
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.numpy import save as save_tensors

from converter import load
from converter.core.checkpoint import Tensor
from converter.core.errors import CannotExpress, CannotWrite, ConverterError
from converter.core.model import Model
from converter.core.model import Origin as Source
from converter.demo.demo import CHECKPOINT, IMAGES, record
from converter.engines.onnxruntime import onnx_engine
from converter.engines.timm_model import timm_model
from converter.exporters.onnx import to_onnx
from converter.formats.torch.zip_writer import write_torch
from converter.parity import budget
from converter.parity.verdict import Verification
from converter.publish import package as home
from converter.publish.expectations import crop_fraction
from converter.publish.package import package
from converter.publish.provenance import parse_provenance, sha256
from converter.publish.repository import is_repository, verify_repository
from converter.use.predict import predictor
from converter.writing.convert import convert
from densenet.config import NAMED, DenseNetConfig
from densenet.labels import imagenet_classes
from densenet.preprocess import PRESETS, Preprocess, from_timm
from densenet.zoo import zoo_model

LABELS = [f"class {i}" for i in range(5)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "repository"
    trained = record()
    package(
        CHECKPOINT,
        folder,
        calibration=IMAGES,
        evaluation=IMAGES,
        license_id="Apache-2.0",
        preprocess=trained["preprocessing"],
        labels=[f"digit {i}" for i in range(10)],
    )
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


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


def test_provenance_has_the_hash_of_every_other_file(digits: Path) -> None:
    text = (digits / "provenance.json").read_bytes()
    files = parse_provenance(text)
    assert set(files) | {"provenance.json"} == {
        p.relative_to(digits).as_posix() for p in digits.rglob("*") if p.is_file()
    }
    assert all(sha256(digits / name) == recorded.sha256 for name, recorded in files.items())
    values = json.loads(text)
    assert values["source"]["sha256"] == sha256(CHECKPOINT)
    assert values["source"]["name"] == CHECKPOINT.name
    assert values["source"]["layout"] == "torchvision-legacy"


def test_no_local_path_is_in_any_file(digits: Path) -> None:
    for path in digits.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert str(CHECKPOINT.parent).encode() not in data, path
            assert str(digits.parent).encode() not in data, path


def test_packaging_again_gives_the_same_bytes(tmp_path: Path) -> None:
    source = save(TIMM, tmp_path / "source.safetensors")
    for name in ("a", "b"):
        package(source, tmp_path / name, labels=LABELS)
    files = {p.relative_to(tmp_path / "a"): p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert len(files) > 6
    assert files == {p.relative_to(tmp_path / "b"): p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}


VARIANTS = {
    "plain": {},
    "wider bottleneck": {"bn_size": 2},
    "deep": {"stem": "deep"},
    "tiered": {"stem": "deep", "stem_widths": (6, 12)},
    "blur": {"stem": "deep", "stem_pool": "blur"},
    "blur everywhere": {"stem": "deep", "stem_pool": "blur", "transition_pool": "blur"},
    "shallow blur": {"stem_pool": "blur"},
    "max": {"global_pool": "max"},
    "both": {"global_pool": "catavgmax"},
    "grey": {"in_channels": 1},
    "headless": {"num_classes": 0},
    "eps": {"eps": 1e-3},
}


@pytest.mark.torch
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_timm_computes_the_same_from_the_folder(changes: dict[str, Any], tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    import torch

    config = replace(TIMM, **changes)
    source = save(config, tmp_path / "source.safetensors")
    done = package(source, tmp_path / "out", onnx=["fp32"])
    assert (done.layout, done.why_not_timm) == ("timm", "")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    x = np.random.default_rng(1).normal(size=(2, config.in_channels, 64, 64)).astype(np.float32)
    expected = onnx_engine(to_onnx(load(source), graph="exact").SerializeToString())(x)
    with torch.inference_mode():
        found = model(torch.from_numpy(x)).numpy()
    assert np.abs(found - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    again = onnx_engine(to_onnx(load(tmp_path / "out" / "model.safetensors"), graph="exact").SerializeToString())(x)
    assert np.abs(again - expected).max() < 1e-5 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("name", ["densenet121", "densenet169", "densenet201", "densenet161", "densenetblur121d"])
def test_published_architectures_need_no_arguments(name: str) -> None:
    assert timm_model(NAMED[name]).architecture == name
    assert not timm_model(NAMED[name]).arguments


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (CIFAR, "a CIFAR stem"),
        (SMALL, "6 feature maps after the stem"),
        (replace(TIMM, compression=1.0), "compression 1"),
        (replace(TIMM, final_relu=False), "no ReLU after the last norm"),
        (replace(TIMM, transition_ceil=True), "pooling that rounds up"),
        (replace(TIMM, padding="same"), "TensorFlow's padding"),
        (replace(TIMM, transition_pool="blur"), "blur pooling in the transitions alone"),
        (replace(TIMM, spatial_dims=3), "three spatial dimensions"),
    ],
)
def test_networks_timm_lacks_are_refused_by_name(config: DenseNetConfig, reason: str) -> None:
    with pytest.raises(CannotExpress, match=reason):
        timm_model(config)


def test_a_network_timm_lacks_is_published_in_the_library_layout(tmp_path: Path) -> None:
    source = save(CIFAR, tmp_path / "cifar.safetensors")
    done = package(source, tmp_path / "out")
    assert (done.layout, "CIFAR stem" in done.why_not_timm) == ("library", True)
    config = read(tmp_path / "out" / "config.json")
    assert "pretrained_cfg" not in config
    assert "architecture" not in config
    card = (tmp_path / "out" / "README.md").read_text()
    assert "timm and transformers cannot load this network" in card
    assert "library_name: densenet-converter" in card
    assert load(tmp_path / "out" / "model.safetensors").config == CIFAR


@pytest.mark.parametrize(
    "preprocess", [*PRESETS.values(), Preprocess(resize=303, crop=(288, 288), interpolation="bicubic")]
)
def test_crop_fraction_gives_the_resize_back(preprocess: Preprocess) -> None:
    assert preprocess.resize == int(np.floor(preprocess.crop[0] / crop_fraction(preprocess)))


def test_all_crops_and_sizes_survive_timms_fraction() -> None:
    for crop in range(8, 300, 7):
        for resize in range(crop, 400, 11):
            p = Preprocess(resize=resize, crop=(crop, crop))
            assert int(np.floor(crop / crop_fraction(p))) == resize


def test_a_card_of_unknown_weights_claims_nothing(tmp_path: Path) -> None:
    package(save(TIMM, tmp_path / "a.safetensors"), tmp_path / "out", onnx=["fp32"])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "model-index" not in card
    assert "license:" not in card
    assert "datasets:" not in card
    assert "Not known. Nobody has published one" in card
    assert "the usual preprocessing of such networks is assumed" in card


def test_a_card_states_the_recorded_run(digits: Path) -> None:
    from huggingface_hub import ModelCard

    data = ModelCard.load(digits / "README.md").data
    assert data.license == "apache-2.0"
    assert [result.metric_value for result in data.eval_results] == [100.0, 100.0]
    assert "100 images" in data.eval_results[0].dataset_name
    assert (data.library_name, data.pipeline_tag) == ("timm", "image-classification")


def test_published_figures_name_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(zoo_model("torchvision/densenet121"), config=replace(TIMM, num_classes=1000))
    monkeypatch.setattr(home, "zoo_entry", lambda *_: entry)
    source = save(entry.config, tmp_path / "a.safetensors")
    package(source, tmp_path / "out", onnx=["fp32"])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "74.43 % | 91.97 % | published: torchvision, torchvision/models/densenet.py" in card
    assert "url: https://github.com/pytorch/vision/blob/main/torchvision/models/densenet.py" in card
    assert "license: bsd-3-clause" in card
    assert read(tmp_path / "out" / "config.json")["label_names"][0] == "tench"
    with pytest.raises(ConverterError, match="published under bsd-3-clause"):
        package(source, tmp_path / "other", license_id="mit")
    for said in ({"labels": map(str, range(1000))}, {"preprocess": PRESETS["timm"].to_dict()}):
        package(source, tmp_path / "changed", onnx=[], **said)
        card = (tmp_path / "changed" / "README.md").read_text()
        assert "published:" not in card, said
        assert "model-index" not in card
    changed = save(replace(entry.config, eps=1e-3), tmp_path / "b.safetensors")
    package(changed, tmp_path / "changed", onnx=[])
    assert "published:" not in (tmp_path / "changed" / "README.md").read_text()


def test_a_thousand_classes_without_names_are_not_taken_for_imagenets(tmp_path: Path) -> None:
    source = save(replace(TIMM, num_classes=1000), tmp_path / "a.safetensors")
    package(source, tmp_path / "out", onnx=["fp32"])
    assert read(tmp_path / "out" / "config.json")["label_names"][7] == "LABEL_7"
    assert "1000 classes whose names the source does not give" in (tmp_path / "out" / "README.md").read_text()
    image = next(iter(IMAGES.glob("*/*.png")))
    for file in ("model.safetensors", "onnx/model.onnx"):
        found = predictor(tmp_path / "out" / file).results([image])[0]
        assert found["pred_class"] == f"LABEL_{found['pred_label']}"
    package(source, tmp_path / "known", onnx=[], labels=imagenet_classes())
    assert "whose names" not in (tmp_path / "known" / "README.md").read_text()


def test_only_the_published_bytes_get_the_published_figures(tmp_path: Path) -> None:
    impostor = save(TIMM, tmp_path / "densenet121.tv_in1k")
    assert home.zoo_entry(impostor, load(impostor)) is None
    assert home.zoo_entry("densenet121-a639ec97.pth", load(impostor)) is None
    real = replace(load(impostor), source=Source("x.pth", "a639ec97" + "0" * 56, "torch legacy", "torchvision-legacy"))
    assert home.zoo_entry("x.pth", real) == zoo_model("torchvision/densenet121")


def test_a_files_name_cannot_write_into_the_card(tmp_path: Path) -> None:
    package(save(TIMM, tmp_path / "a`](x)|\n<b>.safetensors"), tmp_path / "out", onnx=["fp32"])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "converted from `a(x) b.safetensors`" in card
    assert "<b>" not in card


def test_an_evaluation_folders_name_cannot_write_into_the_card(tmp_path: Path) -> None:
    folder = tmp_path / "ev | <img src=x onerror=alert(1)> `"
    for name in "abcde":
        shutil.copytree(IMAGES / "3", folder / name)
    package(save(TIMM, tmp_path / "a.safetensors"), tmp_path / "out", onnx=[], evaluation=folder)
    text = (tmp_path / "out" / "README.md").read_text().partition("# DenseNet")[2]
    assert "ev \\| \\<img src=x onerror=alert(1)> \\`" in text
    assert "top-5" not in text.partition("## Accuracy")[2].partition("## Files")[0]  # of five classes it says nothing


@pytest.mark.parametrize("option", ["weights", "drop", "layout"])
def test_how_a_checkpoint_is_read_holds_for_its_proof(option: str, tmp_path: Path) -> None:
    first: dict[str, Any] = load_file(save(TIMM, tmp_path / "a.safetensors"))
    source = tmp_path / "a.npz"
    if option == "weights":
        source = tmp_path / "a.pth"
        sets = {"state_dict": 1.0, "state_dict_ema": 1.01}
        tree = {
            place: {name: Tensor.of(array * np.float32(factor)) for name, array in first.items()}
            for place, factor in sets.items()
        }
        write_torch(source, tree)
        assert load(source).source.inside == "state_dict_ema"
        said: dict[str, Any] = {"weights": "state_dict"}
    elif option == "drop":
        np.savez(source, **first, extra=np.zeros(3, np.float32))
        said = {"drop": ["ext*"]}
    else:
        np.savez(source, **first)
        said = {"layout": "library"}
    package(source, tmp_path / "out", onnx=["fp32"], **said)
    expected = load(source, **said).tensors["classifier.weight"].read()
    assert (load(tmp_path / "out" / "model.safetensors").tensors["classifier.weight"].read() == expected).all()


def test_what_no_package_wrote_is_not_overwritten(tmp_path: Path) -> None:
    source, out = save(TIMM, tmp_path / "a.safetensors"), tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("my project")
    with pytest.raises(CannotWrite, match=r"README.md: is not of an earlier package"):
        package(source, out, onnx=[])
    assert [(p.name, p.read_text()) for p in out.iterdir()] == [("README.md", "my project")]
    (out / "README.md").unlink()
    package(source, out, onnx=[])
    (out / "README.md").write_text((out / "README.md").read_text() + "A word of mine.")
    with pytest.raises(CannotWrite, match=r"README.md: was changed since it was packaged"):
        package(source, out, onnx=["fp32"])
    assert (out / "README.md").read_text().endswith("A word of mine.")


def test_a_precision_over_budget_is_left_out_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(budget.BUDGETS, "int8", budget.Budget(1e-9, 0.95))  # type: ignore[index]
    done = package(save(TIMM, tmp_path / "a.safetensors"), tmp_path / "out")
    assert set(done.left_out) == {"onnx/model_quantized.onnx"}
    assert not (tmp_path / "out" / "onnx" / "model_quantized.onnx").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`onnx/model_quantized.onnx` is left out: logit error" in card
    assert "onnx/model_quantized.onnx" not in read(tmp_path / "out" / "provenance.json")["files"]


@pytest.mark.parametrize("wanted", [[], ["int8"], ["fp16", "fp32"]])
def test_onnx_files_can_be_chosen(wanted: list[str], tmp_path: Path) -> None:
    done = package(save(TIMM, tmp_path / "a.safetensors"), tmp_path / "out", onnx=wanted)
    names = {"fp32": "onnx/model.onnx", "fp16": "onnx/model_fp16.onnx", "int8": "onnx/model_quantized.onnx"}
    assert {name for name in done.files if name.endswith(".onnx")} == {names[p] for p in wanted}
    assert (tmp_path / "out" / "onnx").exists() == bool(wanted)


def test_packaging_over_an_older_package_replaces_it_and_leaves_other_files_alone(tmp_path: Path) -> None:
    source, out = save(TIMM, tmp_path / "a.safetensors"), tmp_path / "out"
    package(source, out)
    (out / "notes.txt").write_text("mine")
    package(source, out, onnx=["fp32"])
    assert not (out / "onnx" / "model_fp16.onnx").exists()
    assert (out / "notes.txt").read_text() == "mine"
    assert verify_repository(out).passed


def test_a_failure_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = save(TIMM, tmp_path / "a.safetensors"), tmp_path / "out"
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
        package(save(TIMM, tmp_path / "a.safetensors"), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("config", [replace(SMALL, spatial_dims=3), replace(TIMM, in_channels=5)])
def test_images_do_not_calibrate_what_takes_none(config: DenseNetConfig, tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match="takes no ordinary images"):
        package(save(config, tmp_path / "a.safetensors"), tmp_path / "out", calibration=IMAGES)


def test_a_damaged_repository_fails_its_proof(digits: Path, tmp_path: Path) -> None:
    assert is_repository(str(digits))
    assert not is_repository(str(CHECKPOINT))
    assert is_repository("owner/name")
    assert not is_repository("hf://owner/name/model.safetensors")
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32))
    assert verify_repository(digits, images=tmp_path / "mine.npy").budgets["onnx/model_fp16.onnx"].kinds["images"] == 3
    proof = verify_repository(digits, images=IMAGES)
    assert proof.passed
    listed = set(parse_provenance((digits / "provenance.json").read_bytes()))
    assert {check.name for check in proof.checks["provenance.json"]} == listed | {"config"}
    assert proof.checks["onnx/model_fp16.onnx"]
    assert {check.name for check in proof.checks["config.json"]} > {
        "architecture",
        "label_names",
        "pretrained_cfg.mean",
    }
    assert set(proof.budgets) == {"onnx/model_fp16.onnx", "onnx/model_quantized.onnx"}
    assert "ONNX Runtime, model.onnx" in proof.results
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", digits, copy], check=True)
    (copy / "config.json").write_bytes(b"{}")
    (copy / "onnx" / "model_fp16.onnx").unlink()
    proof = verify_repository(copy)
    size = (digits / "config.json").stat().st_size
    assert failing(proof) == {
        "config.json": f"has 2 bytes, {size} are recorded",
        "onnx/model_fp16.onnx": "missing",
    }


@pytest.mark.parametrize("unlisted", [None, "model.safetensors", "config.json"])
def test_a_provenance_that_vouches_for_nothing_proves_nothing(
    unlisted: str | None, digits: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    values = read(copy / "provenance.json")
    values["files"] = {} if unlisted is None else {k: v for k, v in values["files"].items() if k != unlisted}
    (copy / "provenance.json").write_text(json.dumps(values))
    proof = verify_repository(copy)
    assert failing(proof)[unlisted or "config.json"] == "not in provenance.json: nothing vouches for it"


def test_an_onnx_file_of_other_weights_fails_the_proof_although_its_hash_is_right(tmp_path: Path) -> None:
    package(save(TIMM, tmp_path / "a.safetensors"), tmp_path / "out", onnx=["fp32"])
    other = {name: Tensor.of(array) for name, array in random_tensors(TIMM, seed=1).items()}
    wrong = to_onnx(Model(TIMM, other, Source("b", "1" * 64, "none", "library"))).SerializeToString()
    forge(tmp_path / "out", "onnx/model.onnx", wrong)
    proof = verify_repository(tmp_path / "out")
    assert not proof.passed
    assert all(check.ok for check in proof.checks["provenance.json"])
    assert all(comparison.problem for comparison in proof.results["ONNX Runtime, model.onnx"])


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model_quantized.onnx", "model.safetensors", "config.json"])
@pytest.mark.parametrize("torch", [True, False])
def test_a_file_that_is_none_fails_the_proof_although_its_hash_is_right(
    name: str, torch: bool, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    forge(copy, name, b"{garbage")
    if not torch:
        monkeypatch.setattr("converter.hub.repository.has_torch", lambda: False)
    proof = verify_repository(copy)
    assert not proof.passed
    assert all(check.ok for check in proof.checks["provenance.json"])


CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "architecture": lambda c: c | {"architecture": "densenet169"},
    "num_classes": lambda c: c | {"num_classes": 11},
    "label_names": lambda c: c | {"label_names": c["label_names"][::-1]},
    "pretrained_cfg.mean": lambda c: c | {"pretrained_cfg": c["pretrained_cfg"] | {"mean": [0.5, 0.5, 0.5]}},
    "pretrained_cfg.label_offset": lambda c: c | {"pretrained_cfg": c["pretrained_cfg"] | {"label_offset": 1}},
    "model_args": lambda c: c | {"model_args": c["model_args"] | {"global_pool": "max"}},
    "model_type": lambda c: c | {"model_type": "vit"},
    "auto_map": lambda c: c | {"auto_map": {"AutoModel": "me/code--model.Model"}},
    "pretrained_cfg": lambda c: {k: v for k, v in c.items() if k != "pretrained_cfg"} | {"pretrained_cfg.mean": 1},
}


@pytest.mark.parametrize("key", CONFIGS)
def test_a_config_of_another_network_fails_the_proof(key: str, digits: Path, tmp_path: Path, quick: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    forge(copy, "config.json", json.dumps(CONFIGS[key](read(copy / "config.json"))).encode())
    assert any(name.startswith(key) for name in failing(verify_repository(copy)))


@pytest.mark.parametrize("change", [{"do_flip_channel_order": True}, {"image_mean": [9, 9, 9]}, None])
def test_images_prepared_otherwise_fail_the_proof(
    change: dict[str, Any] | None, digits: Path, tmp_path: Path, quick: None
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    name = "preprocessor_config.json"
    if change is None:
        (copy / name).unlink()
        values = read(copy / "provenance.json")
        del values["files"][name]
        (copy / "provenance.json").write_text(json.dumps(values))
    else:
        forge(copy, name, json.dumps(read(copy / name) | change).encode())
    assert set(failing(verify_repository(copy))) == set(change or ["file"])


def relabelled(proto: onnx.ModelProto) -> None:
    (found,) = [prop for prop in proto.metadata_props if prop.key == "densenet.labels"]
    found.value = json.dumps(json.loads(found.value)[::-1])


def renamed(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        node.input[:] = ["x" if name == "pixel_values" else name for name in node.input]
    proto.graph.input[0].name = "x"


def fixed(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def shared(proto: onnx.ModelProto) -> None:
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "side"


def unnamed(proto: onnx.ModelProto) -> None:
    del proto.metadata_props[:]


def further(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["probabilities"]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("probabilities", 1, ["batch", 10]))


@pytest.mark.parametrize("name", ["model.onnx", "model_fp16.onnx", "model_quantized.onnx"])
@pytest.mark.parametrize("change", [relabelled, renamed, fixed, shared, unnamed, further])
def test_a_graph_that_breaks_its_contract_fails_the_proof(
    name: str, change: Callable[[onnx.ModelProto], None], digits: Path, tmp_path: Path, quick: None
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    proto = onnx.load(copy / "onnx" / name)
    change(proto)
    forge(copy, f"onnx/{name}", proto.SerializeToString())
    checks = verify_repository(copy).checks[f"onnx/{name}"]
    assert any(check.ok is False for check in checks)


@pytest.mark.parametrize("name", ["model.onnx", "model_fp16.onnx", "model_quantized.onnx"])
def test_a_graph_of_another_precision_fails_the_proof(name: str, digits: Path, tmp_path: Path, quick: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    other = "model_fp16.onnx" if name != "model_fp16.onnx" else "model.onnx"
    forge(copy, f"onnx/{name}", (digits / "onnx" / other).read_bytes())
    assert "precision" in failing(verify_repository(copy))


@pytest.mark.parametrize(
    "kind", ["library names", "prefixed", "pickled", "other eps", "no metadata", "labels", "preprocess"]
)
def test_weights_that_others_cannot_load_fail_the_proof(kind: str, digits: Path, tmp_path: Path, quick: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    weights = copy / "model.safetensors"
    with safe_open(weights, "numpy") as file:
        said = file.metadata()
    tensors = load_file(weights)
    if kind == "library names":
        convert(weights, copy / "b.safetensors")
        data = (copy / "b.safetensors").read_bytes()
        (copy / "b.safetensors").unlink()
    elif kind == "pickled":
        convert(weights, copy / "b.pth", to="timm")
        data = (copy / "b.pth").read_bytes()
        (copy / "b.pth").unlink()
    elif kind == "prefixed":
        data = serialized({f"module.{name}": array for name, array in tensors.items()}, said)
    elif kind == "other eps":
        config = json.loads(said["densenet.config"]) | {"eps": 1e-3}
        data = serialized(tensors, said | {"densenet.config": json.dumps(config)})
    elif kind in ("labels", "preprocess"):
        data = serialized(tensors, said | {f"densenet.{kind}": "[[1], {}]"})
    else:
        data = serialized(tensors, {})
    forge(copy, "model.safetensors", data)
    proof = verify_repository(copy)
    assert any(check.ok is False for check in proof.checks["model.safetensors"]), proof.checks


@pytest.mark.parametrize("option", [{"engines": ["nonsense"]}, {"images": "nowhere"}])
def test_wrong_usage_is_no_verdict(option: dict[str, Any], digits: Path) -> None:
    with pytest.raises(ConverterError):
        verify_repository(digits, **option)


def test_weights_nothing_proves_fail_where_they_are_listed(digits: Path, tmp_path: Path, quick: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    forge(copy, "onnx/model_q4.onnx", b"other weights")
    assert "onnx/model_q4.onnx" in failing(verify_repository(copy))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said is tested, not what is computed; PyTorch's part is in other tests."""
    monkeypatch.setattr("converter.hub.repository.has_torch", lambda: False)


def test_a_package_killed_while_it_moves_is_mended_by_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = save(TIMM, tmp_path / "a.safetensors"), tmp_path / "out"
    package(source, out, onnx=["fp32"])
    real, moved = shutil.move, list[Path]()

    def killed(file: Path, target: Path) -> None:
        moved.append(target)
        if len(moved) == 3:
            raise KeyboardInterrupt
        real(file, target)

    monkeypatch.setattr(home.shutil, "move", killed)
    with pytest.raises(KeyboardInterrupt):
        package(source, out, onnx=["fp32"], labels=LABELS)
    assert not verify_repository(out).passed
    monkeypatch.undo()
    package(source, out, onnx=[])
    assert verify_repository(out).passed
    assert not list(out.glob(".*"))


def test_the_card_is_for_people_to_edit(digits: Path, tmp_path: Path, quick: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    (copy / "README.md").write_text((copy / "README.md").read_text() + "A word of mine.")
    proof = verify_repository(copy)
    assert proof.passed
    assert [c.name for c in proof.checks["provenance.json"] if c.ok is None] == ["README.md"]
    (copy / "README.md").unlink()
    assert failing(verify_repository(copy)) == {"README.md": "missing"}


def test_files_nobody_vouches_for_are_named(digits: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    (copy / "notes.txt").write_text("mine")
    proof = verify_repository(copy)
    assert proof.passed
    assert [(c.name, c.detail) for c in proof.checks["provenance.json"] if c.ok is None] == [
        ("notes.txt", "not in provenance.json")
    ]
    values = read(copy / "provenance.json")
    del values["files"]["onnx/model_fp16.onnx"]
    (copy / "provenance.json").write_text(json.dumps(values))
    assert failing(verify_repository(copy)) == {"onnx/model_fp16.onnx": "not in provenance.json"}


def serialized(tensors: dict[str, Any], metadata: dict[str, str]) -> bytes:
    data: bytes = save_tensors(tensors, metadata)
    return data


def failing(proof: Verification) -> dict[str, str]:
    """What does not hold, and why."""
    return {check.name: check.detail for checks in proof.checks.values() for check in checks if check.ok is False}


def forge(folder: Path, name: str, data: bytes) -> None:
    """Another file, and its hash where provenance.json has the right one's."""
    (folder / name).write_bytes(data)
    values = read(folder / "provenance.json")
    values["files"][name] = {"sha256": sha256(folder / name), "size": len(data)}
    (folder / "provenance.json").write_text(json.dumps(values))


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a//b", "a\\b", "C:x", "", "a" * 300])
def test_provenance_cannot_name_files_outside(name: str) -> None:
    text = json.dumps({"kind": "densenet-converter provenance", "files": {name: {"sha256": "0", "size": 1}}})
    with pytest.raises(ValueError, match="no path in a repository"):
        parse_provenance(text.encode())


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
    run = [sys.executable, "-c", NO_TORCH, "package", str(CHECKPOINT), str(tmp_path / "out"), "--json"]
    done = subprocess.run(run, env=os.environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["proof"]["oracle"] == "the exact graph in ONNX Runtime, float32"
    parity = read(tmp_path / "out" / "parity.json")
    assert parity["passed"]
    assert "nothing was measured against float64" in (tmp_path / "out" / "README.md").read_text()
    assert "torch" not in read(tmp_path / "out" / "provenance.json")["libraries"]


def test_a_converted_file_packages_like_its_source(tmp_path: Path) -> None:
    convert(CHECKPOINT, tmp_path / "timm.safetensors", to="timm")
    done = package(tmp_path / "timm.safetensors", tmp_path / "out", onnx=["fp32"])
    assert done.layout == "timm"
