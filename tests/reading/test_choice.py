"""Which of several sets of weights is read, and what is said instead of taking another."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.surgery import computes_as, network
from helpers.torch_files import prefixed, save

from converter import load
from converter.core.errors import NotADenseNet


def shifted(state: Any) -> Any:
    return OrderedDict((key, value + 1) for key, value in state.items())


@pytest.mark.parametrize(
    ("make", "inside"),
    [
        (lambda s, o: {"student": s, "teacher": o}, "student"),
        (lambda s, o: {"teacher": o, "student": s}, "student"),
        (lambda s, o: {"pretrained": o, "model": s}, "model"),
        (lambda s, o: {"state_dict": o, "ema_state_dict": s}, "ema_state_dict"),
        (lambda s, o: {"model": o, "shadow_params": s}, "shadow_params"),
        (lambda s, o: {"discriminator": o, "generator": s}, "generator"),
        (lambda s, o: {"current_model_state": o, "state_dict": s}, "state_dict"),
        (lambda s, o: {"hyper_parameters": {"teacher": o}, "state_dict": prefixed(s, "net.")}, "state_dict"),
        (lambda s, o: {**prefixed(o, "teacher.net."), **prefixed(s, "student.")}, "student"),
        (
            lambda s, o: {"state_dict": {**prefixed(o, "encoder_k."), **prefixed(s, "encoder_q.")}},
            "state_dict.encoder_q",
        ),
        (lambda s, o: {**prefixed(o, "online_model."), **prefixed(s, "ema_model.")}, "ema_model"),
    ],
)
def test_the_preferred_set_is_read_and_the_other_named(make: Any, inside: str, state: Any, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", make(state, shifted(state)))
    found = load(path)
    assert found.origin.inside == inside
    np.testing.assert_array_equal(found.tensors["norm.weight"].read(), state["features.norm5.weight"].numpy())
    (note,) = (note for note in found.notes if "another set of weights" in note)
    place = note.rpartition("--weights ")[2].rstrip(")")
    other = load(path, weights=place)
    np.testing.assert_array_equal(other.tensors["norm.weight"].read(), state["features.norm5.weight"].numpy() + 1)


@pytest.mark.parametrize(
    ("make", "named", "offered"),
    [
        (lambda s, x: {"student": {**s, **x}, "teacher": s}, "embed", "teacher"),
        (lambda s, x: {"model": {**s, **x}, "pretrained": s}, "embed", "pretrained"),
        (lambda s, x: {"ema_state_dict": {**s, **x}, "state_dict": s}, "embed", "state_dict"),
        (lambda s, x: {"hyper_parameters": {"net": s}, "state_dict": {**s, **x}}, "embed", "hyper_parameters.net"),
        (
            lambda s, x: {"student": {f"layer{i}.weight": v for i, v in enumerate(s.values())}, "teacher": s},
            "layer",
            "teacher",
        ),
    ],
)
def test_no_other_set_is_taken_because_it_fits(make: Any, named: str, offered: str, state: Any, tmp_path: Path) -> None:
    import torch

    path = save(tmp_path / "a.pth", make(state, {"embed.weight": torch.ones(3, 3)}))
    with pytest.raises(NotADenseNet, match=rf"{named}.*--weights {offered} reads them"):
        load(path)
    assert load(path, weights=offered).config.num_classes == 3


def test_a_module_among_hyper_parameters_is_no_network(tmp_path: Path) -> None:
    model = network()
    content = {"hyper_parameters": {"net": network(num_classes=5)}, "state_dict": prefixed(model.state_dict(), "net.")}
    computes_as(save(tmp_path / "a.ckpt", content), model)


def test_what_training_keeps_beside_a_network_is_dropped_for_its_reason(state: Any, tmp_path: Path) -> None:
    import torch

    beside = {name: torch.ones(3) for name in ("class_weights", "crit.weight", "focal.weight", "bce.pos_weight")}
    beside |= {"step": torch.tensor(3), "initted": torch.tensor(True), "val_acc.total": torch.ones(3)}
    for prefix in ("", "net."):
        found = load(save(tmp_path / "a.pth", {**beside, **prefixed(state, prefix)}))
        assert set(found.dropped) == set(beside)
        assert found.dropped["class_weights"] == "the loss's weights of the classes"
        assert found.dropped["step"] == "a counter"


def test_the_states_of_metrics_are_no_layers(tmp_path: Path) -> None:
    """Those of torchmetrics' ConfusionMatrix, AUROC and MeanMetric; a square matrix is as wide as the logits."""
    import torch

    model = network()
    beside = {"val_cm.confmat": torch.ones(3, 3, dtype=torch.long), "roc.confmat": torch.ones(7, 2, 2).long()}
    beside |= {"mean.mean_value": torch.tensor(0.5), "mean.weight": torch.tensor(3.0), "f1.x.tp": torch.ones(3).long()}
    found = computes_as(save(tmp_path / "a.pth", {**prefixed(model.state_dict(), "net."), **beside}), model)
    assert {found.dropped[name] for name in beside} == {"belongs to a metric"}
    for strange in ({"mix.confmat": torch.ones(3, 3)}, {"scale": torch.tensor(0.5)}):
        with pytest.raises(NotADenseNet, match=next(iter(strange))):
            load(save(tmp_path / "b.pth", {**prefixed(model.state_dict(), "net."), **strange}))


@pytest.mark.parametrize("name", ["decoder.0", "segmentation_head.0", "neck"])
def test_what_computes_is_never_beside_the_network(name: str, state: Any, tmp_path: Path) -> None:
    import torch

    encoder = {key: value for key, value in prefixed(state, "encoder.").items() if "classifier" not in key}
    path = save(tmp_path / "a.pth", {**encoder, f"{name}.weight": torch.ones(5, 14, 3, 3)})
    with pytest.raises(NotADenseNet, match=name):
        load(path)


def test_an_angular_head_is_neither_a_linear_one_nor_a_loss(state: Any, tmp_path: Path) -> None:
    import torch

    width = state["classifier.weight"].shape[1]
    features = {key: value for key, value in prefixed(state, "net.").items() if "classifier" not in key}
    for name in ("criterion", "arcface"):
        path = save(tmp_path / "a.pth", {**features, f"{name}.weight": torch.ones(3, width)})
        with pytest.raises(NotADenseNet, match=name):
            load(path)


def test_head_and_backbone_apart_are_joined_or_refused(tmp_path: Path) -> None:
    import torch

    model = network()
    features, head = model.features.state_dict(), model.classifier.state_dict()
    for content in (
        {"features": features, "classifier": head},
        {"backbone": prefixed(features, "features."), "head": head},
        {"backbone": features, "fc.weight": head["weight"], "fc.bias": head["bias"]},
        {"features": model.features, "classifier": model.classifier},
        [features, head],
        (model.features, model.classifier),
    ):
        computes_as(save(tmp_path / "a.pth", content), model)
    other = torch.nn.Sequential(torch.nn.Linear(head["weight"].shape[1], 3), torch.nn.ReLU(), torch.nn.Linear(3, 3))
    assert load(save(tmp_path / "b.pth", {"backbone": features, "head": other.state_dict()})).config.head
    deeper = torch.nn.Sequential(other, other, other, torch.nn.Linear(3, 3))
    path = save(tmp_path / "b.pth", {"backbone": features, "head": deeper.state_dict()})
    with pytest.raises(NotADenseNet, match=r"without a head.*--weights backbone"):
        load(path)
    assert load(path, weights="backbone").config.num_classes == 0
