"""Modules pickled whole: every class and attribute counts, around the network too."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from helpers.surgery import computes_as, network, put, saved_whole, settled
from helpers.torch_files import save
from helpers.user_modules import Around, Normalizer, Scaled, Turned, hook

from converter import load
from converter.core.errors import NotADenseNet, UnsafeFile

torch = pytest.importorskip("torch")
nn = torch.nn
POOL, TRANSITION = "features.pool0", "features.transition1.pool"


@pytest.mark.parametrize(
    ("place", "module"),
    [
        (POOL, nn.Identity()),
        (POOL, nn.MaxPool2d(3, 1, 1)),
        (POOL, nn.MaxPool2d(3, (2, 1), 1)),
        (POOL, nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
        (TRANSITION, nn.Identity()),
        (TRANSITION, nn.AvgPool2d((2, 1))),
        (TRANSITION, nn.AvgPool2d(2, ceil_mode=True)),
        ("features.transition1.relu", nn.Identity()),
        ("features.conv0", nn.Conv2d(3, 8, 3, 1, 1, bias=False)),
        ("features.conv0", nn.Conv2d(3, 8, 5, (1, 2), 2)),
    ],
)
def test_what_the_config_can_say_is_read_from_attributes(place: str, module: Any, tmp_path: Path) -> None:
    saved_whole(put(network(), place, module), tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("place", "module", "said"),
    [
        (POOL, nn.AvgPool2d(3, 2, 1, count_include_pad=False), "pool0 has a divisor or counts no border"),
        (POOL, nn.MaxPool2d(2, 2), "pool0 has kernel_size 2"),
        (TRANSITION, nn.MaxPool2d(2, dilation=2), "pool has padding, dilation"),
        (TRANSITION, nn.AvgPool2d(3, 2, 1), "kernel_size 3"),
        ("features.relu0", nn.LeakyReLU(), "relu1 is a ReLU, behind a leaky_relu"),
        ("features.relu0", nn.Identity(), "relu0 is a Identity"),
        ("features.denseblock1.denselayer2.relu2", nn.Identity(), "relu2 is a Identity"),
        ("features.denseblock1.denselayer2.relu2", nn.ReLU6(), "relu2 is a ReLU6"),
        ("features.norm0", nn.Identity(), "norm0"),
        ("features.conv0", nn.Conv2d(3, 8, 7, 2, 0, bias=False), "conv0 has padding"),
        ("classifier", nn.Sequential(nn.LayerNorm(14, elementwise_affine=False), nn.Linear(14, 3)), "LayerNorm"),
        ("classifier", nn.Sequential(nn.Linear(14, 3), nn.ReLU()), "behind the logits"),
    ],
)
def test_what_a_densenet_does_not_have_is_refused_by_name(place: str, module: Any, said: str, tmp_path: Path) -> None:
    model = network(block_config=(2, 1))
    if place == "classifier":
        width = model.classifier.in_features
        module = nn.Sequential(
            *(type(m)(width, elementwise_affine=False) if isinstance(m, nn.LayerNorm) else m for m in module)
        )
        module = nn.Sequential(*(nn.Linear(width, 3) if isinstance(m, nn.Linear) else m for m in module))
    with pytest.raises(NotADenseNet, match=said):
        load(save(tmp_path / "a.pth", put(model, place, module)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: nn.Sequential(nn.AvgPool2d(2), m), "0 is a AvgPool2d"),
        (lambda m: nn.Sequential(nn.Upsample(scale_factor=2), m), "0 is a Upsample"),
        (lambda m: nn.Sequential(Scaled(), m), "0 is a helpers.user_modules.Scaled"),
        (lambda m: nn.Sequential(m, nn.ReLU()), "1 is a ReLU"),
        (lambda m: nn.Sequential(m, nn.Softmax(0)), "1 is a Softmax over dim 0, not over the classes"),
        (lambda m: put(m, "classifier", nn.Sequential(m.classifier, nn.LogSoftmax(0))), "a LogSoftmax over dim 0"),
        (lambda m: Around(m, act=nn.SiLU()), "act is a SiLU"),
        (lambda m: Around(m, a=nn.AdaptiveAvgPool2d(1), b=nn.AdaptiveMaxPool2d(1)), "joined"),
    ],
)
def test_modules_around_the_network_are_never_skipped(change: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(NotADenseNet, match=said):
        load(save(tmp_path / "a.pth", change(network())))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: nn.Sequential(m.features, nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), m.classifier),
        lambda m: nn.Sequential(m.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), m.classifier),
        lambda m: nn.Sequential(m.features, nn.AdaptiveAvgPool2d(1), nn.ReLU(), nn.Flatten(), m.classifier),
        lambda m: nn.Sequential(m.features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Tanh(), m.classifier),
        lambda m: nn.Sequential(nn.Identity(), m),
        nn.SyncBatchNorm.convert_sync_batchnorm,
        lambda m: Around(m, crit=nn.CrossEntropyLoss(torch.ones(3)), drop=nn.Dropout()),
        torch.compile,
    ],
)
def test_sequences_wrappers_and_losses(change: Any, tmp_path: Path) -> None:
    saved_whole(change(network()).eval(), tmp_path / "a.pth")


def test_frozen_norms(tmp_path: Path) -> None:
    frozen_norm = pytest.importorskip("torchvision").ops.FrozenBatchNorm2d
    model = network()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            frozen = frozen_norm(module.num_features, module.eps)
            frozen.load_state_dict({k: v for k, v in module.state_dict().items() if "num" not in k})
            put(model, name, frozen)
    saved_whole(model, tmp_path / "a.pth")


@pytest.mark.parametrize("front", ["torchvision", "own"])
def test_a_normalisation_in_front_is_recorded_and_said(front: str, tmp_path: Path) -> None:
    transforms = pytest.importorskip("torchvision").transforms
    model = network()
    first = Normalizer() if front == "own" else transforms.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    path = save(tmp_path / "a.pth", nn.Sequential(first, model))
    found = computes_as(path, model)  # which takes prepared images
    assert found.images.preprocess is not None
    assert found.images.preprocess.mean == pytest.approx((0.4, 0.5, 0.6))
    assert any("images must be normalised before" in note for note in found.notes)


def test_what_follows_the_logits_and_whose_code_is_not_known_is_said(tmp_path: Path) -> None:
    model = network()
    found = computes_as(save(tmp_path / "a.pth", nn.Sequential(model, nn.Softmax(1))), model)
    assert any("Softmax behind the classifier" in note for note in found.notes)
    found = computes_as(save(tmp_path / "b.pth", Around(model)), model)
    assert any("the code of helpers.user_modules.Around is not in the file" in note for note in found.notes)
    model.classifier.register_forward_hook(hook)
    found = load(save(tmp_path / "c.pth", model))
    assert any("hooks that are not run" in note for note in found.notes)


def test_an_error_shows_the_ends_of_very_long_names(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    for name in ("features." + "x" * 5000 + ".end", "features." + "x y " * 2000 + ".end"):
        torch.save({**network().state_dict(), name: torch.zeros(3, 3)}, path)
        with pytest.raises(NotADenseNet) as caught:
            load(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: nearly")
        assert "..." in message
        assert len(message) <= 2000


def test_a_class_of_ones_own_inside_the_network_is_named(tmp_path: Path) -> None:
    model = network()
    put(model, "features.denseblock1", Turned(model.features.denseblock1))
    notes = load(save(tmp_path / "a.pth", model)).notes
    assert any(
        "the code of helpers.user_modules.Turned is not in the file" in n and "concatenation" in n for n in notes
    )
    assert not any("code of" in note for note in load(save(tmp_path / "b.pth", network())).notes)


def test_one_module_in_several_places(tmp_path: Path) -> None:
    model = network(block_config=(2, 2))
    first, second = model.features.denseblock1.values()
    second.conv2, second.relu1 = first.conv2, first.relu2
    saved_whole(model, tmp_path / "a.pth")
    relu = nn.ReLU()
    for block in (model.features.denseblock1, model.features.denseblock2):
        for layer in block.values():
            layer.relu1 = layer.relu2 = relu
    saved_whole(model, tmp_path / "b.pth")


def test_what_stands_for_a_module(tmp_path: Path) -> None:
    model = network()
    for content in (model.state_dict, {"state_dict": model.state_dict, "epoch": 1}, {"model": torch.compile(model)}):
        computes_as(save(tmp_path / "a.pth", content), model)
    computes_as(save(tmp_path / "b.pth", torch.fx.symbolic_trace(model)), model)
    with pytest.raises(NotADenseNet, match="GraphModule"):  # the one of two that is meant is not known
        load(save(tmp_path / "c.pth", {"a": torch.fx.symbolic_trace(model), "b": torch.fx.symbolic_trace(model)}))


@pytest.mark.parametrize(
    "arguments",
    [
        {"global_pool": "max"},
        {"global_pool": "catavgmax"},
        {"global_pool": "avgmax"},
        {"stem_type": "deep"},
        {"num_classes": 0},
        {"act_layer": "silu"},
    ],
    ids=str,
)
def test_timm(arguments: dict[str, Any], tmp_path: Path) -> None:
    densenet = pytest.importorskip("timm.models.densenet").DenseNet
    model = settled(densenet(**{"growth_rate": 4, "block_config": (2, 1), "bn_size": 2, "num_classes": 3, **arguments}))
    saved_whole(model, tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("dims", "place", "module"),
    [
        (2, "class_layers.pool", nn.AdaptiveMaxPool2d(1)),
        (2, "class_layers.relu", nn.Identity()),
        (3, "features.pool0", nn.MaxPool3d(3, (1, 2, 2), 1)),
        (3, "features.transition1.pool", nn.AvgPool3d((1, 2, 2))),
        (1, "features.pool0", nn.MaxPool1d(3, 2, 1)),
    ],
)
def test_monai(dims: int, place: str, module: Any, tmp_path: Path) -> None:
    densenet = pytest.importorskip("monai.networks.nets").DenseNet
    model = settled(densenet(dims, 1, 3, init_features=8, growth_rate=4, block_config=(2, 1), bn_size=2))
    saved_whole(put(model, place, module), tmp_path / "a.pth")


@pytest.mark.parametrize(
    "name", ["code.models", "signal", "profile", "trace.nets", "resource", "inspect.nets", "io.net"]
)
def test_packages_named_like_the_standard_librarys_are_no_attacks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    module = types.ModuleType(name)
    cls = type("Net", (type(model),), {"__module__": name})
    module.Net = cls  # type: ignore[attr-defined]
    if "." in name:
        monkeypatch.setitem(sys.modules, name.partition(".")[0], types.ModuleType(name.partition(".")[0]))
    monkeypatch.setitem(sys.modules, name, module)
    model.__class__ = cls
    path = save(tmp_path / "a.pth", model)
    monkeypatch.undo()
    computes_as(path, model)


@pytest.mark.parametrize(
    "text",
    [
        b"ccode\nInteractiveInterpreter\n)R.",
        b"cprofile\nrun\n(S'1'\ntR.",
        b"csignal\nraise_signal\n(I9\ntR.",
        b"cinspect\nsys.modules\n.",
        b"ccommands\ngetoutput\n(S'id'\ntR.",
        b"ctrace\nTrace\n)R.",
    ],
)
def test_requests_to_run_code_stay_refused(text: bytes) -> None:
    from converter.formats.torch.pickle import Pickle

    with pytest.raises(UnsafeFile):
        Pickle(text, "x").load()
