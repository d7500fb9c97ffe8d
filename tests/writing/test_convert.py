"""convert on real files: what it writes, what it refuses, and that it is all or nothing."""

import json
import os
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from helpers.cases import CASES, LEGACY, file_of, logits_of
from helpers.networks import SMALL, random_model
from helpers.networks import save as save_network
from helpers.torch_files import save

from converter import Images, convert, export_onnx, load
from converter.core.errors import CannotExpress, CannotWrite, ConverterError, NotADenseNet
from densenet import DenseNetConfig
from densenet.preprocess import FAMILIES, Preprocess

REAL = sorted(path.parent for path in CASES.glob("*/logits.npy"))


@pytest.mark.parametrize("folder", REAL, ids=lambda folder: folder.name)
def test_real_checkpoints_compute_what_their_framework_computed(folder: Path, tmp_path: Path) -> None:
    case = json.loads((folder / "case.json").read_text())
    if case["file"].endswith((".h5", ".keras")):
        pytest.importorskip("h5py")
    convert(folder / case["file"], tmp_path / "a.safetensors")
    expected = np.load(folder / "logits.npy")
    got = logits_of(tmp_path / "a.safetensors", np.load(folder / "input.npy").astype(np.float32))
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= case.get("rtol", 1e-4) * np.abs(expected).max()


def test_a_backbone_exports_pooled_features(state: Any, tmp_path: Path) -> None:
    backbone = {key: value for key, value in state.items() if "classifier" not in key}
    done = export_onnx(save(tmp_path / "a.pth", backbone), tmp_path / "a.onnx")
    assert done.outputs == ("features",)
    assert done.model.config.num_classes == 0


