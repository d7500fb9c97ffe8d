"""Folders as trainers, servers and hubs write them: which file of theirs is read, and that it is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import LEGACY
from helpers.networks import SMALL, random_model, save

from converter import inspect, load
from converter.core.errors import ConverterError, UnreadableFile


def place(folder: Path, **files: str) -> Path:
    """A folder of text files, ``__`` for a slash and ``_dot_`` for a dot."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def weights(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(LEGACY, path)
    return path


@pytest.mark.parametrize(
    ("file", "beside"),
    [
        ("data/model.pth", {"MLmodel": "flavors: {}"}),
        ("step-3/mp_rank_00_model_states.pt", {"latest": "step-3\n"}),
        ("models/model.pt", {"configs__metadata_dot_json": "{}"}),
        ("12/model.pt", {"config_dot_pbtxt": "name: 'd'", "2__readme": ""}),
        ("pytorch_model.bin", {"training_args_dot_bin": "arguments"}),
        ("deep/inside/best.ckpt", {"log_dot_txt": "loss 0.1"}),
    ],
    ids=["mlflow", "deepspeed", "monai", "triton", "hub", "alone"],
)
def test_the_checkpoint_of_a_folder(file: str, beside: dict[str, str], tmp_path: Path) -> None:
    folder = place(tmp_path / "run", **beside)
    weights(folder / file)
    found = inspect(folder).model
    assert found.origin.name == f"run/{file}"
    want = load(LEGACY).tensors
    assert set(found.tensors) == set(want)
    assert all(np.array_equal(found.tensors[name].read(), want[name].read()) for name in want)


def test_the_newest_version_of_a_server_is_by_number(tmp_path: Path) -> None:
    place(tmp_path, config_dot_pbtxt="")
    weights(tmp_path / "9/model.pt")
    (tmp_path / "10").mkdir()
    save(random_model(SMALL), tmp_path / "10/model.safetensors")
    assert inspect(tmp_path).checkpoint.path == tmp_path / "10/model.safetensors"


@pytest.mark.parametrize("other", ["b.pth", "b.npz", "sub/b.onnx"])
def test_of_several_files_none_is_chosen(other: str, tmp_path: Path) -> None:
    """Not even by their kinds: nothing says that they hold the same weights."""
    weights(tmp_path / "a.pth")
    weights(tmp_path / other)
    with pytest.raises(UnreadableFile, match=rf"2 files of weights \(a\.pth, {other}\); name one"):
        load(tmp_path)


@pytest.mark.parametrize("tag", ["../secret", "..", "/secret"])
def test_a_folder_leads_nowhere_else(tag: str, tmp_path: Path) -> None:
    weights(tmp_path / "secret/mp_rank_00_model_states.pt")
    weights(tmp_path / "mp_rank_00_model_states.pt")
    folder = place(tmp_path / "run", latest=tag)
    with pytest.raises(ConverterError, match="folder"):
        load(folder)
