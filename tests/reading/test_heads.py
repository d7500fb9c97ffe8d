"""Heads of several layers in PyTorch's files: state dicts, and modules pickled whole."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from helpers.command import ok, refused
from helpers.tasks import Tasks
from safetensors.torch import save_file
from torch import nn

from converter import convert, export_onnx, load, verify
from converter.core.errors import ConverterError
from converter.engines.torch import torch_module

F = 20
"""Features of the network."""

HEADS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...], bool]] = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(F, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 5)),
        ("linear:9", "relu"),
        True,
    ),
    "fastai's": (
        lambda: nn.Sequential(
            *(nn.BatchNorm1d(F), nn.Dropout(), nn.Linear(F, 9, bias=False), nn.ReLU()),
            *(nn.BatchNorm1d(9), nn.Dropout(), nn.Linear(9, 5)),
        ),
        ("norm", "linear:9:no_bias", "relu", "norm"),
        True,
    ),
    "norms with an eps of their own": (
        lambda: nn.Sequential(nn.Linear(F, 9), nn.BatchNorm1d(9, eps=1e-3), nn.GELU(), nn.Linear(9, 5)),
        ("linear:9", "norm", "gelu"),
        False,
    ),
    "two linear layers": (lambda: nn.Sequential(nn.Linear(F, 9), nn.Linear(9, 5)), ("linear:9",), True),
    "slopes": (
        lambda: nn.Sequential(
            *(nn.Flatten(), nn.Tanh(), nn.Linear(F, 9), nn.LeakyReLU(0.2), nn.Linear(9, 8), nn.ELU(0.5)),
            *(nn.Linear(8, 5, bias=False),),
        ),
        ("tanh", "linear:9", "leaky_relu:0.2", "linear:8", "elu:0.5"),
        False,
    ),
    "names": (
        lambda: nn.Sequential(
            OrderedDict(fc1=nn.Linear(F, 9), act=nn.ReLU(), fc2=nn.Linear(9, 8), act2=nn.ReLU(), out=nn.Linear(8, 5))
        ),
        ("linear:9", "relu", "linear:8", "relu"),
        True,
    ),
}


def network(head: nn.Module) -> nn.Module:
    """torchvision's, small, with statistics that matter."""
    torch.manual_seed(0)
    net = torchvision.models.DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=16)
    net.classifier = head
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()


def agree(path: Path, net: nn.Module, **settings: str) -> tuple[str, ...]:
    """The file gives the network's logits; returns the head it was read with."""
    x = torch.randn(2, 3, 40, 40)
    model = load(path, settings=settings)
    with torch.inference_mode():
        np.testing.assert_allclose(torch_module(model)(x), net(x), rtol=1e-4, atol=1e-5)
    return model.config.head


@pytest.mark.parametrize(("make", "head", "usual"), HEADS.values(), ids=HEADS)
def test_a_module_says_its_head(
    tmp_path: Path, make: Callable[[], nn.Module], head: tuple[str, ...], usual: bool
) -> None:
    net = network(make())
    torch.save(net, tmp_path / "whole.pth")
    assert agree(tmp_path / "whole.pth", net) == head
    assert not any("assumed" in note for note in load(tmp_path / "whole.pth").notes)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize(("make", "head", "usual"), HEADS.values(), ids=HEADS)
def test_a_state_dict_is_read_with_what_is_assumed_said(
    tmp_path: Path, ending: str, make: Callable[[], nn.Module], head: tuple[str, ...], usual: bool
) -> None:
    net, path = network(make()), tmp_path / f"state.{ending}"
    state = net.state_dict()
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    if usual:
        assert agree(path, net) == head
        assert any("--set head" in note for note in load(path).notes)
    elif "norm" not in head:
        assert agree(path, net, head=",".join(head)) == head
    else:
        assert [w for w in load(path).config.head if w != "relu"] == [w for w in head if w != "gelu"]


