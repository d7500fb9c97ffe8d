"""Networks with several heads: read whole, each head an output, or refused; never one of them in silence."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from helpers.command import ok, refused, run
from helpers.networks import SMALL, export_model, random_model
from helpers.networks import save as save_model
from helpers.tasks import Classifiers, F, Shared, Tasks, features
from torch import nn

from converter import export_onnx, load
from converter.core.errors import ConverterError
from converter.core.model import Images
from converter.engines.torch import any_module
from densenet.head import Head


def in_file(net: nn.Module, path: Path, form: str) -> Path:
    """A network whole, as a state dict, or as a trainer on several GPUs keeps it."""
    state = net.state_dict()
    wrapped = {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}
    torch.save({"whole": net, "state dict": state, "data parallel": wrapped}[form], path)
    return path


def close(found: dict[str, np.ndarray], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    largest = max(logits.abs().max().item() for logits in expected.values())  # one head's may all be near zero
    for name, logits in expected.items():
        assert np.abs(found[name] - logits.numpy()).max() <= 1e-5 * largest, name


@pytest.mark.parametrize("form", ["whole", "state dict", "data parallel"])
@pytest.mark.parametrize("kind", [Tasks, Shared, Classifiers])
def test_all_heads_compute_what_the_original_does(tmp_path: Path, kind: Callable[[], nn.Module], form: str) -> None:
    net, x = kind().eval(), torch.randn(2, 3, 40, 40)
    model = load(in_file(net, tmp_path / "tasks.pth", form))
    ok("convert", tmp_path / "tasks.pth", tmp_path / "m.safetensors")
    export_onnx(tmp_path / "m.safetensors", tmp_path / "m.onnx", graph="exact" if form == "whole" else "fused")
    with torch.inference_mode():
        expected = net(x)
        for source in (model, load(tmp_path / "m.safetensors"), load(tmp_path / "m.onnx")):
            close({name: logits.numpy() for name, logits in any_module(source)(x).items()}, expected)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    close(dict(zip(expected, session.run([*expected], {"pixel_values": x.numpy()}))), expected)
    assert len(session.get_outputs()) == len(expected)
    assert sum(p.numel() for p in any_module(model).parameters()) == model.config.parameters()


def test_a_module_says_its_activations_and_a_state_dict_has_them_assumed_by_head(tmp_path: Path) -> None:
    net = Tasks(nn.GELU)
    whole = load(in_file(net, tmp_path / "a.pth", "whole"))
    assert whole.config.heads == (Head("age", 4, ("linear:9", "gelu")), Head("sex", 2))
    assert any("its heads age, sex are taken as outputs of their own" in note for note in whole.notes)
    bare = load(in_file(net, tmp_path / "b.pth", "state dict"))
    assert any(note.startswith("age: the head is") and "a ReLU is assumed" in note for note in bare.notes)


def test_what_heads_share_is_repeated_and_said(tmp_path: Path) -> None:
    model = load(in_file(Shared(), tmp_path / "a.pth", "state dict"))
    assert any("shared.weight is shared by several heads" in note for note in model.notes)
    ages = [model.tensors[f"heads.{head}.head.0.linear.weight"].read() for head in ("age", "sex")]
    np.testing.assert_array_equal(*ages)


@pytest.mark.parametrize("name", ["heads.age", "age"])
@pytest.mark.parametrize("suffix", ["safetensors", "onnx"])
def test_one_head_of_our_own_files_is_the_plain_network(tmp_path: Path, name: str, suffix: str) -> None:
    net, x = Tasks(nn.GELU).eval(), torch.randn(2, 3, 40, 40)
    path = in_file(net, tmp_path / "a.pth", "whole")
    ok("convert" if suffix != "onnx" else "export", path, tmp_path / f"m.{suffix}", "--activation", "sigmoid")
    model = load(tmp_path / f"m.{suffix}", head=name)
    assert (model.config.heads, model.config.num_classes, model.config.head) == ((), 4, ("linear:9", "gelu"))
    assert model.images.activation == "sigmoid"
    with torch.inference_mode():
        np.testing.assert_allclose(any_module(model)(x), net(x)["age"], rtol=1e-4, atol=1e-5)
    assert "nose" in refused(2, "inspect", tmp_path / f"m.{suffix}", "--head", "nose")


def test_what_is_said_of_each_head_goes_around(tmp_path: Path) -> None:
    config = replace(SMALL, num_classes=0, heads=(Head("age", 3), Head("0", 1, ("linear:4", "tanh"))))
    said = (("age", Images(labels=("a", "b", "c"), activation="softmax")), ("0", Images(activation="sigmoid")))
    model = replace(random_model(config), images=Images(heads=said))
    for path in (save_model(model, tmp_path / "m.safetensors"), tmp_path / "m.onnx"):
        if path.suffix == ".onnx":
            export_model(model, path, graph="exact")
        found = load(path)
        assert (found.config, found.images) == (config, model.images)
        assert not found.notes
        for name, tensor in model.tensors.items():
            np.testing.assert_array_equal(found.tensors[name].read(), tensor.read())


def test_names_of_classes_in_the_file_are_not_given_to_some_head(tmp_path: Path) -> None:
    torch.save({"state_dict": Tasks().state_dict(), "classes": ["f", "m"]}, tmp_path / "a.pth")
    model = load(tmp_path / "a.pth")
    assert all(not images.labels for _, images in model.images.heads)
    assert any("of which head they are is not known" in note for note in model.notes)
    assert load(tmp_path / "a.pth", head="sex").images.labels == ("f", "m")


class Beside(nn.Module):
    """A classifier, and another layer of its size."""

    def __init__(self, name: str, layer: nn.Module) -> None:
        super().__init__()
        self.features = features()
        self.head = nn.ModuleDict({"fc": nn.Linear(F, 5), name: layer})


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("gate", nn.Linear(F, 5)),
        ("projector", nn.Linear(F, 5)),
        ("arcface", nn.Linear(F, 5, bias=False)),
        ("domain", nn.Linear(F, 2)),
        ("early", nn.Linear(F + 1, 5)),
        ("attended", nn.Bilinear(F, F, 5)),
    ],
)
def test_what_may_be_no_head_is_refused(tmp_path: Path, name: str, layer: nn.Module) -> None:
    for form in ("whole", "state dict"):
        path = in_file(Beside(name, layer), tmp_path / "a.pth", form)
        assert "nearly DenseNet" in refused(2, "inspect", path)


def test_layouts_of_one_head_refuse_several_and_name_them(tmp_path: Path) -> None:
    path = in_file(Tasks(), tmp_path / "a.pth", "whole")
    for layout, suffix in (("torchvision", "pth"), ("timm", "safetensors"), ("keras", "h5")):
        said = refused(2, "convert", path, tmp_path / f"m.{suffix}", "--to", layout)
        assert "several heads: age, sex; densenet convert --head NAME" in said
    assert "activations of the heads age" in refused(2, "convert", path, tmp_path / "m.pth")
    with pytest.raises(ConverterError, match="labels are those of one head, of age or sex: --labels age=FILE"):
        load(path).described(Images(labels=("a", "b")))


def test_the_layers_of_one_head_are_said_without_choosing_it(tmp_path: Path) -> None:
    source = tmp_path / "a.pth"
    torch.save(Tasks(nn.GELU).state_dict(), source)
    assumed = run("inspect", source).stderr
    assert "age: the head is heads.age.0, heads.age.2, read as linear:9,relu" in assumed
    assert "--set heads.age.head=... changes it" in assumed
    said = run("inspect", source, "--set", "heads.age.head=linear:9,gelu")
    assert "linear:9,gelu, 4 classes" in said.stdout
    assert "is assumed where it has no tensors" not in said.stderr
    assert "no head 'size'; there are age, sex" in refused(2, "inspect", source, "--set", "heads.size.head=relu")
    alone = ("--head", "age", "--set", "heads.age.head=linear:9,gelu")
    assert "one head is read, whose layers --set head=... says" in refused(2, "inspect", source, *alone)
    with pytest.raises(ConverterError, match=r"heads\.age\.eps: not a setting"):
        load(source, settings={"heads.age.eps": 1e-3})
