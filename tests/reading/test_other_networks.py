"""Other networks are called what they are; names and shapes are from the real frameworks."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path

import pytest

from converter import load
from converter.core.errors import NotADenseNet
from converter.layouts import LAYOUTS
from converter.layouts.layout import Layout
from converter.reading.other_networks import other_network
from densenet.config import DenseNetConfig

torch = pytest.importorskip("torch")

TORCHVISION = {
    "resnet18": "a ResNet",
    "vgg11": "a VGG",
    "vit_b_16": "a Vision Transformer",
    "efficientnet_b0": "an EfficientNet",
    "mobilenet_v2": "a MobileNet v2",
    "swin_t": "a Swin",
    "convnext_tiny": "a ConvNeXt",
}
TIMM = {
    "efficientnet_b0": "an EfficientNet",
    "mobilenetv3_small_050": "a MobileNet v3",
    "vit_tiny_patch16_224": "a Vision Transformer",
    "swin_tiny_patch4_window7_224": "a Swin",
    "convnext_atto": "a ConvNeXt",
    "regnetx_002": "a RegNet",
}


def refusal(module: object, path: Path) -> str:
    """What is said of a network saved as safetensors: its real names and shapes, all values zero (holes of a file)."""
    shapes = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}  # type: ignore[attr-defined]
    header, at = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at := at + 4 * prod(shape)]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    with pytest.raises(NotADenseNet, match="not a DenseNet in any known layout") as error:
        load(path)
    return str(error.value)


@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        module = models.get_model(name, num_classes=5)
    assert other_network(f"model.{key}" for key in module.state_dict()).startswith(TORCHVISION[name])


@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        module = timm.create_model(name, num_classes=5)
    assert other_network(module.state_dict()).startswith(TIMM[name])


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16"])
def test_a_refusal_says_so(name: str, tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        module = models.get_model(name, num_classes=5)
    assert f"but, by its names, {TORCHVISION[name]}" in refusal(module, tmp_path / "model.safetensors")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_no_densenet_is_called_another_network(layout: Layout) -> None:
    config = DenseNetConfig(block_config=(6, 6, 6, 6), growth_rate=4, init_features=8)
    stored = layout.expand(config).values()
    assert other_network(key for _, keys in stored for key in keys) == ""


def test_a_graph_of_another_network_is_called_so_by_its_names(tmp_path: Path) -> None:
    resnet = pytest.importorskip("torchvision.models.resnet")
    module = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=3).eval()
    torch.jit.trace(module, torch.zeros(1, 3, 64, 64)).save(tmp_path / "traced.pt")
    with pytest.raises(NotADenseNet, match=r"which a DenseNet does not have; by its names it is a ResNet") as error:
        load(tmp_path / "traced.pt")
    assert "\n" not in str(error.value)
