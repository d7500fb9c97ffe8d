"""load and inspect on real files: wrappers, evidence, accounting, honest refusals."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.surgery import computes_as, network, saved_whole
from helpers.torch_files import prefixed, save
from helpers.torch_graphs import exported

from converter import inspect, load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile
from densenet.preprocess import FAMILIES


@pytest.mark.parametrize(
    ("wrap", "inside", "prefix"),
    [
        (lambda s: s, "", ""),
        (lambda s: {"state_dict": s, "epoch": 3, "arch": "densenet121"}, "state_dict", ""),
        (lambda s: {"state_dict": prefixed(s, "module.")}, "state_dict", "module."),
        (lambda s: prefixed(s, "_orig_mod."), "", "_orig_mod."),
        (lambda s: prefixed(s, "module._orig_mod."), "", "module._orig_mod."),
        (lambda s: {"model": prefixed(s, "net.backbone."), "opt": {"state": {}}}, "model", "net.backbone."),
        (lambda s: {"a": {"b": {"state_dict": s}}}, "a.b.state_dict", ""),
        (lambda s: [{"net": s}], "0.net", ""),
    ],
)
def test_wrappers_and_prefixes_are_undone(wrap: Any, inside: str, prefix: str, state: Any, tmp_path: Path) -> None:
    found = inspect(save(tmp_path / "a.pth", wrap(state)))
    assert (found.chosen.layout.name, found.chosen.group.path, found.chosen.prefix) == ("torchvision", inside, prefix)
    np.testing.assert_array_equal(found.model.tensors["norm.weight"].read(), state["features.norm5.weight"].numpy())


def test_averaged_weights_are_preferred_as_their_trainers_do(state: Any, tmp_path: Path) -> None:
    averaged = OrderedDict((key, value + 1) for key, value in state.items())
    path = save(tmp_path / "timm.pth", {"state_dict": state, "state_dict_ema": averaged})
    assert load(path).origin.inside == "state_dict_ema"
    assert any("state_dict" in note for note in load(path).notes)
    plain = load(path, weights="state_dict")
    np.testing.assert_array_equal(plain.tensors["norm.weight"].read(), state["features.norm5.weight"].numpy())
    # mmengine swaps before saving: there state_dict is the average
    path = save(
        tmp_path / "mm.pth",
        {"ema_state_dict": prefixed(averaged, "module."), "state_dict": state, "message_hub": {}, "meta": {}},
    )
    assert load(path).origin.inside == "state_dict"
    for nested in ({"model_ema": {"module": averaged}}, {"ema": {"shadow": averaged}}, {"params_ema": averaged}):
        path = save(tmp_path / "other.pth", {"model": state, **nested})
        found = load(path).tensors["norm.weight"].read()
        np.testing.assert_array_equal(found, averaged["features.norm5.weight"].numpy())
    with pytest.raises(ConverterError, match="there are some at"):
        load(path, weights="nowhere")


def test_keys_that_are_no_weights_are_dropped_with_a_reason(state: Any, tmp_path: Path) -> None:
    import torch

    extra = {**prefixed(state, "model."), "criterion.weight": torch.ones(3), "model.op_threshs": torch.ones(3)}
    found = load(save(tmp_path / "a.ckpt", {"state_dict": extra}))
    assert set(found.dropped) == {"criterion.weight", "model.op_threshs"}
    assert all(found.dropped.values())
    assert found.images.preprocess is None  # torchxrayvision's networks are grey


def test_torchxrayvisions_files_say_what_their_images_go_through(tmp_path: Path) -> None:
    torch, xrv = pytest.importorskip("torch"), pytest.importorskip("torchxrayvision")
    model = xrv.models.DenseNet(
        growth_rate=4, block_config=(1, 1), num_init_features=8, bn_size=2, num_classes=3, in_channels=1, weights=None
    )
    torch.save(model, tmp_path / "whole.pt")
    torch.save({**model.state_dict(), "op_threshs": torch.ones(3)}, tmp_path / "state.pt")
    for name in ("whole.pt", "state.pt"):
        found = load(tmp_path / name)
        assert found.images.preprocess == FAMILIES["torchxrayvision"]
        assert any("-1024 to 1024" in note for note in found.notes)


@pytest.mark.parametrize("name", ["last_linear", "fc", "classifier.0", "head.classifier"])
def test_classifiers_under_other_names(name: str, state: Any, tmp_path: Path) -> None:
    renamed = {key.replace("classifier", name): value for key, value in state.items()}
    found = load(save(tmp_path / "a.pth", renamed))
    assert found.config.num_classes == 3
    assert name in found.notes[0]
    np.testing.assert_array_equal(found.tensors["classifier.weight"].read(), state["classifier.weight"].numpy())


def test_other_networks_are_refused(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    for name in ("resnet18", "squeezenet1_0", "mobilenet_v3_small"):
        path = save(tmp_path / f"{name}.pth", getattr(torchvision.models, name)().state_dict())
        with pytest.raises(NotADenseNet, match="not a DenseNet"):
            load(path)


def test_a_dilated_module_is_refused(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.DenseNet(4, (2, 1), 8, num_classes=3)
    assert load(save(tmp_path / "a.pth", model)).config.num_classes == 3
    model.features.denseblock2.denselayer1.conv2.dilation = (2, 2)
    with pytest.raises(NotADenseNet, match="dilation"):
        load(save(tmp_path / "b.pth", model))


def test_a_module_tells_its_eps(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    import torch

    model = torchvision.models.DenseNet(4, (2, 1), 8, num_classes=3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3
    assert load(save(tmp_path / "a.pth", model)).config.eps == 1e-3
    model.features.norm0.eps = 1e-5
    saved_whole(model.eval(), tmp_path / "b.pth")  # a norm of another eps has another variance here


def test_norms_of_a_graph_each_with_an_eps(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = network()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for i, norm in enumerate(norms):
        norm.eps = (1e-5, 1e-3, 0.1)[i % 3]
    norms[3].running_var[0], norms[1].running_var[1] = 1e-6, 0.0  # which an eps that is larger leaves no room for
    exported(model, torch.randn(2, 3, 72, 72), tmp_path / "model.pt2")
    for found in (computes_as(tmp_path / "model.pt2", model), saved_whole(model, tmp_path / "model.pth")):
        assert found.config.eps == 1e-5


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"hello, world\n", "known format"), (b"PK\x05\x06" + bytes(18), "without tensors")],
)
def test_files_that_are_no_checkpoints(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UnreadableFile, match=message):
        load(tmp_path / "x.pth")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="no such file"):
        load(tmp_path / "missing.pth")
    with pytest.raises(UnreadableFile, match="folder"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableFile, match="regular file"):
        load(tmp_path / "pipe")


def test_modules_that_compute_something_else_are_refused(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    import torch

    def changed(change: Any, refuse: str, scripted: bool) -> None:
        model = torchvision.models.DenseNet(4, (2, 1), 8, num_classes=3).eval()
        change(model)
        path = tmp_path / "m.pt"
        if scripted:
            torch.jit.trace(model, torch.zeros(1, 3, 64, 64)).save(str(path))
        else:
            torch.save(model, path)
        with pytest.raises(NotADenseNet, match=refuse):
            load(path)

    nn = torch.nn
    for scripted, refusals in (
        (False, ("relu1 is a ReLU, behind a silu", "relu0 is a Identity", "kernel_size 3, stride 2")),
        (True, ("activation is silu", "ReLU and max pooling|the stem", "torch.max_pool2d")),
    ):
        changed(lambda m: setattr(m.features, "relu0", nn.SiLU()), refusals[0], scripted)
        changed(lambda m: setattr(m.features, "relu0", nn.Identity()), refusals[1], scripted)
        changed(lambda m: setattr(m.features.transition1, "pool", nn.MaxPool2d(3, 2, 1)), refusals[2], scripted)
    changed(lambda m: setattr(m.features.transition1, "pool", nn.AvgPool2d(3, 2, 1)), "kernel_size 3", False)
    changed(lambda m: setattr(m.features.conv0, "padding_mode", "reflect"), "reflect", False)


@pytest.mark.parametrize("names", [("0.mean", "0.std"), ("pre.weight",), ("temperature",)])
def test_tensors_beside_the_network_are_not_dropped_silently(
    names: tuple[str, ...], state: Any, tmp_path: Path
) -> None:
    import torch

    beside = {name: torch.ones(3, 3, 1, 1) if name == "pre.weight" else torch.ones(3) for name in names}
    path = save(tmp_path / "a.pth", {**beside, **prefixed(state, "net.")})
    with pytest.raises(NotADenseNet, match=names[0]):
        load(path)
    assert set(load(path, drop=names).dropped) == set(names)


def test_a_missing_classifier_weight_is_not_a_backbone(state: Any, tmp_path: Path) -> None:
    part = {key: value for key, value in state.items() if key != "classifier.weight"}
    with pytest.raises(NotADenseNet, match=r"classifier\.bias"):
        load(save(tmp_path / "a.pth", part))


def test_lazily_negated_tensors_are_refused(state: Any, tmp_path: Path) -> None:
    import torch

    negated = {**state, "classifier.weight": torch._neg_view(-state["classifier.weight"])}
    with pytest.raises(UnreadableFile, match="resolve_neg"):
        load(save(tmp_path / "a.pth", negated))
