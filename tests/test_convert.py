"""convert, load and inspect on real files: wrappers, evidence, accounting, honest refusals."""

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
from cases import CASES, logits_of

from converter import export_onnx, load
from converter.core.errors import CannotExpress, CannotWrite, ConverterError, NotADenseNet, UnreadableFile
from converter.reading import inspect
from converter.reading import load as convert
from densenet import DenseNetConfig

REAL = sorted(path.parent for path in CASES.glob("*/case.json"))


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


def save(path: Path, state: Any, **options: Any) -> Path:
    torch = pytest.importorskip("torch")
    torch.save(state, path, **options)
    return path


@pytest.fixture(scope="module")
def state() -> Any:
    torchvision = pytest.importorskip("torchvision")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torchvision.models.DenseNet(4, (2, 1), 8, num_classes=3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return OrderedDict(model.state_dict())


def prefixed(state: Any, prefix: str) -> Any:
    return OrderedDict((prefix + key, value) for key, value in state.items())


@pytest.mark.parametrize(
    ("wrap", "inside", "prefix"),
    [
        (lambda s: s, "", ""),
        (lambda s: {"state_dict": s, "epoch": 3, "arch": "densenet121"}, "state_dict", ""),
        (lambda s: {"state_dict": prefixed(s, "module.")}, "state_dict", "module."),
        (lambda s: prefixed(s, "_orig_mod."), "", "_orig_mod."),
        (lambda s: prefixed(s, "module._orig_mod."), "", "module._orig_mod."),
        (lambda s: {"model": prefixed(s, "net.backbone."), "opt": {"state": {}}}, "model", "net.backbone."),
        (lambda s: {"a": {"b": {"state_dict": s}}}, "a.b.state_dict", ""),
        (lambda s: [{"net": s}], "0.net", ""),
    ],
)
def test_wrappers_and_prefixes_are_undone(wrap: Any, inside: str, prefix: str, state: Any, tmp_path: Path) -> None:
    found = inspect(save(tmp_path / "a.pth", wrap(state)))
    assert (found.chosen.layout.name, found.chosen.group.path, found.chosen.prefix) == ("torchvision", inside, prefix)
    np.testing.assert_array_equal(found.model.tensors["norm.weight"].read(), state["features.norm5.weight"].numpy())


def test_averaged_weights_are_preferred_as_their_trainers_do(state: Any, tmp_path: Path) -> None:
    averaged = OrderedDict((key, value + 1) for key, value in state.items())
    path = save(tmp_path / "timm.pth", {"state_dict": state, "state_dict_ema": averaged})
    assert load(path).source.inside == "state_dict_ema"
    assert any("state_dict" in note for note in load(path).notes)
    plain = load(path, weights="state_dict")
    np.testing.assert_array_equal(plain.tensors["norm.weight"].read(), state["features.norm5.weight"].numpy())
    # mmengine swaps before saving: there state_dict is the average
    path = save(
        tmp_path / "mm.pth",
        {"ema_state_dict": prefixed(averaged, "module."), "state_dict": state, "message_hub": {}, "meta": {}},
    )
    assert load(path).source.inside == "state_dict"
    for nested in ({"model_ema": {"module": averaged}}, {"ema": {"shadow": averaged}}, {"params_ema": averaged}):
        path = save(tmp_path / "other.pth", {"model": state, **nested})
        found = load(path).tensors["norm.weight"].read()
        np.testing.assert_array_equal(found, averaged["features.norm5.weight"].numpy())
    with pytest.raises(ConverterError, match="there are some at"):
        load(path, weights="nowhere")


def test_keys_that_are_no_weights_are_dropped_with_a_reason(state: Any, tmp_path: Path) -> None:
    import torch

    extra = {**prefixed(state, "model."), "criterion.weight": torch.ones(3), "model.op_threshs": torch.ones(3)}
    found = load(save(tmp_path / "a.ckpt", {"state_dict": extra}))
    assert set(found.dropped) == {"criterion.weight", "model.op_threshs"}
    assert all(found.dropped.values())


@pytest.mark.parametrize("name", ["last_linear", "fc", "classifier.0", "head.classifier"])
def test_classifiers_under_other_names(name: str, state: Any, tmp_path: Path) -> None:
    renamed = {key.replace("classifier", name): value for key, value in state.items()}
    found = load(save(tmp_path / "a.pth", renamed))
    assert found.config.num_classes == 3
    assert name in found.notes[0]
    np.testing.assert_array_equal(found.tensors["classifier.weight"].read(), state["classifier.weight"].numpy())


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
        state["classifier.weight"], state["fc.0.weight"] = torch.zeros(3, 6), torch.zeros(6, 12)
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
        ("extra head", ["layers between"]),
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


def test_other_networks_are_refused(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    for name in ("resnet18", "squeezenet1_0", "mobilenet_v3_small"):
        path = save(tmp_path / f"{name}.pth", getattr(torchvision.models, name)().state_dict())
        with pytest.raises(NotADenseNet, match="not a DenseNet"):
            load(path)


def test_a_dilated_module_is_refused(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.DenseNet(4, (2, 1), 8, num_classes=3)
    assert load(save(tmp_path / "a.pth", model)).config.num_classes == 3
    model.features.denseblock2.denselayer1.conv2.dilation = (2, 2)
    with pytest.raises(NotADenseNet, match="dilation"):
        load(save(tmp_path / "b.pth", model))


def test_a_module_tells_its_eps(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    import torch

    model = torchvision.models.DenseNet(4, (2, 1), 8, num_classes=3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3
    assert load(save(tmp_path / "a.pth", model)).config.eps == 1e-3
    model.features.norm0.eps = 1e-5
    with pytest.raises(NotADenseNet, match="different eps"):
        load(save(tmp_path / "b.pth", model))


def test_blur_pooling_shows_in_metadata_or_config_json_or_is_asked_for(tmp_path: Path) -> None:
    folder = CASES / "timm-blur121d"
    assert load(folder / "model.pth").config.stem_pool == "blur"
    convert(folder / "model.pth", tmp_path / "a.safetensors", to="timm")
    assert load(tmp_path / "a.safetensors").config.stem_pool == "blur"  # recorded by us
    bare = dict(safetensors.numpy.load_file(tmp_path / "a.safetensors").items())
    safetensors.numpy.save_file(bare, tmp_path / "bare.safetensors")
    unknown = load(tmp_path / "bare.safetensors")
    assert unknown.config.stem_pool == "max"
    assert any("--set stem_pool=blur" in note for note in unknown.notes)
    assert load(tmp_path / "bare.safetensors", settings={"stem_pool": "blur"}).config.stem_pool == "blur"
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "densenetblur121d", "num_classes": 12}))
    assert load(tmp_path / "bare.safetensors").config.stem_pool == "blur"


def test_the_output_describes_itself(tmp_path: Path) -> None:
    source = CASES / "mmpretrain-published" / json.loads((CASES / "mmpretrain-published/case.json").read_text())["file"]
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
    source = CASES / "tv-legacy-old/densenet-legacy-old.pth"
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
    source = CASES / "tv-legacy-old/densenet-legacy-old.pth"
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
    source = CASES / "tv-legacy-old/densenet-legacy-old.pth"
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConverterError, match="end the name in"):
        convert(source, tmp_path / "model.onnx")
    with pytest.raises(CannotWrite, match="nowhere"):
        convert(source, tmp_path / "nowhere" / "a.safetensors")
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
            convert(CASES / "tv-legacy-old/densenet-legacy-old.pth", small / "a.safetensors")
        assert os.listdir(small) == ["a.safetensors"]
        assert (small / "a.safetensors").read_text() == "old"
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_converting_a_file_onto_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    shutil.copy(CASES / "tv-legacy-old/densenet-legacy-old.pth", path)
    before = {name: tensor.read().copy() for name, tensor in load(path).tensors.items()}
    convert(path, path, to="timm")
    for name, tensor in load(path).tensors.items():
        np.testing.assert_array_equal(tensor.read(), before[name])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"hello, world\n", "known format"), (b"PK\x05\x06" + bytes(18), "without tensors")],
)
def test_files_that_are_no_checkpoints(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UnreadableFile, match=message):
        load(tmp_path / "x.pth")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="no such file"):
        load(tmp_path / "missing.pth")
    with pytest.raises(UnreadableFile, match="folder"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableFile, match="regular file"):
        load(tmp_path / "pipe")