def test_a_head_that_is_said_must_fit(tmp_path: Path) -> None:
    net = network(HEADS["mlp"][0]())
    torch.save(net.state_dict(), tmp_path / "state.pth")
    assert "does not fit" in refused(2, "inspect", tmp_path / "state.pth", "--set", "head=linear:8,relu")
    assert "a head has layers such as" in refused(2, "inspect", tmp_path / "state.pth", "--set", "head=linear")
    ok("convert", tmp_path / "state.pth", tmp_path / "out.safetensors", "--set", "head=linear:9,leaky_relu:0.2")
    assert load(tmp_path / "out.safetensors").config.head == ("linear:9", "leaky_relu:0.2")


def test_activations_that_opaque_code_may_run_anywhere_are_taken(tmp_path: Path) -> None:
    net = network(Opaque())
    torch.save(net, tmp_path / "whole.pth")
    assert agree(tmp_path / "whole.pth", net) == ("linear:9", "silu")
    assert any("is not in the file" in note for note in load(tmp_path / "whole.pth").notes)


class Opaque(nn.Module):
    """A head whose forward no file holds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(F, 9), nn.SiLU(), nn.Linear(9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        result: torch.Tensor = self.fc2(self.act(self.fc1(x)))
        return result


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: nn.Sequential(nn.Linear(F, 9), nn.Softmax(1), nn.Linear(9, 5)), "classifier.1"),
        (lambda: nn.Sequential(nn.Linear(F, 9), nn.Softplus(2.0), nn.Linear(9, 5)), "classifier.1"),
        (lambda: nn.Sequential(nn.Linear(F, 9), nn.PReLU(9), nn.Linear(9, 5)), "classifier.1"),
        (lambda: nn.Sequential(nn.Linear(F, 9), nn.LayerNorm(9), nn.Linear(9, 5)), "classifier.1"),
        (lambda: nn.Sequential(nn.Linear(F, 5), nn.GELU()), "classifier.1"),
    ],
    ids=["softmax", "softplus", "prelu", "layer norm", "behind the logits"],
)
def test_what_a_head_cannot_have_is_refused_by_name(tmp_path: Path, make: Callable[[], nn.Module], named: str) -> None:
    torch.save(network(make()), tmp_path / "whole.pth")
    with pytest.raises(ConverterError, match=named):
        load(tmp_path / "whole.pth")


def test_a_longer_head_goes_all_the_way(tmp_path: Path) -> None:
    net = network(HEADS["fastai's"][0]())
    torch.save(net, tmp_path / "whole.pth")
    convert(tmp_path / "whole.pth", tmp_path / "m.safetensors")
    export_onnx(tmp_path / "m.safetensors", tmp_path / "m.onnx")
    verdict = verify(tmp_path / "whole.pth", tmp_path / "m.safetensors", tmp_path / "m.onnx")
    assert verdict.passed, verdict.to_dict()
    assert agree(tmp_path / "m.onnx", net) == ("linear:9", "relu")  # what the exporter folds it to
    convert(tmp_path / "m.safetensors", tmp_path / "back.pth", to="torchvision")
    plain = nn.Sequential(nn.BatchNorm1d(F), nn.Linear(F, 9, bias=False), nn.ReLU(), nn.BatchNorm1d(9), nn.Linear(9, 5))
    again = network(plain)
    again.load_state_dict(torch.load(tmp_path / "back.pth"), strict=False)
    x = torch.randn(2, 3, 40, 40)
    with torch.inference_mode():
        np.testing.assert_array_equal(again(x), net(x))
    assert "timm" in refused(2, "convert", tmp_path / "m.safetensors", tmp_path / "t.safetensors", "--to", "timm")


@pytest.mark.parametrize("whole", [False, True], ids=["state dict", "whole"])
def test_one_head_of_several_is_read_by_its_name(tmp_path: Path, whole: bool) -> None:
    net, path, x = Tasks().eval(), tmp_path / "tasks.pth", torch.randn(2, 3, 40, 40)
    torch.save(net if whole else net.state_dict(), path)
    assert "no head 'nose'" in refused(2, "inspect", path, "--head", "nose")
    for name in ("age", "heads.sex"):
        ok("convert", path, tmp_path / "one.safetensors", "--head", name)
        with torch.inference_mode():
            logits, expected = torch_module(load(tmp_path / "one.safetensors"))(x), net(x)[name.rpartition(".")[2]]
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "names", [("mlp.0", "mlp.2", "last_layer"), ("projector.0", "projector.2", "out"), ("embed", "fc", "out")]
)
def test_heads_of_a_training_s_own_task_are_not_taken_for_the_network_s(tmp_path: Path, names: tuple[str, ...]) -> None:
    state = dict(network(nn.Identity()).features.state_dict(prefix="backbone."))
    for name, width, taken in zip(names, (9, 8, 5), (F, 9, 8)):
        state |= {f"head.{name}.weight": torch.randn(width, taken), f"head.{name}.bias": torch.randn(width)}
    torch.save(state, tmp_path / "ssl.pth")
    with pytest.raises(ConverterError, match="nearly DenseNet"):
        load(tmp_path / "ssl.pth")


class Beside(nn.Module):
    """A classifier, and layers that are run otherwise than before it."""

    def __init__(self, name: str, extra: nn.Module) -> None:
        super().__init__()
        self.features = network(nn.Identity()).features
        self.add_module(name, extra)
        self.classifier = nn.Linear(F, 5)


@pytest.mark.parametrize("name", ["se", "projector", "branch"])
def test_a_gate_or_a_projector_is_no_part_of_the_head(tmp_path: Path, name: str) -> None:
    net = Beside(name, nn.Sequential(nn.Linear(F, 4), nn.ReLU(), nn.Linear(4, F), nn.Sigmoid()))
    for what in (net, net.state_dict()):
        torch.save(what, tmp_path / "m.pth")
        assert f"{name}.0.weight" in refused(2, "inspect", tmp_path / "m.pth")


class Parts(nn.Module):
    """A head in two Sequentials, run by code that no file holds."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Sequential(nn.Linear(F, 9), nn.Tanh()), nn.Linear(9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        result: torch.Tensor = self.out(self.hidden(x))
        return result


