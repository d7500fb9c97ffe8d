"""The PyTorch module against torchvision's and timm's own."""

from dataclasses import replace

import numpy as np
import pytest

from converter import convert, load
from converter.engines.torch import torch_module
from densenet import DenseNet, DenseNetConfig, get_model

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")
SMALL = DenseNetConfig(growth_rate=8, block_config=(2, 3), init_features=16, num_classes=5)
VARIANTS = {
    "imagenet": SMALL,
    "plain cifar": DenseNetConfig.cifar(13, 6),
    "deep, blurred": replace(SMALL, stem="deep", stem_pool="blur", transition_pool="blur", global_pool="catavgmax"),
    "backbone": replace(SMALL, num_classes=0, global_pool="max"),
    "same padding": replace(SMALL, padding="same", transition_relu=False, final_relu=False),
    "volumes": replace(SMALL, spatial_dims=3, in_channels=1),
}


def randomise(module: "torch.nn.Module") -> "torch.nn.Module":
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, 0, 0.2)
    return module.eval()


def images(config: DenseNetConfig, size: int = 67) -> "torch.Tensor":
    size = size if config.spatial_dims == 2 else 37
    return torch.randn(2, config.in_channels, *[size] * config.spatial_dims, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_state_dict_is_the_library_layout(config: DenseNetConfig) -> None:
    state = {
        k: tuple(v.shape) for k, v in DenseNet(config).state_dict().items() if not k.endswith("num_batches_tracked")
    }
    assert state == config.tensors()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # TorchScript still is in use
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_scripted_exported_and_compiled_compute_the_same(config: DenseNetConfig) -> None:
    model, x = randomise(DenseNet(config)), images(config)
    with torch.no_grad():
        expected = model(x)
        assert expected.shape == (2, config.num_classes or config.classifier_features)
        torch.testing.assert_close(torch.jit.script(model)(x), expected)
        torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)
        torch.testing.assert_close(torch.compile(model, backend="aot_eager")(x), expected)


@pytest.mark.parametrize(
    ("theirs", "size"),
    [
        (lambda: torchvision.models.DenseNet(8, (2, 3, 2), 16, num_classes=7), 97),
        (lambda: torchvision.models.densenet121(num_classes=10), 64),
        (lambda: timm.models.densenet.DenseNet(8, (2, 3), num_classes=7), 97),
        (lambda: timm.models.densenet.DenseNet(8, (2, 3), num_classes=7, stem_type="deep_tiered"), 97),
        (lambda: timm.models.densenet.DenseNet(8, (2, 3), num_classes=7, stem_type="deep", aa_layer=_blur()), 97),
        (lambda: timm.models.densenet.DenseNet(8, (2, 3), num_classes=7, global_pool="catavgmax"), 97),
    ],
)
def test_logits_equal_the_original_frameworks(theirs, size: int, tmp_path) -> None:  # type: ignore[no-untyped-def]
    original = randomise(theirs())
    torch.save(original.state_dict(), tmp_path / "model.pth")
    ours = torch_module(load(tmp_path / "model.pth"))
    x = torch.randn(2, 3, size, size + 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, got = original(x), ours(x)
    assert (got - expected).abs().max() <= 2e-6 * expected.abs().max()


def _blur():  # type: ignore[no-untyped-def]
    from timm.layers import BlurPool2d

    return BlurPool2d


def test_memory_efficient_gives_the_same_gradients() -> None:
    state = randomise(DenseNet(SMALL)).state_dict()
    gradients = []
    for memory_efficient in (False, True):
        model = DenseNet(SMALL, memory_efficient=memory_efficient).train()
        model.load_state_dict(state)
        model(images(SMALL)).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-4, msg=name)


def test_dropout_acts_in_training_only() -> None:
    model = DenseNet(SMALL, drop_rate=0.5)
    x = images(SMALL)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_extract_feat_stages_are_those_of_mmpretrain() -> None:
    model, x = randomise(DenseNet(SMALL)), images(SMALL, 64)
    with torch.no_grad():
        stages = model.extract_feat(x, (0, 1))
        (last,) = model.extract_feat(x)
        features = model.forward_features(x)
    # A stage ends with its transition (halved, compressed), the last with the final norm and ReLU.
    assert [tuple(stage.shape) for stage in stages] == [(2, 16, 8, 8), (2, 40, 8, 8)]
    assert torch.equal(last, stages[-1])
    assert torch.equal(last, features)
    with pytest.raises(IndexError, match="stage 2"):
        model.extract_feat(x, (2,))


def test_official_initialisation() -> None:
    torch.manual_seed(0)
    model = get_model("densenet121", pretrained=False, num_classes=10)
    conv = model.blocks[0].layers[0].conv2.weight
    assert conv.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)
    assert torch.equal(model.classifier.bias, torch.zeros(10))
    assert torch.equal(model.norm.weight, torch.ones(1024))


def test_a_converted_file_loads_strictly_without_us(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from safetensors.torch import load_file

    original = randomise(torchvision.models.DenseNet(8, (2, 3), 16, num_classes=5))
    torch.save(original.state_dict(), tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    model = DenseNet(SMALL).eval()
    model.load_state_dict(load_file(tmp_path / "b.safetensors"), strict=True)
    x = images(SMALL)
    with torch.no_grad():
        np.testing.assert_allclose(model(x), original(x), rtol=1e-5, atol=1e-5)
