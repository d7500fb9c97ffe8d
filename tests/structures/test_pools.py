"""Networks that pool otherwise behind the stem and in the transitions, as frameworks save them and as we do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.keras import layers_of, rewritten_zip
from helpers.networks import SMALL, export_model, random_model
from helpers.surgery import computes_as, network, put, saved_whole
from helpers.torch_files import save
from helpers.torch_graphs import exported, graph_module, traced
from helpers.torchscript import torch
from helpers.variants import run, torch_logits

from converter import load
from converter.core.errors import NotADenseNet
from converter.exporters.onnx import to_onnx
from densenet.config import DenseNetConfig

nn = torch.nn
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

IMAGES = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 72, 72)).astype(np.float32))
OURS: dict[str, dict[str, Any]] = {
    "averages, maxima": {"stem_pool": "avg", "transition_pool": "max"},
    "a border of zeros": {"stem_pool": "zero_max", "hidden_activation": "elu", "stem_pool_stride": (1, 2)},
    "without transition ReLUs": {"transition_pool": "max", "transition_relu": False, "transition_ceil": True},
}


def changed() -> Any:
    """torchvision's network with averages behind the stem and maxima in the transitions."""
    model = put(network(), "features.pool0", nn.AvgPool2d(3, 2, 1))
    return put(model, "features.transition1.pool", nn.MaxPool2d(2))


class Coloured(nn.Module):
    """Something done to images before a network."""

    def __init__(self, colour: Any, network: Any) -> None:
        super().__init__()
        self.colour, self.network = colour, network

    def forward(self, x: Any) -> Any:
        """Logits."""
        return self.network(self.colour(x))


def onnx_file(model: Any, images: Any, path: Path) -> None:
    torch.onnx.export(model, (images,), str(path), dynamo=False)


@pytest.mark.parametrize("saver", [exported, traced, graph_module])
def test_graphs(saver: Any, tmp_path: Path) -> None:
    model = changed()
    saver(model, IMAGES, tmp_path / "model.pt2")
    config = computes_as(tmp_path / "model.pt2", model).config
    assert (config.stem_pool, config.transition_pool) == ("avg", "max")


def test_a_module_saved_whole(tmp_path: Path) -> None:
    config = saved_whole(changed(), tmp_path / "model.pth").config
    assert (config.stem_pool, config.transition_pool) == ("avg", "max")


REFUSED = {
    "features.pool0": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AvgPool2d(3, 2, 1, divisor_override=5)),
    "features.transition1.pool": (nn.MaxPool2d(2, dilation=2), nn.MaxPool2d(2, padding=1)),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("at", [0, 1])
def test_other_borders_divisors_and_dilations_are_refused(name: str, at: int, tmp_path: Path) -> None:
    model = put(network(), name, REFUSED[name][at])
    for saver in (exported, save):
        path = tmp_path / saver.__name__
        saver(path, model) if saver is save else saver(model, IMAGES, path)
        with pytest.raises(NotADenseNet, match="pool"):
            load(path)


@pytest.mark.parametrize("graph", ["exact", "fused"])
@pytest.mark.parametrize("changes", OURS.values(), ids=OURS)
def test_our_own_files_read_back(changes: dict[str, Any], graph: str, tmp_path: Path) -> None:
    model = random_model(replace(SMALL, **changes), scaled=True)
    proto = export_model(model, tmp_path / "model.onnx", graph=graph)
    again, x = load(tmp_path / "model.onnx"), IMAGES.numpy()[:, :, :45, :57]
    assert again.config == model.config
    want = torch_logits(model, x)
    for one in (proto, to_onnx(again)):
        np.testing.assert_allclose(run(one, x)[0], want, rtol=1e-4, atol=1e-5)


def test_a_border_of_zeros_is_none_where_nothing_is_below() -> None:
    assert DenseNetConfig(stem_pool="zero_max").stem_pool == "max"
    with pytest.raises(ValueError, match="padded by one"):
        DenseNetConfig(stem_pool="avg", padding="same")


def _with_elu(config: Any) -> Any:
    for layer in layers_of(config, "Activation"):
        layer["config"]["activation"] = "elu"
    return config


def _with_averages(config: Any) -> Any:
    (pool,) = layers_of(config, "MaxPooling2D")
    pool["class_name"] = "AveragePooling2D"
    return config


@pytest.mark.parametrize(("change", "pool"), [(_with_elu, "zero_max"), (_with_averages, "avg")])
def test_keras_has_a_layer_of_zeros_before_it(change: Any, pool: str, tmp_path: Path) -> None:
    """With ELU zeros are not below everything; tools/surgery compares with Keras itself."""
    assert load(rewritten_zip(tmp_path / "model.keras", change)).config.stem_pool == pool


GREY = {
    "repeated": lambda x: x.repeat(1, 3, 1, 1),
    "joined": lambda x: torch.cat([x, x, x], 1),
}


@pytest.mark.parametrize("name", GREY)
@pytest.mark.parametrize("saver", [exported, traced, graph_module, onnx_file])
def test_grey_images_made_coloured(name: str, saver: Any, tmp_path: Path) -> None:
    model = Coloured(GREY[name], network()).eval()
    saver(model, IMAGES[:, :1].contiguous(), tmp_path / "model")
    assert computes_as(tmp_path / "model", model).config.in_channels == 1


def test_images_of_several_channels_joined_twice_are_refused(tmp_path: Path) -> None:
    model = Coloured(
        lambda x: torch.cat([x, x], 1), put(network(), "features.conv0", nn.Conv2d(6, 8, 7, 2, 3, bias=False))
    )
    exported(model.eval(), IMAGES, tmp_path / "model.pt2")
    with pytest.raises(NotADenseNet, match="images as they are"):
        load(tmp_path / "model.pt2")
