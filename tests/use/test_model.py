"""What users make of a loaded model: tensors in any layout, and networks of each framework."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from converter import ConverterError, get_model, load
from converter.core.errors import CannotExpress
from converter.layouts import LAYOUTS

torch = pytest.importorskip("torch")


@pytest.fixture
def made() -> Any:
    torch.manual_seed(0)
    network = importlib.import_module("torchvision.models").DenseNet(4, (2, 1), 8, num_classes=3).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network


IMAGE = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32))


def test_a_state_dict_loads_into_the_framework_it_is_named_for(made: Any) -> None:
    state = load(made).state_dict("torchvision")
    assert {name: tensor.tolist() for name, tensor in state.items()} == {
        name: tensor.tolist() for name, tensor in made.state_dict().items()
    }
    state["classifier.weight"].zero_()
    assert made.classifier.weight.abs().sum() > 0  # a copy


def test_every_layout_comes_back_from_memory_as_it_went(made: Any) -> None:
    model = load(made)
    for layout in LAYOUTS:
        try:
            state = model.state_dict(layout.name)
        except CannotExpress:
            continue
        back = load(state, layout=layout.name)
        assert back.config.block_config == (2, 1), layout.name
        assert (back.tensors["classifier.weight"].read() == model.tensors["classifier.weight"].read()).all()


def test_types_that_numpy_lacks(made: Any) -> None:
    state = load(made.bfloat16()).state_dict()
    assert state["stem.conv.weight"].dtype == torch.bfloat16
    assert torch.equal(state["stem.conv.weight"], made.features.conv0.weight)


def test_networks_of_torchvision_and_timm_compute_the_same(made: Any) -> None:
    model = load(made)
    with torch.no_grad():
        want = made(IMAGE)
        for network in (model.module(), model.to_torchvision(), model.to_timm()):
            assert not network.training
            assert torch.allclose(network(IMAGE), want, atol=1e-6)
    assert type(model.to_torchvision()) is type(made)


def test_the_network_of_keras_computes_the_same() -> None:
    keras = pytest.importorskip("keras")
    densenet = importlib.import_module("keras.src.applications.densenet").DenseNet
    made = densenet([1, 1, 1, 1], weights=None, input_shape=(32, 32, 3), classes=3, classifier_activation=None)
    for weight in made.weights:
        if weight.path.endswith("moving_mean"):
            weight.assign(np.random.default_rng(0).normal(0, 0.2, weight.shape))
    network = load(made).to_keras()
    x = np.random.default_rng(1).normal(size=(1, 32, 32, 3)).astype(np.float32)
    want, got = (keras.ops.convert_to_numpy(net(x, training=False)) for net in (made, network))
    assert np.allclose(want, got, atol=1e-6)
    for ours, theirs in zip(network.get_weights(), made.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)


def test_what_a_framework_does_not_have_is_refused(made: Any) -> None:
    with pytest.raises(ConverterError, match="growth_rate 4"):
        load(made).to_keras()
    of_another_eps = load(made.state_dict(), settings={"eps": 1e-3})
    with torch.no_grad():  # which is folded
        assert torch.allclose(of_another_eps.to_timm()(IMAGE), of_another_eps.module()(IMAGE), atol=1e-5)
    with pytest.raises(ConverterError, match="stem_pool"):
        load(made.state_dict(), settings={"stem_pool": "blur", "transition_pool": "avg"}).to_torchvision()


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_a_trunk_for_another_task_as_timm_has_it(made: Any, channels: int) -> None:
    timm = pytest.importorskip("timm")
    network: Any = get_model(made, num_classes=5, in_channels=channels)
    with torch.no_grad():
        assert network(torch.rand(1, channels, 64, 64)).shape == (1, 5)
    theirs = timm.models.adapt_input_conv(channels, made.features.conv0.weight.detach())
    assert torch.allclose(network.stem.conv.weight, theirs, atol=1e-7)
    assert torch.equal(network.norm.running_mean, made.features.norm5.running_mean)
    assert "random weights" in network.notes[0] and f"of {channels} channels" in network.notes[1]


def test_the_same_number_of_classes_keeps_the_classifier(made: Any) -> None:
    with torch.no_grad():
        assert torch.allclose(get_model(made, num_classes=3)(IMAGE), made(IMAGE), atol=1e-6)  # type: ignore[operator]
        features = get_model(made, num_classes=0)(IMAGE)
    assert features.shape == (2, 12)


def test_random_weights_by_name() -> None:
    network: Any = get_model("densenet121", pretrained=False, num_classes=2, in_channels=1)
    assert network.config.num_classes == 2 and network.stem.conv.weight.shape[1] == 1
    assert network.notes == ("random weights",)