def broken(state: Any, kind: str) -> Any:
    import torch

    state = OrderedDict(state)
    key = "features.denseblock1.denselayer2.norm1.running_mean"
    if kind == "missing":
        del state[key]
    elif kind == "renamed":
        state["features.denseblock1.denselayer2.norm1.running_avg"] = state.pop(key)
    elif kind == "misshapen":
        state[key] = torch.zeros(99)
    elif kind == "extra head":
        state["classifier.weight"], state["fc.0.weight"] = torch.zeros(3, 6), torch.zeros(7, 12)
    elif kind == "missing layer":
        state = OrderedDict((k, v) for k, v in state.items() if "denseblock1.denselayer1." not in k)
    elif kind == "integer":
        state["features.conv0.weight"] = state["features.conv0.weight"].to(torch.int8)
    return state


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", ["nearly", "missing features.denseblock1.denselayer2.norm1.running_mean"]),
        (
            "renamed",
            ["missing", "running_mean (nearest: features.denseblock1.denselayer2.norm1.running_avg)", "unexpected"],
        ),
        ("misshapen", ["norm1.running_mean has shape [99]", "needs [12]"]),
        ("extra head", ["may compute something: classifier.weight"]),
        ("missing layer", ["missing features.denseblock1.denselayer1"]),
        ("integer", ["features.conv0.weight has type int8"]),
    ],
)
def test_damaged_networks_are_refused_with_the_keys(kind: str, words: list[str], state: Any, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", broken(state, kind))
    with pytest.raises(NotADenseNet) as caught:
        convert(path, tmp_path / "b.safetensors")
    assert all(word in str(caught.value) for word in ["a.pth", *words]), caught.value
    assert not (tmp_path / "b.safetensors").exists()


def test_the_output_describes_itself(tmp_path: Path) -> None:
    source = file_of("mmpretrain-published")
    convert(source, tmp_path / "a.safetensors")
    with safetensors.safe_open(tmp_path / "a.safetensors", "numpy") as file:
        metadata = file.metadata()
    found = json.loads(metadata["densenet.source"])
    import hashlib

    assert found["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (found["name"], found["layout"], found["format"]) == (source.name, "mmpretrain", "torch zip")
    assert DenseNetConfig.from_dict(json.loads(metadata["densenet.config"])) == load(source).config
    assert metadata["densenet.tool"].startswith("densenet-converter ")
    assert metadata["format"] == "pt"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
@pytest.mark.parametrize("to", ["library", "mmpretrain"])
def test_two_runs_give_the_same_bytes_and_everything_comes_back(suffix: str, to: str, tmp_path: Path) -> None:
    source = LEGACY
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        convert(source, tmp_path / name / f"m{suffix}", to=to)
    first, second = tmp_path / "a" / f"m{suffix}", tmp_path / "b" / f"m{suffix}"
    assert first.read_bytes() == second.read_bytes()
    original, returned = load(source), load(first)
    assert returned.config == original.config
    for name, tensor in original.tensors.items():
        assert returned.tensors[name].read().tobytes() == tensor.read().tobytes()


def test_dtypes(tmp_path: Path) -> None:
    source = LEGACY
    convert(source, tmp_path / "a.safetensors", dtype="fp16")
    assert {str(t.dtype) for t in load(tmp_path / "a.safetensors").tensors.values()} == {"float16"}
    convert(CASES / "tv-bfloat16/half.pth", tmp_path / "b.safetensors")
    dtypes = {str(t.dtype) for name, t in load(tmp_path / "b.safetensors").tensors.items() if "num_batches" not in name}
    assert dtypes == {"bfloat16"}
    with pytest.raises(ConverterError, match="int4"):
        convert(source, tmp_path / "c.safetensors", dtype="int4")


def test_values_too_large_for_half_precision_are_refused(state: Any, tmp_path: Path) -> None:
    large = OrderedDict(state)
    large["features.norm5.running_var"] = large["features.norm5.running_var"] * 1e6
    path = save(tmp_path / "a.pth", large)
    with pytest.raises(CannotExpress, match=r"norm\.running_var"):
        convert(path, tmp_path / "b.safetensors", dtype="fp16")
    assert os.listdir(tmp_path) == ["a.pth"]


def test_targets_that_cannot_be_written_leave_everything_as_it_was(tmp_path: Path) -> None:
    source = LEGACY
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConverterError, match="end the name in"):
        convert(source, tmp_path / "model.onnx")
    with pytest.raises(CannotWrite):
        convert(source, tmp_path / "file" / "a.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CannotWrite, match="folder"):
        convert(source, tmp_path / "folder.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.safetensors"]


@pytest.mark.skipif(not Path("/dev/full").exists() or shutil.which("mount") is None, reason="needs a small file system")
def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True)
    if done.returncode:
        pytest.skip("may not mount a file system")
    try:
        (small / "a.safetensors").write_text("old")
        with pytest.raises(CannotWrite, match="No space"):
            convert(LEGACY, small / "a.safetensors", force=True)
        assert os.listdir(small) == ["a.safetensors"]
        assert (small / "a.safetensors").read_text() == "old"
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_converting_a_file_onto_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    shutil.copy(LEGACY, path)
    before = {name: tensor.read().copy() for name, tensor in load(path).tensors.items()}
    with pytest.raises(CannotWrite, match="--force"):
        convert(path, path, to="timm")
    convert(path, path, to="timm", force=True)
    with pytest.raises(CannotWrite, match="is what is read"):  # this tool wrote it, but it is the source
        convert(path, path)
    for name, tensor in load(path).tensors.items():
        np.testing.assert_array_equal(tensor.read(), before[name])


def test_labels_and_preprocessing_travel_with_the_weights(tmp_path: Path) -> None:
    source = LEGACY
    labels = [f"class {i}" for i in range(12)]
    convert(source, tmp_path / "a.safetensors", labels=labels, preprocess={"resize": 40, "crop": [32, 32]})
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", to="timm")
    found = load(tmp_path / "b.safetensors")
    assert found.images.labels == tuple(labels)
    assert found.images.preprocess == Preprocess(resize=40, crop=(32, 32))
    with pytest.raises(ConverterError, match="2 labels for 12 classes"):
        convert(source, tmp_path / "c.safetensors", labels=["a", "b"])


@pytest.mark.parametrize(
    ("name", "to"),
    [("a.pth", "torchvision"), ("a.bin", "library"), ("a.pth", "mmpretrain"), ("a.npz", "library"), ("a.h5", "keras")],
)
def test_files_of_every_kind_give_back_what_is_known_of_images_and_classes(name: str, to: str, tmp_path: Path) -> None:
    names = [f"class {i} \u00e9" for i in range(4)] + ["long " * 4000]  # more than HDF5 holds in one attribute
    said = Images(Preprocess(resize=40, crop=(32, 32)), tuple(names), "sigmoid", (0.1, None, 0.3, 0.5, 0.7))
    source = save_network(random_model(SMALL), tmp_path / "source.safetensors")
    convert(source, tmp_path / name, to=to, images=said)
    assert load(tmp_path / name).images == said
    convert(tmp_path / name, tmp_path / "again.safetensors")
    assert load(tmp_path / "again.safetensors").images == said
    convert(source, tmp_path / name, to=to)
    assert load(tmp_path / name).images == Images()


@pytest.mark.parametrize("name", ["a.pth", "a.npz"])
def test_more_than_a_comment_holds_is_refused(name: str, tmp_path: Path) -> None:
    source = save_network(random_model(SMALL), tmp_path / "source.safetensors")
    with pytest.raises(CannotExpress, match=rf"{name}: has room for 65,535 bytes.*safetensors"):
        convert(source, tmp_path / name, labels=[str(i) * 20_000 for i in range(5)])
    assert not (tmp_path / name).exists()


def test_a_known_preprocessing_is_recorded_by_its_name(tmp_path: Path) -> None:
    convert(LEGACY, tmp_path / "a.safetensors", preprocess="keras-caffe")
    assert load(tmp_path / "a.safetensors").images.preprocess == FAMILIES["keras-caffe"]
    with pytest.raises(ConverterError, match="no preprocessing is called 'keras'; there are torchvision, "):
        convert(LEGACY, tmp_path / "b.safetensors", preprocess="keras")
    with pytest.raises(ConverterError, match="1 channels for a network of 3"):
        convert(LEGACY, tmp_path / "b.safetensors", preprocess="torchxrayvision")


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_files_that_hold_no_config_say_what_they_can_or_refuse(suffix: str, tmp_path: Path) -> None:
    source = LEGACY
    convert(source, tmp_path / f"a{suffix}", settings={"eps": 1e-3})
    again = load(tmp_path / f"a{suffix}")
    before, after = (m.tensors["norm.running_var"].read() for m in (load(source), again))
    assert again.config.eps == 1e-5
    np.testing.assert_allclose(after, before + 1e-3 - 1e-5, rtol=1e-6)
    convert(source, tmp_path / "timm.safetensors", to="timm", settings={"eps": 1e-3})
    folded = load(tmp_path / "timm.safetensors")  # the recorded eps is the one after folding
    assert folded.config.eps == 1e-5
    np.testing.assert_array_equal(folded.tensors["norm.running_var"].read(), after)
    with pytest.raises(CannotExpress, match="final_relu"):
        convert(source, tmp_path / f"b{suffix}", settings={"final_relu": False})
    convert(source, tmp_path / "c.safetensors", settings={"final_relu": False, "eps": 1e-3})
    assert load(tmp_path / "c.safetensors").config.final_relu is False
