"""PyTorch's own graphs: what exported programs, TorchScript and GraphModules say they compute."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from helpers.surgery import put, settled
from helpers.torch_graphs import (
    IMAGES,
    SAVERS,
    Saver,
    decomposed,
    exported,
    frozen,
    graph_module,
    read,
    scripted,
    small,
    traced,
)
from helpers.torchscript import rewritten, torch

from converter import load
from converter.core.errors import ConverterError, NotADenseNet

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
nn, functional = torch.nn, torch.nn.functional

every = pytest.mark.parametrize("save", SAVERS, ids=lambda save: save.__name__)


class Own(nn.Module):
    """torchvision's network with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        made = small()
        self.features, self.classifier = made.features, made.classifier
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1))
        self.eval()

    def front(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        return functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1)

    def behind(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = functional.relu(self.features(self.front(x)), inplace=True)
        return self.behind(self.classifier(self.pool(features)))


# -- plain ones ----------------------------------------------------------------------------


@pytest.mark.parametrize("save", [*SAVERS, decomposed], ids=lambda save: save.__name__)
def test_names_are_kept_and_nothing_is_assumed(tmp_path: Path, save: Saver) -> None:
    module, path = small(), tmp_path / "model.pt2"
    save(module, IMAGES, path)
    found = read(path, module)
    assert (found.origin.layout, found.notes) == ("torchvision", ())


def test_memory_with_channels_last(tmp_path: Path) -> None:
    """Decomposed, its pooling ends in ``as_strided``."""
    module, path = small().to(memory_format=torch.channels_last), tmp_path / "model.pt2"
    decomposed(module, IMAGES.to(memory_format=torch.channels_last), path)
    assert "as_strided" in zipfile.ZipFile(path).read("model/models/model.json").decode()
    assert read(path, module).notes == ()


@every
def test_settings_come_from_the_graph(tmp_path: Path, save: Saver) -> None:
    module, path = small(), tmp_path / "model.pt2"
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.eps = 1e-3
        if isinstance(each, nn.MaxPool2d | nn.AvgPool2d):
            each.ceil_mode = True
    put(module, "features.transition1.relu", nn.Identity())
    module.features.conv0.stride = (1, 1)
    save(module, IMAGES, path)
    config = read(path, module).config
    assert (config.eps, config.stem_ceil, config.transition_ceil, config.stem_stride) == (1e-3, True, True, 1)
    assert not config.transition_relu


def test_branches_and_loops_of_scripted_modules(tmp_path: Path) -> None:
    module, path = small(memory_efficient=True, drop_rate=0.2), tmp_path / "model.pt"
    scripted(module, IMAGES, path)
    assert read(path, module).notes == ()


@pytest.mark.parametrize("save", [scripted, graph_module], ids=lambda save: save.__name__)
def test_modules_saved_in_training_mode(tmp_path: Path, save: Saver) -> None:
    module, path = small(drop_rate=0.2 if save is scripted else 0.0), tmp_path / "model.pt"
    save(module.train(), IMAGES, path)
    assert any("saved in training mode" in note for note in read(path, module.eval()).notes)


@pytest.mark.parametrize("save", [exported, traced], ids=lambda save: save.__name__)
def test_graphs_made_in_training_mode_are_refused(tmp_path: Path, save: Saver) -> None:
    path = tmp_path / "model.pt2"
    save(small().train(), IMAGES, path)
    with pytest.raises(NotADenseNet, match="training mode"):
        load(path)


@pytest.mark.parametrize("dims", [1, 2, 3])
@every
def test_networks_of_monai(tmp_path: Path, save: Saver, dims: int) -> None:
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    given = {"init_features": 4, "growth_rate": 2, "block_config": (1, 1), "bn_size": 2}
    module = settled(nets.DenseNet(spatial_dims=dims, in_channels=1, out_channels=3, **given))
    x, path = torch.rand(2, 1, *(40,) * dims), tmp_path / "model.pt2"
    save(module, x, path)
    assert read(path, module, x).config.spatial_dims == dims


# -- surgery -------------------------------------------------------------------------------

MODULES = {
    "stem dilated": ("features.conv0", lambda: nn.Conv2d(3, 4, 7, 2, 3, dilation=2, bias=False), "dilated"),
    "stem unpadded": ("features.conv0", lambda: nn.Conv2d(3, 4, 7, 2, bias=False), "padding 0"),
    "average in the stem": ("features.pool0", lambda: nn.AvgPool2d(3, 2, 0), "padded by 1"),
    "2x2 in the stem": ("features.pool0", lambda: nn.MaxPool2d(2, 2), "2x2 window"),
    "no ReLU in the stem": ("features.relu0", nn.Identity, "stem"),
    "leaky": ("features.relu0", nn.LeakyReLU, "the first activation is leaky_relu"),
    "no ReLU in a layer": ("features.denseblock1.denselayer1.relu2", nn.Identity, "a layer"),
    "ELU": ("features.denseblock1.denselayer1.relu1", nn.ELU, "elu|ELU"),
    "no pooling in a transition": ("features.transition1.pool", nn.Identity, "transition"),
    "tanh behind": ("classifier", lambda: nn.Sequential(nn.Linear(5, 3), nn.Tanh()), "anh"),
    "ReLU behind": ("classifier", lambda: nn.Sequential(nn.Linear(5, 3), nn.ReLU()), "relu|ReLU"),
}


@pytest.mark.parametrize("change", MODULES)
@every
def test_what_a_densenet_does_not_have_is_refused_by_name(tmp_path: Path, save: Saver, change: str) -> None:
    place, make, named = MODULES[change]
    module, path = small(), tmp_path / "model.pt2"
    if place == "classifier":
        module.classifier.in_features = 5
    save(put(module, place, _fitting(module, make())), IMAGES, path)
    with pytest.raises(NotADenseNet, match=named):
        load(path)


def _fitting(module: Any, new: Any) -> Any:
    """A head for as many features as there are."""
    if isinstance(new, nn.Sequential):
        new[0] = nn.Linear(module.features.norm5.num_features, 3)
    return new


@every
def test_a_border_below_all_numbers(tmp_path: Path, save: Saver) -> None:
    """timm's pooling by TensorFlow's rule pads by it."""
    module, path = small(), tmp_path / "model.pt2"
    put(module, "features.pool0", nn.Sequential(nn.ConstantPad2d(1, -torch.inf), nn.MaxPool2d(3, 2)))
    save(module, IMAGES, path)
    assert read(path, module).config.padding == "symmetric"


class Rescaled(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        return x / 255


class Reversed(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, [2, 1, 0]]


class Flipped(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(1).to(torch.float32)


class Largest(Own):
    def pool(self, x: torch.Tensor) -> torch.Tensor:
        return x.amax(dim=[2, 3])


class Mean(Own):
    def pool(self, x: torch.Tensor) -> torch.Tensor:
        y = x.mean(dim=(-2, -1), keepdim=True)
        return y.view(y.size(0), -1)


class Temperature(Own):
    def behind(self, x: torch.Tensor) -> torch.Tensor:
        return x / 1.5 + 0.25


@pytest.mark.parametrize("kind", [Rescaled, Reversed, Flipped, Largest, Mean, Temperature])
@every
def test_what_can_be_carried_is(tmp_path: Path, save: Saver, kind: Any) -> None:
    module, path = kind(), tmp_path / "model.pt2"
    save(module, IMAGES, path)
    read(path, module)


class Normalised(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.std


class InPlace(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x.sub_(self.mean).div_(self.std)
        return x


class Numbers(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        mean = torch.tensor([0.4, 0.5, 0.6], dtype=x.dtype)[None, :, None, None]
        return (x - mean) / torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1)


@pytest.mark.parametrize("kind", [Normalised, InPlace, Numbers])
@every
def test_a_normalisation_is_recorded(tmp_path: Path, save: Saver, kind: Any) -> None:
    module, path = kind(), tmp_path / "model.pt2"
    if kind is Numbers and save is graph_module:
        pytest.skip("torch.fx cannot follow an index of None")
    save(module, IMAGES, path)
    found = read(path, module, images=(IMAGES - module.mean) / module.std)
    assert found.images.preprocess is not None
    assert found.images.preprocess.mean == pytest.approx((0.4, 0.5, 0.6))
    assert found.images.preprocess.std == pytest.approx((0.2, 0.3, 0.4))


class ChannelsLast(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 3, 1, 2) / 255.0


@every
def test_images_with_channels_last(tmp_path: Path, save: Saver) -> None:
    module, path = ChannelsLast(), tmp_path / "model.pt2"
    x = IMAGES.permute(0, 2, 3, 1).contiguous()
    save(module, x, path)
    assert any("NHWC" in note for note in read(path, module, x, IMAGES).notes)


class Softmax(Own):
    def behind(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, dim=1)


class Several(Own):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.relu(self.features(x))
        return self.classifier(self.pool(features)), features


@every
def test_probabilities_and_further_results_are_said(tmp_path: Path, save: Saver) -> None:
    module, path = Softmax(), tmp_path / "model.pt2"
    save(module, IMAGES, path)
    assert any("softmax" in note and "behind the logits is left out" in note for note in load(path).notes)
    module = Several()
    save(module, IMAGES, path)
    assert any("is taken" in note for note in read(path, module).notes)


class Wrapped(Own):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features = self.features(self.front(x))
        with torch.autocast("cpu", enabled=False):
            logits = self.classifier(self.pool(torch.relu(features)))
        return logits


def test_programs_within_programs_are_followed(tmp_path: Path) -> None:
    module, path = Wrapped(), tmp_path / "model.pt2"
    exported(module, IMAGES, path)
    assert b"wrap_with_set_grad_enabled" in path.read_bytes()
    assert b"wrap_with_autocast" in path.read_bytes()
    assert not any("autocast" in note for note in read(path, module).notes)
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(tmp_path / "half.pt2", "w") as half:
        for name in plain.namelist():
            before, found, after = plain.read(name).partition(b"wrap_with_autocast")
            half.writestr(name, before + found + after.replace(b'{"as_bool": false}', b'{"as_bool": true}', 1))
    assert any("(autocast)" in note for note in load(tmp_path / "half.pt2").notes)


class Mirrored(Own):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.classifier(self.pool(torch.relu(self.features(x))))
        return (a + self.classifier(self.pool(torch.relu(self.features(x.flip(3)))))) / 2


class Shuffled(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, [1, 2, 0]]


class Bytes(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.uint8).float()


class Resized(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(x, size=[64, 64], mode="bilinear")


class SeenTwice(Own):
    """A view is changed in place, and with it what it is a view of."""

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        x.view(x.size(0), -1).mul_(2.0)
        return functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1)


class Assigned(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, 0] = 0.0
        return x


class AcrossBatch(Own):
    def behind(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, dim=0)


class Gated(Own):
    def pool(self, x: torch.Tensor) -> torch.Tensor:
        return functional.adaptive_avg_pool2d(x * torch.sigmoid(x), (1, 1)).flatten(1)


@pytest.mark.parametrize("kind", [Mirrored, Shuffled, Bytes, Resized, SeenTwice, Assigned, AcrossBatch, Gated])
@every
def test_what_is_computed_beside_is_refused(tmp_path: Path, save: Saver, kind: Any) -> None:
    module, path = kind(), tmp_path / "model.pt2"
    if kind is Assigned and save is graph_module:
        pytest.skip("torch.fx cannot follow an assignment to an item")
    save(module, IMAGES, path)
    with pytest.raises(NotADenseNet):
        load(path)


class Branched(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        if x.size(2) > 48:
            x = x * 2.0
        return x


class Checked(Own):
    def front(self, x: torch.Tensor) -> torch.Tensor:
        if x.size(2) < 32:
            raise ValueError("too small")
        return x


@pytest.mark.parametrize("save", [scripted, frozen], ids=lambda save: save.__name__)
def test_conditions(tmp_path: Path, save: Saver) -> None:
    path = tmp_path / "model.pt"
    save(Branched(), IMAGES, path)
    with pytest.raises(NotADenseNet, match=r"depends on `"):
        load(path)
    module = Checked()
    save(module, IMAGES, path)
    read(path, module)


# -- names and wishes ----------------------------------------------------------------------


def test_what_the_user_wishes_must_agree_with_the_graph(tmp_path: Path) -> None:
    module, path = small(), tmp_path / "model.pt2"
    exported(module, IMAGES, path)
    assert load(path, layout="torchvision").origin.layout == "torchvision"
    assert load(path, drop=("classifier.*",)).config.num_classes == 0
    with pytest.raises(NotADenseNet):
        load(path, layout="gpleiss")


def test_quantised_programs_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    exported(small(), IMAGES, path)
    target = b"torch.ops.quantized_decomposed.quantize_per_tensor.default"
    changed = rewritten(
        path,
        lambda name, data: data.replace(b"torch.ops.aten.cat.default", target) if name.endswith(".json") else data,
    )
    with pytest.raises(NotADenseNet, match="quantised"):
        load(changed)


CONTAINER = re.compile(r"/container(/___torch_mangle_\d+)?\.py$")
"""Where the code of a scripted Sequential is, the first one of a process and those after."""


@pytest.mark.parametrize(
    "body",
    [
        "return self.__class__.__base__.__subclasses__()",
        "return __import__('os').system('false')",
        "while True:\n      x = torch.relu(x)\n    return x",
        "return self.forward(x)",
        "l = [x]\n    for i in range(100000000):\n      l = torch.add(l, l)\n    return x",
        "return " + "(" * 300 + "x" + ")" * 300,
        "x = torch.full([1000000000], 0.5)\n    return x",
    ],
)
def test_code_is_followed_and_never_run(tmp_path: Path, body: str) -> None:
    path = tmp_path / "model.pt"
    scripted(nn.Sequential(small()), IMAGES, path)
    text = f"class Sequential(Module):\n  def forward(self, x):\n    {body}\n"
    hostile = rewritten(path, lambda name, data: text.encode() if CONTAINER.search(name) else data)
    with pytest.raises(ConverterError):
        load(hostile)
