"""The model card says only what is known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.networks import SMALL, TIMM, random_model, save
from helpers.packages import read, save_described, small_images
from helpers.presets import PRESETS

from converter import load
from converter.core.errors import ConverterError
from converter.core.model import Origin
from converter.demo.demo import IMAGES
from converter.publish import package as home
from converter.publish.package import package
from converter.publish.publisher import zoo_entry
from converter.use.evaluation.dataset import Dataset
from converter.use.predict import predictor
from densenet.labels import imagenet_classes
from densenet.zoo import zoo_model


def test_a_card_of_unknown_weights_claims_nothing(tmp_path: Path) -> None:
    package(save(TIMM, tmp_path / "a.safetensors"), tmp_path / "out", onnx=["fp32"])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "model-index" not in card
    assert "license:" not in card
    assert "datasets:" not in card
    assert "Not known. Nobody has published one" in card
    assert "the usual preprocessing of such networks is assumed" in card
    assert "## Outputs" not in card
    assert "problem_type" not in read(tmp_path / "out" / "config.json")


def test_a_card_states_the_window_of_deep_images(tmp_path: Path) -> None:
    steps = replace(small_images(TIMM), window=(-1000, 400))
    package(save(TIMM, tmp_path / "a.safetensors"), tmp_path / "out", onnx=[], preprocess=steps)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "In images of more than 8 bits -1000 is black and 400 white." in card


def test_a_card_states_what_volumes_go_through(tmp_path: Path) -> None:
    source = save(replace(SMALL, spatial_dims=3, in_channels=1), tmp_path / "a.safetensors")
    steps = {"resize": None, "crop": [32, 32, 32], "channels": 1, "mean": [0.5], "std": [0.5], "window": [-1000, 400]}
    package(source, tmp_path / "out", onnx=[], preprocess=steps)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "-1000 becomes 0 and 400 1" in card
    assert "The centre of 32 × 32 × 32 is taken" in card
    assert not (tmp_path / "out" / "preprocessor_config.json").exists()


def test_a_card_states_the_recorded_run(digits: Path) -> None:
    from huggingface_hub import ModelCard

    data = ModelCard.load(digits / "README.md").data
    assert data.license == "apache-2.0"
    assert [result.metric_value for result in data.eval_results] == [100.0, 100.0]
    assert "100 images" in data.eval_results[0].dataset_name
    assert (data.library_name, data.pipeline_tag) == ("timm", "image-classification")
    card = (digits / "README.md").read_text()
    assert "Classes, in order: digit 0, digit 1, digit 2, " in card
    assert "| cost of one image | 2.92 MFLOPs at 32 × 32 px (2.81 M multiply-adds) |" in card
    assert "The 8-bit file was calibrated with 50 images of its publisher's (images), beside synthetic ones" in card
    assert f"| `{read(digits / 'provenance.json')['fingerprint']}`, in whatever format" in card


def test_published_figures_name_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(TIMM, num_classes=1000)
    entry = replace(zoo_model("torchvision/densenet121"), config=config, preprocess=small_images(config))
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
    source = save_described(replace(TIMM, num_classes=1000), tmp_path / "a.safetensors")
    package(source, tmp_path / "out", onnx=["fp32"])
    assert read(tmp_path / "out" / "config.json")["label_names"][7] == "LABEL_7"
    assert "1000 classes whose names the source does not give" in (tmp_path / "out" / "README.md").read_text()
    image = next(iter(IMAGES.glob("*/*.png")))
    for file in ("model.safetensors", "onnx/model.onnx"):
        found = predictor(tmp_path / "out" / file).results([image])[0]
        assert found["pred_class"] == f"LABEL_{found['pred_label']}"
    package(source, tmp_path / "known", onnx=[], labels=imagenet_classes())
    card = (tmp_path / "known" / "README.md").read_text()
    assert "whose names" not in card
    assert "<details><summary>The 1000 classes, in order</summary>\n\ntench, goldfish, " in card


def test_only_the_published_bytes_get_the_published_figures(tmp_path: Path) -> None:
    impostor = save_described(TIMM, tmp_path / "densenet121.tv_in1k")
    assert zoo_entry(impostor, load(impostor)) is None
    assert zoo_entry("densenet121-a639ec97.pth", load(impostor)) is None
    real = replace(load(impostor), origin=Origin("x.pth", "a639ec97" + "0" * 56, "torch legacy", "torchvision-legacy"))
    assert zoo_entry("x.pth", real) == zoo_model("torchvision/densenet121")


def test_a_files_name_cannot_write_into_the_card(tmp_path: Path) -> None:
    package(save_described(TIMM, tmp_path / "a`](x)|\n<b>.safetensors"), tmp_path / "out", onnx=["fp32"])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "converted from `a(x) b.safetensors`" in card
    assert "<b>" not in card


def test_what_was_measured_of_labels_names_its_images(tmp_path: Path) -> None:
    """A network whose labels do not exclude each other has no top-1."""
    from huggingface_hub import ModelCard

    pytest.importorskip("sklearn")
    model = random_model(TIMM, preprocess=small_images(TIMM), labels=tuple("abcde"), scaled=True)
    source = save(replace(model, images=replace(model.images, activation="sigmoid")), tmp_path / "a.safetensors")
    rows = [f"{path},{i % 2},{(i // 2) % 2}" for i, path in enumerate(sorted(IMAGES.glob("[23]/*.png")))]
    (tmp_path / "truths.csv").write_text("\n".join(["image,b,a", *rows, "gone.png,0,1"]))
    dataset = Dataset(tmp_path / "truths.csv", name="owner/x-rays")
    done = package(source, tmp_path / "out", onnx=[], evaluation=dataset)
    (result,) = done.results
    assert [figure.column for figure in result.figures] == ["AUROC", "AP", "F1"]
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert [r.metric_type for r in card.data.eval_results] == ["roc_auc", "average_precision", "f1"]
    assert {(r.dataset_type, r.dataset_name) for r in card.data.eval_results} == {
        ("owner/x-rays", "owner/x-rays (20 images, 1 more could not be read)")
    }
    accuracy = card.text.partition("## Accuracy")[2].partition("## Files")[0]
    assert "| data | AUROC | AP | F1 | who measured it |" in accuracy
    assert "AUROC of each label: b 0." in accuracy
    assert "not evaluated: c, d, e" in accuracy
    assert "top-1" not in accuracy


def test_truths_that_do_not_fit_are_refused_before_the_work(tmp_path: Path) -> None:
    source = save_described(TIMM, tmp_path / "a.safetensors")
    said: list[str] = []
    with pytest.raises(ConverterError, match="class 9 for a model of 5 classes"):
        package(source, tmp_path / "out", evaluation=IMAGES, progress=said.append)
    assert len(said) == 1  # it was read
    assert not (tmp_path / "out").exists()


def test_an_evaluation_folders_name_cannot_write_into_the_card(tmp_path: Path) -> None:
    folder = tmp_path / "ev | <img src=x onerror=alert(1)> `"
    for name in "abcde":
        shutil.copytree(IMAGES / "3", folder / name)
    package(save_described(TIMM, tmp_path / "a.safetensors"), tmp_path / "out", onnx=[], evaluation=folder)
    text = (tmp_path / "out" / "README.md").read_text().partition("# DenseNet")[2]
    assert "ev \\| \\<img src=x onerror=alert(1)> \\`" in text
    assert "top-5" not in text.partition("## Accuracy")[2].partition("## Files")[0]  # of five classes it says nothing
