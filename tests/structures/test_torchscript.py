"""TorchScript, frozen or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cases import logits_of
from helpers.torchscript import (
    IMAGES,
    frozen_script,
    frozen_trace,
    frozen_unfolded,
    logits,
    network,
    rewritten,
    scripted,
    torch,
    traced,
)

from converter import convert, load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile, UnsafeFile

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("make", [scripted, traced])
def test_modules_that_are_not_frozen_keep_their_names(tmp_path: Path, make: Callable[[Any], Any]) -> None:
    module, path = network(), tmp_path / "model.pt"
    make(module).save(str(path))
    model = load(path)
    assert model.origin.layout == "torchvision"
    assert np.abs(logits_of(path, IMAGES) - logits(module)).max() < 1e-5
    convert(path, tmp_path / "back.pth", to="torchvision")
    module.load_state_dict(torch.load(tmp_path / "back.pth"))


@pytest.mark.parametrize("make", [frozen_script, frozen_trace, frozen_unfolded])
@pytest.mark.parametrize("changes", [{}, {"eps": 1e-3}, {"ceil_mode": True}], ids=str)
def test_frozen_modules_are_read_from_their_code(
    tmp_path: Path, make: Callable[[Any], Any], changes: dict[str, Any]
) -> None:
    module, path = network(**changes), tmp_path / "model.pt"
    make(module).save(str(path))
    x = np.random.default_rng(1).normal(size=(1, 3, 77, 90)).astype(np.float32)
    model = load(path)
    assert model.origin.layout == "torchscript"
    assert model.config.eps == changes.get("eps", 1e-5)
    assert model.config.stem_ceil == model.config.transition_ceil == changes.get("ceil_mode", False)
    assert np.abs(logits_of(path, x) - logits(module, x)).max() < 1e-5


def test_an_unfolded_frozen_module_is_the_module_bit_for_bit(tmp_path: Path) -> None:
    module, path = network(), tmp_path / "model.pt"
    frozen_unfolded(module).save(str(path))
    convert(path, tmp_path / "back.safetensors", to="torchvision")
    from safetensors.numpy import load_file

    state = module.state_dict()
    for name, array in load_file(tmp_path / "back.safetensors").items():
        assert np.array_equal(array, state[name].numpy()), name


class NewestFirst(torch.nn.Module):
    """kuangliu's order of concatenation, without ReLU in the transition or behind the last norm."""

    def __init__(self) -> None:
        super().__init__()
        conv, norm = torch.nn.Conv2d, torch.nn.BatchNorm2d
        self.conv0 = conv(3, 6, 3, padding=1, bias=False)
        widths = (6, 10, 7, 11)
        self.norms = torch.nn.ModuleList(norm(n) for n in widths)
        self.convs = torch.nn.ModuleList(conv(n, 4, 3, padding=1, bias=False) for n in widths)
        self.norm_t, self.conv_t = norm(14), conv(14, 7, 1, bias=False)
        self.norm, self.linear = norm(15), torch.nn.Linear(15, 5)

    def forward(self, x: Any) -> Any:
        f = torch.nn.functional
        x = self.conv0(x)
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs)):
            if i == 2:
                x = f.avg_pool2d(self.conv_t(self.norm_t(x)), 2)
            x = torch.cat([conv(f.relu(norm(x))), x], 1)
        return self.linear(f.adaptive_avg_pool2d(self.norm(x), 1).flatten(1))


def test_what_the_code_says_beside_the_weights_is_honoured(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module, path = NewestFirst(), tmp_path / "model.pt"
    for name, tensor in module.state_dict().items():
        if "norm" in name and tensor.dtype == torch.float32:
            tensor.uniform_(0.5, 1.5)
    frozen_trace(module.eval()).save(str(path))
    config = load(path).config
    assert (config.transition_relu, config.final_relu, config.stem, config.bottleneck) == (False, False, "cifar", False)
    assert np.abs(logits_of(path, IMAGES) - logits(module)).max() < 1e-5


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax"])
@pytest.mark.parametrize("make", [frozen_trace, frozen_script])
def test_frozen_modules_of_timm(tmp_path: Path, make: Callable[[Any], Any], pool: str) -> None:
    timm = pytest.importorskip("timm.models.densenet")
    blur = pytest.importorskip("timm.layers").BlurPool2d
    if make is frozen_script and pool != "avg":
        pytest.skip("timm's other pools cannot be scripted")
    torch.manual_seed(2)
    path = tmp_path / "model.pt"
    module = timm.DenseNet(4, (2, 1, 2), 5, bn_size=2, stem_type="deep", aa_layer=blur, global_pool=pool).eval()
    make(module).save(str(path))
    config = load(path).config
    assert (config.stem_pool, config.global_pool) == ("blur", pool)
    assert np.abs(logits_of(path, IMAGES) - logits(module)).max() < 1e-5


def test_another_network_is_refused_by_operator(tmp_path: Path) -> None:
    resnet = pytest.importorskip("torchvision.models.resnet")
    path = tmp_path / "model.pt"
    frozen_trace(resnet.resnet18(num_classes=3).eval()).save(str(path))
    with pytest.raises(NotADenseNet, match=r"torch\._convolution .* and torch\.add"):
        load(path)


def test_weights_packed_for_a_processor_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.optimize_for_inference(scripted(network())).save(str(path))
    with pytest.raises(NotADenseNet, match="optimised for one processor"):
        load(path)


@pytest.mark.parametrize(
    "code",
    [
        "class DenseNet(Module):\n  def forward(self, x):\n    return (",
        "class DenseNet(Module):\n  def forward(self, x):\n    return " + "(" * 5000 + "x" + ")" * 5000,
        "class DenseNet(Module):\n  def forward(self, x):\n    return " + "-" * 20000 + "1",
        "class Other(Module):\n  pass\n",
        "class DenseNet(Module):\n  def forward(self, x, y):\n    return x",
        "class DenseNet(Module):\n  def forward(self, x):\n    return __import__('os').system('false')",
        "",
        "\0",
    ],
    ids=["syntax", "nested", "signs", "other class", "two inputs", "code", "empty", "nul"],
)
def test_code_is_text_and_nothing_else(tmp_path: Path, code: str) -> None:
    path = tmp_path / "model.pt"
    frozen_trace(network()).save(str(path))
    hostile = rewritten(path, lambda name, data: code.encode() if name.endswith(".py") else data)
    with pytest.raises(ConverterError):
        load(hostile)


def test_a_storage_that_is_too_short(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    frozen_trace(network()).save(str(path))
    short = rewritten(path, lambda name, data: data[:-4] if name.endswith("constants/0") else data)
    with pytest.raises(UnreadableFile, match="are needed"):
        load(short)


def test_a_pickle_that_asks_for_code(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    frozen_trace(network()).save(str(path))
    evil = b"\x80\x02cos\nsystem\nX\x05\x00\x00\x00false\x85R."
    for member in ("data.pkl", "constants.pkl"):
        hostile = rewritten(path, lambda name, data, member=member: evil if name.endswith(member) else data)
        with pytest.raises(UnsafeFile, match=r"os\.system"):
            load(hostile)
