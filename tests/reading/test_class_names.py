"""Class names that training code left in a checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import run
from helpers.networks import SMALL, random_tensors

from converter import Images, convert, load

NAMES = ("ash", "beech", "cedar", "date", "elm")
BY_NAME = {"elm": 4, "ash": 0, "date": 3, "beech": 1, "cedar": 2}

SAID: dict[str, Any] = {
    "torchvision's ImageFolder": {"class_to_idx": BY_NAME},
    "turned round": {"idx_to_class": dict(enumerate(NAMES))},
    "transformers'": {"config": {"id2label": {str(i): name for i, name in enumerate(NAMES)}}},
    "a list": {"hyper_parameters": {"class_names": list(NAMES)}},
    "numpy's texts": {"classes": np.array(NAMES)},
    "numpy's objects and numbers": {
        "vocab": np.array(NAMES, dtype=object),
        "class_to_idx": {name: np.int64(i) for name, i in BY_NAME.items()},
    },
    "mmpretrain's": {"meta": {"dataset_meta": {"classes": NAMES}}},
    "two that agree": {"classes": list(NAMES), "class_to_idx": BY_NAME},
}
UNSAID: dict[str, Any] = {
    "of another network": {"class_names": list(NAMES[:4])},
    "two that differ": {"classes": list(NAMES), "label_names": list(NAMES[::-1])},
    "numbers that are missing": {"class_to_idx": {**BY_NAME, "elm": 7}},
    "no names": {"class_weights": [1, 2, 3, 4, 5], "class_to_idx": dict.fromkeys("abcde", 0)},
    "called otherwise": {"optimizer": {"groups": list(NAMES)}},
    "in no order": {"classes": set(NAMES)},
    "names of something else": {"metric_names": list(NAMES), "param_names": list(NAMES)},
    "inside something called so": {"classifier": {"callbacks": list(NAMES)}},
}


def checkpoint(path: Path, said: dict[str, Any]) -> Path:
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(np.array(array)) for name, array in random_tensors(SMALL).items()}
    torch.save({"state_dict": state, **said}, path)
    return path


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_names_are_found_and_kept(tmp_path: Path, said: dict[str, Any]) -> None:
    source = checkpoint(tmp_path / "m.pth", said)
    assert load(source).images.labels == NAMES
    convert(source, tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").images.labels == NAMES


@pytest.mark.parametrize("said", UNSAID.values(), ids=UNSAID)
def test_what_is_no_list_of_the_classes_is_not_taken_for_one(tmp_path: Path, said: dict[str, Any]) -> None:
    assert load(checkpoint(tmp_path / "m.pth", said)).images.labels == ()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (UNSAID["of another network"], "class_names has 4 names, the network 5 outputs"),
        (UNSAID["two that differ"], "classes and label_names name the classes differently"),
    ],
)
def test_names_that_cannot_be_taken_are_spoken_of_until_others_are_given(
    tmp_path: Path, said: dict[str, Any], why: str
) -> None:
    model = load(checkpoint(tmp_path / "m.pth", said))
    assert [note for note in model.notes if why in note and "--labels" in note]
    assert not [note for note in model.described(Images(labels=NAMES)).notes if "--labels" in note]


def test_outputs_that_torchxrayvision_did_not_train_have_a_name_of_their_own(tmp_path: Path) -> None:
    names = load(checkpoint(tmp_path / "m.pth", {"pathologies": ["", "Pneumonia", "", "Lung Opacity", ""]})).images
    assert names.labels == ("LABEL_0", "Pneumonia", "LABEL_2", "Lung Opacity", "LABEL_4")


def test_inspect_shows_them(tmp_path: Path) -> None:
    done = run("inspect", checkpoint(tmp_path / "m.pth", SAID["a list"]))
    assert done.returncode == 0, done.stderr
    assert "ash, beech, cedar" in done.stdout
