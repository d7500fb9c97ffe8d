"""What makes probabilities of the logits: where files say it, and where they only hint at it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from helpers.networks import SMALL, random_tensors
from PIL import Image

from converter import ConverterError, Images, convert, inspect, load
from converter.core.model import usual_activation
from converter.use.predict import predictor

torch = pytest.importorskip("torch")
nn = torch.nn
FINDINGS = ["Atelectasis", "Cardiomegaly", "Pleural Effusion", "Mass", "Other"]


def state() -> dict[str, Any]:
    return {name: torch.from_numpy(array.copy()) for name, array in random_tensors(SMALL).items()}


def saved(path: Path, tensors: dict[str, Any] | None = None, **beside: Any) -> Path:
    torch.save({"state_dict": tensors or state(), **beside}, path)
    return path


SAID: dict[str, tuple[dict[str, Any], str]] = {
    "a loss by name": ({"hyper_parameters": {"loss": "bce_with_logits"}}, "sigmoid"),
    "a loss": ({"criterion": nn.BCEWithLogitsLoss(pos_weight=torch.ones(5))}, "sigmoid"),
    "a loss in arguments": ({"args": Namespace(loss_fn=nn.CrossEntropyLoss())}, "softmax"),
    "a function": ({"args": Namespace(criterion=nn.functional.binary_cross_entropy_with_logits)}, "sigmoid"),
    "a task": ({"config": {"problem_type": "multi_label_classification"}}, "sigmoid"),
    "a kind of task": ({"args": Namespace(task_type="multi-label")}, "sigmoid"),
    "a regression": ({"hparams": {"loss_function": "smooth_l1"}}, "none"),
    "another end's loss": ({"distillation_loss": "mse"}, ""),
    "a number called loss": ({"loss": 0.3}, ""),
    "losses that differ": ({"loss_fn": "ce", "criterion": nn.BCELoss()}, ""),
}


@pytest.mark.parametrize(("beside", "expected"), SAID.values(), ids=SAID)
def test_a_loss_or_a_task_in_a_file_says_it(tmp_path: Path, beside: dict[str, Any], expected: str) -> None:
    model = load(saved(tmp_path / "m.pth", **beside))
    assert model.images.activation == expected
    noted = [note for note in model.notes if "--activation" in note]
    assert bool(noted) == (expected in ("sigmoid", "none") or len(beside) == 2), noted


@pytest.mark.parametrize("scores", [{"best_auroc": 0.81}, {"metrics": {"val_auc": [0.7, 0.8]}}])
def test_a_figure_of_labels_by_themselves_is_a_hint(tmp_path: Path, scores: dict[str, Any]) -> None:
    """A bare classifier.weight says nothing of a sigmoid in forward()."""
    model = load(saved(tmp_path / "m.pth", **scores))
    assert model.images.activation == ""
    assert any("softmax is taken to make probabilities; --activation sigmoid" in note for note in model.notes)
    assert not load(saved(tmp_path / "n.pth", best_accuracy=0.9, launch="x")).notes


def test_the_weights_of_a_loss_say_it(tmp_path: Path) -> None:
    tensors = {f"net.{name}": tensor for name, tensor in state().items()}
    source = saved(tmp_path / "m.pth", {**tensors, "criterion.pos_weight": torch.ones(5)})
    assert load(source).images.activation == "sigmoid"


def in_sequential(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("classifier.", "classifier.0."): tensor for name, tensor in tensors.items()}


def test_a_sequential_may_hide_a_sigmoid_and_that_is_said_until_somebody_says_otherwise(tmp_path: Path) -> None:
    source = saved(tmp_path / "m.pth", in_sequential(state()))
    model = load(source)
    assert model.images.activation == ""
    assert [note for note in model.notes if note.startswith("classifier is a Sequential")]
    assert not [note for note in model.described(Images(activation="sigmoid")).notes if "--activation" in note]
    assert [note for note in predictor(source).notes if "--activation sigmoid changes it" in note]
    done = convert(source, tmp_path / "m.safetensors", activation="sigmoid")
    assert not [note for note in done.notes if "--activation" in note]
    assert load(tmp_path / "m.safetensors").images.activation == "sigmoid"


def test_a_state_dict_that_lists_its_modules_says_whether_anything_is_behind(tmp_path: Path) -> None:
    class Net(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, *behind: nn.Module) -> None:  # type: ignore[name-defined]
            super().__init__()
            self.classifier = nn.Sequential(nn.Linear(SMALL.classifier_features, 5), *behind)

    for behind in ((), (nn.Sigmoid(),)):
        tensors = torch.nn.modules.module.OrderedDict(in_sequential(state()))
        tensors._metadata = Net(*behind).state_dict()._metadata
        notes = [note for note in load(saved(tmp_path / "m.pth", tensors)).notes if "--activation" in note]
        assert len(notes) == len(behind)
        assert all("classifier.1 behind the classifier has no tensors" in note for note in notes)


def test_findings_are_no_classes_of_which_one_is_true(tmp_path: Path) -> None:
    notes = load(saved(tmp_path / "m.pth", class_names=FINDINGS)).notes
    assert [note for note in notes if "Atelectasis, Cardiomegaly" in note and "--activation sigmoid" in note]


def test_one_output_is_a_logit_and_its_name_is_what_one_means(tmp_path: Path) -> None:
    assert (usual_activation(1), usual_activation(2)) == ("sigmoid", "softmax")
    one = {name: tensor[:1] if name.startswith("classifier") else tensor for name, tensor in state().items()}
    source = saved(tmp_path / "m.pth", one, class_to_idx={"benign": 0, "malignant": 1})
    loaded = predictor(source)
    found = loaded.results([Image.new("RGB", (64, 64), "red")])[0]
    logit = float(loaded.logits([Image.new("RGB", (64, 64), "red")])[0, 0])
    assert found["pred_score"] == pytest.approx(1 / (1 + torch.tensor(-logit).exp().item()), abs=1e-6)
    assert found["pred_class"] == "malignant"
    assert [note for note in loaded.notes if "--activation none" in note]
    assert [note for note in loaded.notes if "the probability of malignant" in note]
    as_is = predictor(source, images=Images(activation="none")).results([Image.new("RGB", (64, 64), "red")])[0]
    assert as_is["pred_score"] == pytest.approx(logit, rel=1e-6)
    with pytest.raises(ConverterError, match="softmax of a single output is always 1"):
        predictor(source, images=Images(activation="softmax"))


def test_what_is_no_activation_is_refused() -> None:
    with pytest.raises(ConverterError, match="there are softmax, sigmoid, none"):
        Images(activation="sigmod")


@pytest.mark.parametrize("name", ["o.pth", "o.safetensors"])
def test_operating_thresholds_are_kept_and_shown(tmp_path: Path, name: str) -> None:
    convert(saved(tmp_path / "library.pth"), tmp_path / "m.pth", to="torchvision")  # as torchxrayvision names tensors
    values = torch.tensor([0.1, 0.2, float("nan"), 0.3, 0.4])
    torch.save({**torch.load(tmp_path / "m.pth"), "op_threshs": values}, tmp_path / "m.pth")
    found = load(tmp_path / "m.pth")
    assert found.images.activation == "sigmoid"
    assert found.images.thresholds == (0.1, 0.2, None, 0.3, 0.4)
    assert [note for note in found.notes if "op_norm" in note]
    convert(tmp_path / "m.pth", tmp_path / name)
    assert load(tmp_path / name).images.thresholds == found.images.thresholds
    Image.new("RGB", (64, 64)).save(tmp_path / "i.png")
    model = predictor(tmp_path / name)
    ranks = model.ranking(model.logits([tmp_path / "i.png"])[0], 5)["top"]
    assert {rank["label"]: rank["threshold"] for rank in ranks} == dict(enumerate(found.images.thresholds))


def test_what_else_is_in_a_file(tmp_path: Path) -> None:
    beside = {
        "epoch": 12,
        "best_acc": torch.tensor(91.25),
        "optimizer": {"state": {}, "param_groups": [{"lr": 3e-4, "params": [0]}]},
        "args": Namespace(lr=0.1),
        "history": [0.1, 0.2],
    }
    told = inspect(saved(tmp_path / "m.pth", **beside)).to_dict()["contents"]
    assert told == {
        "epoch": 12,
        "best_acc": 91.25,
        "optimizer": "state, learning rate 0.0003",
        "args.lr": 0.1,
        "history": "2 values",
    }


def test_counters_of_norms_are_not_what_else_is_in_a_file(tmp_path: Path) -> None:
    counted = state() | {"features.norm0.num_batches_tracked": torch.tensor(7)}
    torch.save(counted, tmp_path / "bare.pth")
    assert inspect(tmp_path / "bare.pth").to_dict()["contents"] == {}