def test_an_activation_in_a_sequential_stands_though_the_code_around_it_is_opaque(tmp_path: Path) -> None:
    net = network(Parts())
    torch.save(net, tmp_path / "whole.pth")
    assert agree(tmp_path / "whole.pth", net) == ("linear:9", "tanh")


def test_numbers_of_thousands_of_digits_are_no_traceback(tmp_path: Path) -> None:
    state = network(nn.Identity()).state_dict()
    state |= {"h." + "1" * 5000 + ".weight": torch.ones(9, F), "h." + "2" * 5000 + ".weight": torch.ones(5, 9)}
    state |= {"h." + "2" * 5000 + ".bias": torch.ones(5)}
    torch.save(state, tmp_path / "m.pth")
    assert load(tmp_path / "m.pth").config.num_classes == 5


@pytest.mark.parametrize("width", [F, 9], ids=["as wide as the features", "narrower"])
def test_a_layer_that_heads_share_is_no_head_beside_the_chosen_one(tmp_path: Path, width: int) -> None:
    layers = {"shared": nn.Linear(F, width), "age": nn.Linear(width, 4), "sex": nn.Linear(width, 2)}
    features = network(nn.Identity()).features
    state = features.state_dict(prefix="backbone.")
    for name, layer in layers.items():
        state |= layer.state_dict(prefix=f"{name}.")
    torch.save(state, tmp_path / "tasks.pth")
    model, x = load(tmp_path / "tasks.pth", head="age"), torch.randn(2, 3, 40, 40)
    assert "shared.weight" not in model.dropped
    with torch.inference_mode():
        pooled = torch.relu(features(x)).mean((2, 3))
        expected = layers["age"](torch.relu(layers["shared"](pooled)))
        np.testing.assert_allclose(torch_module(model)(x), expected, rtol=1e-4, atol=1e-5)