def test_labels_and_preprocessing_travel_with_the_weights(tmp_path: Path) -> None:
    source = CASES / "tv-legacy-old/densenet-legacy-old.pth"
    labels = [f"class {i}" for i in range(12)]
    convert(source, tmp_path / "a.safetensors", labels=labels, preprocess={"resize": 40, "crop": [32, 32]})
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", to="timm")
    found = load(tmp_path / "b.safetensors")
    assert found.labels == tuple(labels)
    assert found.preprocess == {"resize": 40, "crop": [32, 32]}
    with pytest.raises(ConverterError, match="2 labels for 12 classes"):
        convert(source, tmp_path / "c.safetensors", labels=["a", "b"])


def test_a_hub_repository_of_timm_is_recognised_by_its_config_json() -> None:
    found = inspect(CASES / "timm-hf-small/model.safetensors")
    assert found.chosen.layout.name == "timm"
    config = json.loads((CASES / "timm-hf-small/config.json").read_text())["pretrained_cfg"]
    assert found.model.preprocess["crop"] == config["input_size"][1:]
    assert found.model.preprocess["mean"] == list(config["mean"])


def test_modules_that_compute_something_else_are_refused(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    import torch

    def changed(change: Any, refuse: str, scripted: bool) -> None:
        model = torchvision.models.DenseNet(4, (2, 1), 8, num_classes=3).eval()
        change(model)
        path = tmp_path / "m.pt"
        if scripted:
            torch.jit.trace(model, torch.zeros(1, 3, 64, 64)).save(str(path))
        else:
            torch.save(model, path)
        with pytest.raises(NotADenseNet, match=refuse):
            load(path)

    nn = torch.nn
    for scripted in (False, True):
        changed(lambda m: setattr(m.features, "relu0", nn.SiLU()), "relu0 is a SiLU", scripted)
        changed(lambda m: setattr(m.features, "pool0", nn.Identity()), "pool0 is a Identity", scripted)
        changed(lambda m: setattr(m.features.transition1, "relu", nn.Identity()), "relu is a Identity", scripted)
        changed(lambda m: setattr(m.features.transition1, "pool", nn.MaxPool2d(2)), "pool is a MaxPool2d", scripted)
    changed(lambda m: setattr(m.features.transition1, "pool", nn.AvgPool2d(3, 2, 1)), "kernel_size 3", False)
    changed(lambda m: setattr(m.features.conv0, "padding_mode", "reflect"), "reflect", False)


@pytest.mark.parametrize("names", [("0.mean", "0.std"), ("pre.weight",), ("temperature",)])
def test_tensors_beside_the_network_are_not_dropped_silently(
    names: tuple[str, ...], state: Any, tmp_path: Path
) -> None:
    import torch

    beside = {name: torch.ones(3, 3, 1, 1) if name == "pre.weight" else torch.ones(3) for name in names}
    path = save(tmp_path / "a.pth", {**beside, **prefixed(state, "net.")})
    with pytest.raises(NotADenseNet, match=names[0]):
        load(path)
    assert set(load(path, drop=names).dropped) == set(names)


def test_a_missing_classifier_weight_is_not_a_backbone(state: Any, tmp_path: Path) -> None:
    part = {key: value for key, value in state.items() if key != "classifier.weight"}
    with pytest.raises(NotADenseNet, match=r"classifier\.bias"):
        load(save(tmp_path / "a.pth", part))


def test_lazily_negated_tensors_are_refused(state: Any, tmp_path: Path) -> None:
    import torch

    negated = {**state, "classifier.weight": torch._neg_view(-state["classifier.weight"])}
    with pytest.raises(UnreadableFile, match="resolve_neg"):
        load(save(tmp_path / "a.pth", negated))


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_files_that_hold_no_config_say_what_they_can_or_refuse(suffix: str, tmp_path: Path) -> None:
    source = CASES / "tv-legacy-old/densenet-legacy-old.pth"
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
