"""How right networks are about images: folders, lists, tables; from the network to the report."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import ok, refused, run
from helpers.networks import SMALL, TIMM, random_model, save
from helpers.packages import small_images
from PIL import Image

from converter.core.errors import ConverterError, Unavailable
from converter.core.model import Images
from converter.demo.demo import CHECKPOINT, IMAGES, record
from converter.use.evaluate import evaluate
from converter.use.evaluation.choice import Choice
from converter.use.evaluation.dataset import Dataset
from converter.use.evaluation.findings import Findings
from converter.use.predict import predictor

COUNT = 12


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_evaluation_counts_as_the_training_recorded(engine: str, digits: Path) -> None:
    if engine == "torch":
        pytest.importorskip("torch")
    found = evaluate(digits / "m.safetensors", IMAGES, engine=engine)
    result = found.to_dict()
    assert result["images"] == 100
    assert result["top1"] == 100 * record()["accuracy"]["shipped_images"]["accuracy"]
    assert result["top5"] == 100
    assert found.how == "classes matched by name"
    logits = predictor(digits / "m.safetensors", engine=engine).logits(sorted(IMAGES.glob("*/*.png")))
    sure = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # All are right and lie in the last two bins, above which nothing is: the error is what is missing to 1.
    assert found.found.calibration_error == pytest.approx(1 - sure.max(axis=1).mean(), abs=1e-5)


def test_folders_that_do_not_fit(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match="no such folder"):
        evaluate(digits / "m.onnx", tmp_path / "nowhere")
    with pytest.raises(ConverterError, match="one subfolder"):
        evaluate(digits / "m.onnx", tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "a.png")
    with pytest.raises(ConverterError, match="2 subfolders for a model of 10 classes"):
        evaluate(digits / "m.onnx", tmp_path)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that have nothing to do with anything."""
    folder, random = tmp_path_factory.mktemp("noise"), np.random.default_rng(3)
    for i in range(COUNT):
        pixels = random.integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).resize((70, 70)).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network of five labels, of which it does not say that they do not exclude each other."""
    model = random_model(
        TIMM, preprocess=small_images(TIMM), labels=("edema", "mass", "nodule", "hernia", "fibrosis"), scaled=True
    )
    return save(model, tmp_path_factory.mktemp("findings") / "m.safetensors")


@pytest.fixture(scope="module")
def table(noise: Path, findings: Path) -> Path:
    """Truths, some unknown, in a table beside the images."""
    random = np.random.default_rng(5)
    with (noise / "truths.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "age", "mass", "edema", "nodule"])
        for i in range(COUNT):
            truths = [["0", "1", "1.0", "", "-1"][n] for n in random.integers(0, 5, 3)]
            writer.writerow([f"{i:02}.png", 40 + i, *(["1", "0"][i] if i < 2 else t for t in truths)])
    return noise / "truths.csv"


def test_labels_are_what_scikit_learn_makes_of_the_networks_own_logits(
    findings: Path, table: Path, tmp_path: Path
) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    report = tmp_path / "r.json"
    done = run("evaluate", findings, table, "--activation", "sigmoid", "-o", report, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert json.loads(report.read_text()) == result
    rows = list(csv.DictReader(table.open()))
    logits = predictor(findings).logits([table.parent / row["image"] for row in rows])
    assert [label["name"] for label in result["labels"]] == ["mass", "edema", "nodule"]
    for label, output in zip(result["labels"], (1, 0, 2)):
        known = [i for i, row in enumerate(rows) if row[label["name"]] not in ("", "-1")]
        truth = np.array([float(rows[i][label["name"]]) for i in known])
        likely = 1 / (1 + np.exp(-logits[known, output].astype(np.float64)))
        assert (label["images"], label["positive"]) == (len(known), truth.sum())
        assert label["auroc"] == pytest.approx(metrics.roc_auc_score(truth, likely))
        assert label["ap"] == pytest.approx(metrics.average_precision_score(truth, likely))
        assert label["f1"] == pytest.approx(metrics.f1_score(truth, likely >= 0.5))
    notes = " ".join(result["notes"])
    assert "columns that are no output: age" in notes
    assert "outputs without a column, not evaluated: hernia, fibrosis" in notes


def test_recorded_thresholds_decide(findings: Path, table: Path) -> None:
    pytest.importorskip("sklearn")
    said = Images(activation="sigmoid", thresholds=(0.0, 1.0, None, 0.5, 0.5))
    found = evaluate(findings, table, images=said).found
    assert isinstance(found, Findings)
    mass, edema, nodule = found.labels  # the second, first and third output
    assert [label.threshold for label in found.labels] == [1.0, 0.0, 0.5]
    assert (mass.sensitivity, mass.specificity) == (0, 1)
    assert (edema.sensitivity, edema.specificity) == (1, 0)
    assert found.micro.threshold is None
    assert found.micro.hits == sum(label.hits or 0 for label in (mass, edema, nodule))


def test_labels_of_a_network_whose_classes_exclude_each_other_are_refused(findings: Path, table: Path) -> None:
    line = refused(2, "evaluate", findings, table)
    assert "the network's classes exclude each other (softmax)" in line
    assert "--activation sigmoid" in line


def test_without_scikit_learn_labels_are_refused_before_the_work_and_classes_are_not(
    findings: Path, table: Path, noise: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("converter.use.evaluation.findings.find_spec", lambda _: None)
    with pytest.raises(Unavailable, match=r"pip install 'densenet-converter\[metrics\]'"):
        evaluate(findings, table, images=Images(activation="sigmoid"))
    (tmp_path / "list.txt").write_text("00.png edema\n01.png mass\n")
    assert evaluate(findings, Dataset(tmp_path / "list.txt", noise)).images == 2


def test_a_single_output_is_asked_by_its_sigmoid(noise: Path, tmp_path: Path) -> None:
    """Two folders; the second in order is what the output is the logit of."""
    metrics = pytest.importorskip("sklearn.metrics")
    config = replace(TIMM, num_classes=1)
    source = save(random_model(config, preprocess=small_images(config), scaled=True), tmp_path / "m.safetensors")
    images = sorted(noise.glob("*.png"))
    logits = predictor(source).logits(images)[:, 0]
    shift = float(np.median(logits))
    truth = [int(i % 3 == 0) for i in range(COUNT)]
    for image, sick in zip(images, truth):
        target = tmp_path / "data" / ("sick" if sick else "healthy") / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, target)
    found = evaluate(source, tmp_path / "data")
    assert isinstance(found.found, Findings)
    (label,) = found.found.labels
    assert (label.name, found.activation) == ("sick", "sigmoid")
    assert label.auroc == pytest.approx(metrics.roc_auc_score(truth, logits - shift))
    assert label.accuracy == pytest.approx(metrics.accuracy_score(truth, logits >= 0))
    assert any("taken for sick, the second in order" in note for note in found.notes)
    assert "accuracy" in found.line()


def test_what_cannot_be_read_is_listed_and_the_rest_is_done(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(IMAGES, tmp_path / "data")
    (tmp_path / "data/3/bad.png").write_bytes(b"no image")
    cut = next((tmp_path / "data/4").iterdir())
    cut.write_bytes(cut.read_bytes()[:60])
    done = run("evaluate", digits / "m.onnx", tmp_path / "data", "--json")
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert (result["images"], result["top1_correct"]) == (99, 99)
    assert {Path(bad["image"]).name for bad in result["failed"]} == {"bad.png", cut.name}
    assert done.stderr.count("failed: ") == 2
    (tmp_path / "all").mkdir()
    for i in range(10):
        (tmp_path / "all" / str(i)).mkdir()
        (tmp_path / "all" / str(i) / "a.png").write_bytes(b"no image")
    assert "none of 10 images could be evaluated" in refused(2, "evaluate", digits / "m.onnx", tmp_path / "all")


def test_orientation_is_ignored_as_by_torchvisions_evaluation(digits: Path, tmp_path: Path) -> None:
    """What predict turns, evaluation does not: the published accuracies hold for images as they are stored."""
    for path in sorted(IMAGES.glob("*/*0.png")):
        target = tmp_path / path.parent.name / f"{path.stem}.png"
        target.parent.mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(path).save(target, exif=exif)
    for digit in range(10):
        (tmp_path / str(digit)).mkdir(exist_ok=True)
    found = evaluate(digits / "m.onnx", tmp_path).found
    assert isinstance(found, Choice)
    assert found.top1 == found.images > 3


WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def test_accuracy_at_chance_hints_at_the_order(digits: Path, tmp_path: Path) -> None:
    """Folders called as no label is are taken in order, and that is the alphabet's."""
    for i, word in enumerate(WORDS):
        shutil.copytree(IMAGES / str(i), tmp_path / word)
    found = evaluate(digits / "m.onnx", tmp_path)
    assert isinstance(found.found, Choice)
    assert found.found.top1 == 10  # six is the seventh in both orders
    order, hint = found.notes
    assert "matched in order of their names: eight is 0; five is 1" in order
    assert "top-1 is at chance (1 in 10)" in hint
    assert "eight as 8" in hint
    assert hint.endswith("it would be 100%")
    assert not evaluate(digits / "m.onnx", IMAGES).notes


