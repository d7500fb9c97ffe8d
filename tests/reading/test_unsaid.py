"""What no tensor shows is said, whatever holds the tensors and however their names are read."""

import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
from helpers.cases import CASES
from helpers.keras import H5, WEIGHTS
from helpers.surgery import computes_as, network
from helpers.torch_files import save

from converter import load

ALONE = ("the file holds tensors alone", "padding", "concatenation", "before the stem", "behind the classifier")


@pytest.mark.parametrize("rename", [lambda k: k, lambda k: k.replace(".", "/").replace("norm", "N")])
def test_what_no_tensor_shows_is_said_however_the_names_are_read(rename: Any, tmp_path: Path) -> None:
    model = network()
    state = {rename(key): value for key, value in model.state_dict().items() if "batches" not in key}
    (note,) = [n for n in computes_as(save(tmp_path / "a.pth", state), model).notes if n.startswith(ALONE[0])]
    assert all(part in note for part in ALONE)


def test_what_weights_alone_of_keras_do_not_show_is_said() -> None:
    assert any(note.startswith(ALONE[0]) for note in load(WEIGHTS).notes)
    assert not any(note.startswith(ALONE[0]) for note in load(H5).notes)


def test_a_fact_that_names_tell_is_not_the_whole_network(tmp_path: Path) -> None:
    path = Path(shutil.copy(WEIGHTS, tmp_path / "a.weights.h5"))
    with h5py.File(path, "r+") as file:
        del file["layers/global_average_pooling2d"]
        file.create_group("layers/global_max_pooling2d/vars").attrs["name"] = "max_pool"
    found = load(path)
    assert found.config.global_pool == "max"
    assert any(note.startswith(ALONE[0]) for note in found.notes)


def test_features_in_another_order_are_said(tmp_path: Path) -> None:
    """kuangliu's layers put new feature maps first, and without a classifier nothing takes them so."""
    torch = pytest.importorskip("torch")
    state = torch.load(CASES / "kuangliu" / "ckpt.pth", weights_only=True)["net"]
    backbone = {name: value for name, value in state.items() if "linear" not in name}
    said = load(save(tmp_path / "backbone.pth", {"net": backbone})).notes
    assert any("another order" in note for note in said)
    assert not any("another order" in note for note in load(CASES / "kuangliu" / "ckpt.pth").notes)
