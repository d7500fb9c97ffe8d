"""Packages of networks with several heads: whole, proved by head, read by everybody with the original's answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.command import ok
from helpers.packages import read, small_images
from helpers.tasks import Tasks
from PIL import Image

from converter import Images
from converter.core.hashing import sha256_of
from converter.publish.package import package
from converter.publish.repository import verify_repository
from converter.use.predict import predictor
from densenet import DenseNetConfig, inference_model

pytestmark = pytest.mark.torch
LABELS = {"age": ("child", "young", "middle", "old"), "sex": ("f", "m")}
Packaged = tuple[Path, Path, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    """A package of two tasks, an image, and what the original makes of it: probabilities by head."""
    folder = tmp_path_factory.mktemp("tasks")
    torch.manual_seed(0)
    net = Tasks(torch.nn.GELU).eval()
    torch.save(net, folder / "tasks.pth")
    images = [folder / f"{i}.png" for i in range(4)]
    for i, path in enumerate(images):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (90, 80, 3), np.uint8)).save(path)
    sex = Images(labels=LABELS["sex"], activation="sigmoid")
    said = Images(small_images(DenseNetConfig()), heads=(("age", Images(labels=LABELS["age"])), ("sex", sex)))
    truths = folder / "truths.csv"
    truths.write_text("path,age\n" + "".join(f"{path},young\n" for path in images))
    done = package(
        folder / "tasks.pth", folder / "out", images=said, evaluation=truths, repo="me/tasks", onnx=["fp32", "fp16"]
    )
    assert not done.why_not_transformers
    with torch.inference_mode():
        logits = net(torch.from_numpy(predictor(folder / "out").prepare(images[0])))
    expected = {"age": logits["age"].softmax(1)[0].numpy(), "sex": logits["sex"].sigmoid()[0].numpy()}
    return folder / "out", images[0], expected


def test_a_package_says_what_each_head_is(tasks: Packaged) -> None:
    folder, _, _ = tasks
    heads = read(folder / "config.json")["heads"]
    assert {name: tuple(said["label_names"]) for name, said in heads.items()} == LABELS
    assert heads["sex"]["problem_type"] == "multi_label_classification"
    assert [value.name for value in onnx.load(folder / "onnx" / "model.onnx").graph.output] == ["age", "sex"]
    card = (folder / "README.md").read_text()
    assert "| `age` | 4 | linear:9, gelu | softmax (assumed) |" in card
    assert "| `sex` | 2 | none | sigmoid |" in card
    assert "- Classes of `age`, in order: child, young, middle, old." in card
    assert 'model_kwargs={"head": "age"}' in card
    assert "truths.csv, head age (4 images)" in card
    assert "head sex (" not in card


def test_its_answers_are_the_original_s(tasks: Packaged) -> None:
    folder, image, expected = tasks
    for source in (folder, folder / "onnx" / "model.onnx"):
        found = inference_model(source, image)
        for head, scores in expected.items():
            np.testing.assert_allclose(found[head]["pred_scores"], scores, atol=1e-5)
            assert found[head]["pred_class"] == LABELS[head][scores.argmax()]
        alone = json.loads(ok("predict", source, image, "--head", "sex", "--json"))[0]
        assert abs(alone["pred_score"] - expected["sex"].max()) < 1e-5


def test_transformers_gives_the_original_s_answers(tasks: Packaged) -> None:
    transformers = pytest.importorskip("transformers")
    if int(transformers.__version__.partition(".")[0]) < 5:
        pytest.skip("transformers 4 wants image_processor, too")
    folder, image, expected = tasks
    one = {"trust_remote_code": True, "model_kwargs": {"head": "sex"}}
    classify = transformers.pipeline("image-classification", model=str(folder), **one)
    found = {each["label"]: each["score"] for each in classify(str(image), top_k=None)}
    np.testing.assert_allclose([found[name] for name in LABELS["sex"]], expected["sex"], atol=1e-5)
    whole = transformers.AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)
    x = torch.from_numpy(predictor(folder).prepare(image))
    given = whole(x, labels={"age": torch.tensor([1]), "sex": torch.tensor([[0, 1]])})
    np.testing.assert_allclose(given.logits["age"].softmax(1)[0].detach(), expected["age"], atol=1e-5)
    expected_loss = -np.log(expected["age"][1]) - np.log(1 - expected["sex"][0]) / 2 - np.log(expected["sex"][1]) / 2
    assert abs(float(given.loss.detach()) - expected_loss) < 1e-4
    with pytest.raises(KeyError, match="several heads"):  # which is what the pipeline without a head runs into
        given.logits[0]
    whole.save_pretrained(folder.parent / "saved")
    assert "2 classes" in ok("inspect", folder.parent / "saved", "--set", "heads.age.head=linear:9,gelu")
    with pytest.raises(ValueError, match="no head 'size'; there are age, sex"):
        transformers.AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True, head="size")


def exchanged(folder: Path) -> str:
    """Heads called by each other's names in the graph."""
    proto = onnx.load(folder / "onnx" / "model.onnx")
    first, second = proto.graph.output
    first.name, second.name = second.name, first.name
    onnx.save(proto, folder / "onnx" / "model.onnx")
    return "onnx/model.onnx"


def relabelled(folder: Path) -> str:
    values = read(folder / "config.json")
    values["heads"]["sex"]["id2label"] = {"0": "m", "1": "f"}
    (folder / "config.json").write_text(json.dumps(values))
    return "config.json"


@pytest.mark.parametrize("change", [None, exchanged, relabelled])
def test_a_package_is_proved_by_head(
    change: Callable[[Path], str] | None, tasks: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {name.rpartition(", ")[2] for name in read(tasks[0] / "parity.json")["results"]} == {"head age", "head sex"}
    monkeypatch.setattr("converter.publish.repository.has_torch", lambda: False)
    if change is None:
        proof = verify_repository(tasks[0])
        assert proof.passed
        assert {name.rpartition(", ")[2] for name in proof.results} == {"head age", "head sex"}
        return
    copy = tmp_path / "copy"
    shutil.copytree(tasks[0], copy)
    name = change(copy)
    values = read(copy / "provenance.json")
    values["files"][name] = {"sha256": sha256_of((copy / name,)), "size": (copy / name).stat().st_size}
    (copy / "provenance.json").write_text(json.dumps(values))
    proof = verify_repository(copy)
    assert not proof.passed
    assert [each for each in proof.checks[name] if each.ok is False]