def test_one_answer_to_everything_hints_at_how_images_are_prepared() -> None:
    """The shipped checkpoint does not say it; what is assumed is wrong."""
    notes = evaluate(CHECKPOINT, IMAGES).notes
    assert "how images are prepared is not recorded" in notes[0]
    assert "99% of the answers are 1: images are likely prepared in another way" in notes[1]


def test_two_exchanged_classes_are_noticed(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    swapped = {3: 5, 5: 8, 8: 3}
    lines = [
        f"{p.parent.name}/{p.name} {swapped.get(int(p.parent.name), int(p.parent.name))}" for p in IMAGES.glob("*/*")
    ]
    path.write_text("\n".join(lines))
    found = evaluate(digits / "m.onnx", Dataset(path, IMAGES, name="digits, mixed up"))
    assert found.dataset == "digits, mixed up"
    assert any("the order of classes looks wrong: with 3 as 8; 5 as 3; 8 as 5" in note for note in found.notes)
    assert len(found.mistakes) == 20
    assert all(m.truth != m.answer for m in found.mistakes)
    assert [m.score for m in found.mistakes] == sorted((m.score for m in found.mistakes), reverse=True)


# -- reports --------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_reports_of_classes(digits: Path, tmp_path: Path) -> None:
    names = [tmp_path / f"r{ending}" for ending in (".json", ".csv", ".html")]
    text = ok(
        "evaluate", digits / "m.onnx", IMAGES, "--dataset", "<b>digits</b>", *(w for n in names for w in ("-o", n))
    )
    assert "100 images: top-1 100.00% (95 %: 96.30% to 100.00%)" in text
    assert json.loads(names[0].read_text())["dataset"] == "<b>digits</b>"
    rows = list(csv.DictReader(names[1].open()))
    assert len(rows) == 11
    assert rows[3] == {
        "class": "3", "name": "3", "images": "10", "answered": "10", "correct": "10",
        "recall": "1.0", "precision": "1.0", "f1": "1.0",
    }  # fmt: skip
    page = Page(names[2].read_text())
    titles = [attrs.get("id", "") for tag, attrs in page.tags if tag == "figcaption"]
    assert len(titles) == 4
    assert "m.onnx on <b>digits</b>" in page.text
    assert not any(tag in ("script", "b", "img") or "src" in attrs for tag, attrs in page.tags)
    assert "15 bins of equal width" in page.text


def test_reports_of_labels(findings: Path, table: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    names = [tmp_path / f"r{ending}" for ending in (".csv", ".html")]
    text = ok(
        "evaluate", findings, table, "--activation", "sigmoid", *(word for name in names for word in ("--report", name))
    )
    assert "mean (macro)" in text
    rows = list(csv.DictReader(names[0].open()))
    assert [row["label"] for row in rows] == ["mass", "edema", "nodule", "micro", "macro"]
    assert float(rows[4]["auroc"]) == pytest.approx(np.mean([float(row["auroc"]) for row in rows[:3]]))
    page = Page(names[1].read_text())
    assert sum(tag == "svg" for tag, _ in page.tags) == 5  # a curve for each label, reliability, probabilities
    assert "false positive rate" in page.text


def test_reports_of_other_kinds_are_refused_before_the_work(digits: Path, tmp_path: Path) -> None:
    line = refused(2, "evaluate", digits / "m.onnx", IMAGES, "-o", tmp_path / "r.pdf")
    assert "end the name in .json, .csv, .html" in line


def test_networks_of_volumes_from_folders_and_lists(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    model = random_model(
        replace(SMALL, spatial_dims=3, in_channels=1, num_classes=2), labels=("well", "ill"), scaled=True
    )
    source = save(model, tmp_path / "m.safetensors")
    random, scans = np.random.default_rng(0), tmp_path / "scans"
    names = ("ill/1", "ill/2", "well/3", "well/4")
    volumes = {name: random.normal(size=(33, 32, 30 + i)).astype("f4") for i, name in enumerate(names)}
    for name, volume in volumes.items():
        (scans / name).parent.mkdir(parents=True, exist_ok=True)
        if name[-1] in "13":
            np.save(scans / f"{name}.npy", volume)
        else:
            nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.7, 0.7, 5, 1])), scans / f"{name}.nii.gz")
    (scans / "ill" / "notes.txt").write_text("no volume")
    bests = [predictor(source).logits([volume])[0].argmax() for volume in volumes.values()]
    right = sum(best == truth for best, truth in zip(bests, (1, 1, 0, 0)))
    done = run("evaluate", source, scans, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["images"], found["top1_correct"], found["matched"]) == (4, right, "classes matched by name")
    assert sum("resampled to the spacing" in note for note in found["notes"]) == 1
    assert any("1 .txt" in note for note in found["notes"])
    (tmp_path / "list.txt").write_text("ill/1.npy ill\nill/2.nii.gz ill\nwell/3.npy well\nwell/4.nii.gz well\n")
    (tmp_path / "table.csv").write_text("id,label\n1,ill\n2,ill\n3,well\n4,well\n")
    for truths in ("list.txt", "table.csv"):
        again = ok("evaluate", source, tmp_path / truths, "--images", scans, "--json")
        assert json.loads(again)["confusion"] == found["confusion"]
    table = ok("predict", source, scans, "-o", tmp_path / "t.csv")
    assert "4 of 4 images" in table


def test_a_series_of_slices_is_refused_with_what_to_do(tmp_path: Path) -> None:
    source = save(replace(SMALL, spatial_dims=3, in_channels=1), tmp_path / "m.safetensors")
    (tmp_path / "series").mkdir()
    for i in range(3):
        (tmp_path / "series" / f"IM{i:04}").write_bytes(bytes(128) + b"DICM")
    line = refused(2, "predict", source, tmp_path / "series")
    assert "DICOM files, and the network takes volumes: make one NIfTI file of each series first" in line
    (tmp_path / "series" / "a.png").write_bytes(b"")
    np.save(tmp_path / "series" / "b.npy", np.zeros((32, 32, 32), np.float32))
    assert len(json.loads(ok("predict", source, tmp_path / "series", "--json"))) == 1
