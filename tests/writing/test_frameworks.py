"""The way back: what we write, the real frameworks load strictly, and compute the same."""

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.networks import random_model, save

from converter import convert, load
from converter.layouts import layout_named
from converter.writing.in_layout import in_layout
from densenet import DenseNetConfig

torch = pytest.importorskip("torch")
CONFIG = DenseNetConfig(growth_rate=8, block_config=(2, 3, 2), init_features=16, num_classes=5)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of ours with random statistics, saved in the library layout."""
    path = tmp_path_factory.mktemp("source") / "ours.safetensors"
    return save(random_model(CONFIG, scaled=True), path)


def images(channels: int = 3, space: tuple[int, ...] = (70, 65)) -> "torch.Tensor":
    return torch.randn(2, channels, *space, generator=torch.Generator().manual_seed(1))


def ours(path: Path, x: "torch.Tensor") -> np.ndarray:
    from converter.engines.torch import torch_engine, torch_module

    return torch_engine(torch_module(load(path)))(x.numpy())


def same(theirs: Any, path: Path, x: "torch.Tensor") -> None:
    with torch.no_grad():
        got = theirs.eval()(x).numpy()
    expected = ours(path, x)
    assert np.abs(got - expected).max() <= 3e-6 * np.abs(expected).max()


def test_torchvision(source: Path, tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    convert(source, tmp_path / "a.pth", to="torchvision", labels="abcde", activation="sigmoid")
    model = torchvision.models.DenseNet(8, (2, 3, 2), 16, num_classes=5)
    for options in ({"weights_only": True}, {"mmap": True}, {"weights_only": False}):
        model.load_state_dict(torch.load(tmp_path / "a.pth", **options), strict=True)
    same(model, source, images())


def test_torchvisions_own_loader_takes_the_legacy_names(source: Path, tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision").models
    convert(source, tmp_path / "a-00000000.pth", to="torchvision-legacy")

    class Weights:
        @staticmethod
        def get_state_dict(**_: Any) -> Any:
            return torch.load(tmp_path / "a-00000000.pth", weights_only=True)

    model = models.DenseNet(8, (2, 3, 2), 16, num_classes=5)
    models.densenet._load_state_dict(model, Weights, progress=False)  # type: ignore[arg-type]
    same(model, source, images())


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_timm(suffix: str, source: Path, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    convert(source, tmp_path / f"a.{suffix}", to="timm")
    model = timm.models.densenet.DenseNet(growth_rate=8, block_config=(2, 3, 2), num_classes=5)
    timm.models.load_checkpoint(model, str(tmp_path / f"a.{suffix}"), strict=True)
    same(model, source, images())


@pytest.mark.parametrize("dims", [2, 3])
def test_monai(dims: int, tmp_path: Path) -> None:
    monai = pytest.importorskip("monai")
    config = DenseNetConfig(
        growth_rate=6, block_config=(2, 2), init_features=12, num_classes=4, in_channels=1, spatial_dims=dims
    )
    path = tmp_path / "ours.safetensors"
    save(random_model(config, scaled=True), path)
    convert(path, tmp_path / "a.pt", to="monai")
    model = monai.networks.nets.DenseNet(
        spatial_dims=dims, in_channels=1, out_channels=4, init_features=12, growth_rate=6, block_config=(2, 2)
    )
    model.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True), strict=True)
    same(model, path, images(1, (40, 44, 36)[:dims]))


def test_torchxrayvision(tmp_path: Path) -> None:
    xrv = pytest.importorskip("torchxrayvision")
    config = DenseNetConfig(growth_rate=8, block_config=(2, 2), init_features=16, num_classes=18, in_channels=1)
    path = tmp_path / "ours.safetensors"
    save(random_model(config, scaled=True), path)
    convert(path, tmp_path / "a.pt", to="torchvision")
    model = xrv.models.DenseNet(
        growth_rate=8, block_config=(2, 2), num_init_features=16, num_classes=18, in_channels=1, weights=None
    )
    model.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True), strict=True)
    model.apply_sigmoid = False
    model.op_threshs = None
    same(model, path, images(1, (224, 224)))


def test_mmpretrains_wrapper(source: Path, tmp_path: Path) -> None:
    """mmpretrain does not install beside a current torch: the file's form is what can be checked here."""
    convert(source, tmp_path / "a.pth", to="mmpretrain")
    checkpoint = torch.load(tmp_path / "a.pth", weights_only=True)
    assert set(checkpoint) == {"meta", "state_dict"}
    assert checkpoint["state_dict"]["head.fc.weight"].shape == (5, CONFIG.num_features)
    assert "backbone.transitions.2.0.running_var" in checkpoint["state_dict"]


def test_keras(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    pytest.importorskip("keras")
    config = DenseNetConfig(block_config=(1, 2, 1, 1), num_classes=4)
    path = tmp_path / "ours.safetensors"
    model = random_model(config, scaled=True)
    save(model, path)
    convert(path, tmp_path / "a.h5", to="keras")
    theirs = importlib.import_module("keras.src.applications.densenet").DenseNet(  # the public names fix the depth
        [1, 2, 1, 1], weights=None, classes=4, classifier_activation=None, input_shape=(64, 64, 3)
    )
    theirs.load_weights(str(tmp_path / "a.h5"))
    x = images(space=(64, 64))
    got = np.asarray(theirs.predict(x.permute(0, 2, 3, 1).numpy(), verbose=0))
    expected = ours(path, x)
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
    assert in_layout(model, layout_named("keras")).notes  # eps is not Keras': folded, and said so
