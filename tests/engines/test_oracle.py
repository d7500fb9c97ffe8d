"""PyTorch in float64, and what starting the engines loads."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from converter.engines.torch import torch_engine
from densenet import DenseNet, DenseNetConfig

ENDS = {
    "bottlenecks": DenseNetConfig(growth_rate=8, init_features=16, block_config=(2, 2), num_classes=5),
    "CIFAR": DenseNetConfig(
        growth_rate=12, init_features=24, block_config=(4, 4), stem="cifar", bottleneck=False, num_classes=5
    ),
    "volumes": DenseNetConfig(
        growth_rate=8, init_features=16, block_config=(1, 1), spatial_dims=3, in_channels=1, num_classes=5
    ),
    "signals": DenseNetConfig(
        growth_rate=8, init_features=16, block_config=(2, 2), spatial_dims=1, in_channels=1, num_classes=5
    ),
}
SIZES = {"bottlenecks": (131, 150), "CIFAR": (45, 38), "volumes": (46, 45, 41), "signals": (8200,)}


@pytest.mark.parametrize("name", ENDS)
def test_float64_is_pytorchs_own_to_the_last_places(name: str) -> None:
    """Two images of odd sizes, on which convolutions are added up in another order than PyTorch's."""
    config = ENDS[name]
    torch.manual_seed(0)
    module = DenseNet(config).eval()
    for key, values in module.state_dict().items():
        if key.endswith(("running_mean", "bias", "running_var")):
            torch.nn.init.uniform_(values, 0.5 if key.endswith("var") else -1.0, 2.0)
    x = np.random.default_rng(0).standard_normal((2, config.in_channels, *SIZES[name]), np.float32)
    maps: list[np.ndarray] = []
    module.norm.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0].numpy()))
    found = torch_engine(module, double=True)(x)
    with torch.inference_mode():
        expected = module(torch.from_numpy(x).double()).numpy()
    assert found.dtype == np.float64
    for ours, own in ((found, expected), (maps[0], maps[1])):
        assert ours.shape == own.shape
        assert np.abs(ours - own).max() <= 1e-13 * np.abs(own).max()
    assert not np.array_equal(maps[0], maps[1])  # else nothing was computed in another way


def test_torchvisions_network_does_not_wait_for_pytorchs_compiler() -> None:
    """Nor is it lost: torchvision's pooling of regions, which asks it something, gets the answer."""
    code = """
import sys, types
from converter.engines.networks import torchvision_network
from densenet import DenseNetConfig
torchvision_network(DenseNetConfig(block_config=(1, 1), num_classes=2))
assert not any(name.startswith("torch._dynamo") for name in sys.modules)
compiler = sys.modules["torch._dynamo.utils"] = types.ModuleType("torch._dynamo.utils")  # the real one takes seconds
compiler.is_compile_supported = lambda device: f"asked about {device}"
print(sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "asked about cpu"), done.stderr
