"""Folders as trainers, servers and hubs write them: which file of theirs is read, and that it is said."""

from __future__ import annotations

import json
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
        ("weights/model.pth", {"MLmodel": "flavors:\n  pytorch:\n    model_data: weights\n", "extra_dot_pt": ""}),
        ("saved_model.pt", {"model_dot_yaml": "name: net", "custom_objects_dot_pt": ""}),
        ("m2q2gvx/saved_model.pkl", {"latest": "m2q2gvx", "m2q2gvx__model_dot_yaml": "name: net", "old_dot_pt": ""}),
        ("params.pt", {"history_dot_json": "[]", "optimizer_dot_pt": "", "criterion_dot_pt": ""}),
        ("3/net.pt", {"config_dot_pbtxt": 'default_model_filename: "net.pt"', "3__model_dot_pt": ""}),
        (
            "end2end.pth",
            {"deploy_dot_json": '{"models": [{"net": "end2end.pth"}]}', "end2end_dot_bin": ""},
        ),
        ("epoch_2.pth", {"last_checkpoint": "/data/run/epoch_2.pth", "epoch_1_dot_pth": ""}),
        ("mlruns/0/af/artifacts/model/data/model.pth", {"mlruns__0__af__artifacts__model__MLmodel": "flavors: {}"}),
        ("checkpoint-500/model.pth", {"checkpoint-500__rng_state_dot_pth": "", "checkpoint-500__optimizer_dot_pt": ""}),
        ("model.mar", {"config_dot_properties": "inference_address=http://0.0.0.0"}),
        ("pytorch_model_fsdp.bin", {"optimizer_dot_bin": "", "scheduler_dot_bin": "", "random_states_0_dot_pkl": ""}),
        ("a.pth", {"_dot_git__lfs__b_dot_pth": "objects", "README_dot_md": ""}),
    ],
    ids=[
        *("mlflow", "deepspeed", "monai", "triton", "hub", "alone", "mlflow-data", "bentoml", "bentoml-store"),
        *(
            "skorch",
            "triton-file",
            "mmdeploy",
            "mmengine",
            "mlruns",
            "trainer-inside",
            "torchserve",
            "fsdp",
            "hub-clone",
        ),
    ],
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


@pytest.mark.parametrize(
    ("files", "beside"),
    [
        (("model.safetensors", "model_1.safetensors"), {}),
        (("a/model.pth", "b/model.pth"), {}),
        (("epoch_2.pth", "best_acc_epoch_1.pth"), {"last_checkpoint": "epoch_2.pth"}),
        (("models/model.pt", "other.pth"), {"models__config_dot_pbtxt": ""}),
    ],
    ids=["accelerate-two", "two-runs", "mmengine-best", "one-more"],
)
def test_folders_that_leave_it_open_name_the_members(
    files: tuple[str, ...], beside: dict[str, str], tmp_path: Path
) -> None:
    for file in files:
        weights(tmp_path / file)
    place(tmp_path, **beside)
    with pytest.raises(UnreadableFile, match="2 files of weights") as error:
        load(tmp_path)
    assert all(file in str(error.value) for file in files)


def test_a_model_in_parts_is_refused(tmp_path: Path) -> None:
    for rank in range(2):
        weights(tmp_path / f"step-3/mp_rank_0{rank}_model_states.pt")
    with pytest.raises(UnreadableFile, match="2 parts"):
        load(place(tmp_path, latest="step-3"))


@pytest.mark.parametrize(
    "beside",
    [
        {"MLmodel": "flavors:\n  pytorch:\n    data: ../secret\n"},
        {"deploy_dot_json": '{"models": [{"net": "../secret/model.pth"}]}'},
        {"config_dot_pbtxt": 'default_model_filename: "../../secret/model.pth"', "1__readme": ""},
        {"checkpoint": 'model_checkpoint_path: "/secret/model"'},
        {"deploy_dot_json": "[1"},
        {"deploy_dot_json": json.dumps({"models": [{"net": "é" * 200}]})},
        {"Manifest_dot_json": json.dumps({"rootModelIdentifier": 1, "itemInfoEntries": [{}, {"path": "a" * 5000}]})},
    ],
    ids=["mlflow", "mmdeploy", "triton", "tensorflow", "broken", "longer than a name", "longer than a path"],
)
def test_what_a_folder_says_leads_nowhere_else(beside: dict[str, str], tmp_path: Path) -> None:
    weights(tmp_path / "secret/model.pth")
    with pytest.raises(ConverterError, match="is a folder"):
        load(place(tmp_path / "run", **beside))


@pytest.mark.parametrize("tag", ["../secret", "..", "/secret"])
def test_a_folder_leads_nowhere_else(tag: str, tmp_path: Path) -> None:
    weights(tmp_path / "secret/mp_rank_00_model_states.pt")
    weights(tmp_path / "mp_rank_00_model_states.pt")
    folder = place(tmp_path / "run", latest=tag)
    with pytest.raises(ConverterError, match="folder"):
        load(folder)


def test_a_shard_alone_names_the_index(tmp_path: Path) -> None:
    """Sharded by huggingface_hub; a part can look whole (a trunk without its head), so no part is read alone."""
    from huggingface_hub import save_torch_state_dict

    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(t.read().copy()) for name, t in load(LEGACY).tensors.items()}
    save_torch_state_dict(state, tmp_path, max_shard_size="100KB")
    shards = sorted(tmp_path.glob("*-of-*.safetensors"))
    assert len(shards) > 1
    with pytest.raises(
        UnreadableFile, match=rf"shard 1 of {len(shards)}.*name the index, model.safetensors.index.json$"
    ):
        load(shards[0])
    assert set(load(tmp_path).tensors) == set(state)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(UnreadableFile, match="not beside it"):
        load(shards[1])
    with pytest.raises(UnreadableFile, match=rf"a folder with {len(shards)} shards .* without their index"):
        load(tmp_path)
