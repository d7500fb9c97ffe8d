"""Networks with another activation where the paper has a ReLU, as PyTorch saves them whole and as graphs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.networks import SMALL, export_model, random_model
from helpers.surgery import computes_as, network, put, saved_whole, settled
from helpers.torch_files import save
from helpers.torch_graphs import exported, graph_module, traced
from helpers.torchscript import torch
from helpers.user_modules import Framed
from helpers.variants import run, torch_logits

from converter import export_onnx, load
from converter.core.errors import CannotExpress, NotADenseNet
from converter.exporters.onnx import to_onnx
from densenet.config import DenseNetConfig
from densenet.head import Head

nn = torch.nn
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

IMAGES = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 72, 72)).astype(np.float32))
Saver = Callable[[Any, Any, Path], None]
MADE = {
    "gelu": nn.GELU,
    "leaky_relu:0.1": lambda: nn.LeakyReLU(0.1),
    "relu6": nn.ReLU6,
    "leaky_relu:0.25": nn.PReLU,
}


def activated(make: Callable[[], Any]) -> Any:
    """torchvision's network with other modules for its ReLUs; the last is a function in its code, and stays."""
    model = network()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.ReLU):
            put(model, name, make())
    return model


@pytest.mark.parametrize("word", MADE)
@pytest.mark.parametrize("saver", [exported, traced, graph_module])
def test_graphs(word: str, saver: Saver, tmp_path: Path) -> None:
    model = activated(MADE[word])
    saver(model, IMAGES, tmp_path / "model.pt2")
    config = computes_as(tmp_path / "model.pt2", model).config
    assert (config.hidden_activation, config.final_activation) == (word, "relu")


def test_a_module_saved_whole(tmp_path: Path) -> None:
    config = saved_whole(activated(nn.SiLU), tmp_path / "model.pth").config
    assert (config.hidden_activation, config.final_activation) == ("silu", "relu")


def test_the_last_one_alone(tmp_path: Path) -> None:
    model = network()
    layers = (model.features, nn.LeakyReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.classifier)
    config = saved_whole(nn.Sequential(*layers).eval(), tmp_path / "model.pth").config
    assert (config.hidden_activation, config.final_activation) == ("relu", "leaky_relu")


def test_timm_has_the_last_one_alike(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    sizes = {"growth_rate": 4, "block_config": (2, 1), "bn_size": 2, "num_classes": 3}
    model = settled(timm.models.densenet.DenseNet(**sizes, act_layer="gelu"))
    config = saved_whole(model, tmp_path / "model.pth").config
    assert (config.hidden_activation, config.final_activation) == ("gelu", None)


REFUSED = {
    "features.relu0": (nn.Sequential(nn.GELU(), nn.GELU()), r"features\.relu0\.1 is a GELU"),
    "features.pool0": (nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.GELU()), r"features\.pool0\.1 is a GELU"),
    "features.denseblock1.denselayer1.relu1": (nn.ReLU(), r"denselayer1\.relu1 is a ReLU"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_twice_behind_the_pooling_and_one_of_another_kind_are_refused(name: str, tmp_path: Path) -> None:
    module, named = REFUSED[name]
    model = activated(nn.GELU)
    if name == "features.pool0":
        put(model, "features.relu0", nn.Identity())
    with pytest.raises(NotADenseNet, match=named):
        load(save(tmp_path / "model.pth", put(model, name, module)))


def test_a_graph_with_the_activation_behind_the_pooling(tmp_path: Path) -> None:
    """GELU is not monotonic; what is, is the same before and behind."""
    for make in (nn.ELU, nn.GELU):
        late = nn.Sequential(nn.MaxPool2d(3, 2, 1), make())
        model = put(put(activated(make), "features.relu0", nn.Identity()), "features.pool0", late)
        exported(model, IMAGES, tmp_path / f"{make.__name__}.pt2")
        if make is nn.ELU:
            computes_as(tmp_path / "ELU.pt2", model)
    with pytest.raises(NotADenseNet, match="max pooling"):
        load(tmp_path / "GELU.pt2")


def test_a_state_dict_needs_to_be_told(tmp_path: Path) -> None:
    model = activated(nn.ELU)
    path = save(tmp_path / "model.pth", model.state_dict())
    assert any("hidden_activation" in note for note in load(path).notes)
    computes_as(path, model, settings={"hidden_activation": "elu", "final_activation": "relu"})


@pytest.mark.parametrize("graph", ["exact", "fused"])
@pytest.mark.parametrize("changes", [{}, {"padding": "same"}, {"stem": "deep", "stem_pool": "blur"}], ids=str)
def test_our_own_files_read_back(changes: dict[str, Any], graph: str, tmp_path: Path) -> None:
    model = random_model(replace(SMALL, hidden_activation="silu", **changes), scaled=True)
    proto = export_model(model, tmp_path / "model.onnx", graph=graph)
    again, x = load(tmp_path / "model.onnx"), IMAGES.numpy()[:, :, :45, :57]
    assert again.config == model.config
    want = torch_logits(model, x)
    for one in (proto, to_onnx(again)):
        np.testing.assert_allclose(run(one, x)[0], want, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("graph", ["exact", "fused"])
def test_with_several_heads(graph: str, tmp_path: Path) -> None:
    """What stands behind the last norm is a value of the graph, which no head may be called as."""
    heads = (Head("age", 4, ("linear:6", "relu")), Head("sex", 2))
    model = random_model(replace(SMALL, num_classes=0, heads=heads, final_activation="elu"), scaled=True)
    proto = export_model(model, tmp_path / "model.onnx", graph=graph)
    again, x = load(tmp_path / "model.onnx"), IMAGES.numpy()[:, :, :45, :57]
    assert again.config == model.config
    for have, want in zip(run(to_onnx(again), x), run(proto, x), strict=True):
        np.testing.assert_allclose(have, want, atol=1e-4 * np.abs(want).max())


def test_code_that_is_not_in_the_file_is_taken_to_end_alike_and_said(tmp_path: Path) -> None:
    model = load(save(tmp_path / "model.pth", Framed(activated(nn.GELU)).eval()))
    assert any("gelu behind the last norm as elsewhere" in note for note in model.notes)


def test_a_config_in_its_one_form() -> None:
    config = DenseNetConfig(hidden_activation="leaky_relu:0.01", final_activation="leaky_relu")
    assert (config.hidden_activation, config.final_activation) == ("leaky_relu", None)
    assert DenseNetConfig.from_dict(config.to_dict()) == config
    assert "hidden_activation" not in DenseNetConfig().to_dict()
    for name in ("hidden_activation", "final_activation"):
        with pytest.raises(ValueError, match=name):
            DenseNetConfig(**{name: "linear:3"})


def test_eight_bits_need_relu(tmp_path: Path) -> None:
    path = save(tmp_path / "model.pth", activated(nn.GELU))
    with pytest.raises(CannotExpress, match="ReLU"):
        export_onnx(path, tmp_path / "model.onnx", precision="int8")
    assert not (tmp_path / "model.onnx").exists()
