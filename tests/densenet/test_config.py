"""The config's numbers against the paper's and the published ones."""

import pytest
from helpers.networks import any_configs
from hypothesis import given

from densenet import DenseNetConfig
from densenet.config import NAMED

PUBLISHED = {
    "densenet121": (7978856, 2881695488, 2834161664),
    "densenet169": (14149480, 3416860160, 3359843328),
    "densenet201": (20013928, 4365236736, 4291365888),
    "densenet161": (28681000, 7816363968, 7727907072),
}
PAPER = [  # table 2 of arXiv 1608.06993: depth, growth rate, bottleneck, parameters in millions
    (40, 12, False, 1.0),
    (100, 12, False, 7.0),
    (100, 24, False, 27.2),
    (100, 12, True, 0.8),
    (250, 24, True, 15.3),
    (190, 40, True, 25.6),
]


@pytest.mark.parametrize(("name", "numbers"), PUBLISHED.items())
def test_published_parameters_and_flops(name: str, numbers: tuple[int, int, int]) -> None:
    config = DenseNetConfig.named(name)
    assert (config.parameters(), config.flops(), config.macs()) == numbers
    assert config.name == name
    assert config.depth == int(name.removeprefix("densenet"))


@pytest.mark.parametrize(("depth", "growth_rate", "bottleneck", "millions"), PAPER)
def test_the_papers_cifar_table(depth: int, growth_rate: int, bottleneck: bool, millions: float) -> None:
    config = DenseNetConfig.cifar(depth, growth_rate, bottleneck=bottleneck)
    assert round(config.parameters() / 1e6, 1) == millions
    assert config.depth == depth
    assert config.name == f"DenseNet{'-BC' if bottleneck else ''} (L={depth}, k={growth_rate})"


@pytest.mark.torch
@pytest.mark.parametrize("name", ["densenetblur121d", "densenet264d"])
def test_timms_variants_have_timms_parameters(name: str) -> None:
    import timm
    import torch

    with torch.device("meta"):
        theirs = timm.create_model(name)
    assert NAMED[name].parameters() == sum(p.numel() for p in theirs.parameters())


@given(any_configs())
def test_dict_round_trip_and_unique_names(config: DenseNetConfig) -> None:
    assert DenseNetConfig.from_dict(config.to_dict()) == config
    names = list(config.tensors())
    assert len(names) == len(set(names))
    assert config.parameters() <= sum(1 for _ in names) * 10**6
    if config.num_classes:
        widths = [layer.width for layer in config.head_layers if layer.width]
        assert config.tensors()["classifier.weight"] == (config.num_classes, [config.classifier_features, *widths][-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"growth_rate": 0}, "growth_rate"),
        ({"growth_rate": True}, "growth_rate"),
        ({"block_config": ()}, "block_config"),
        ({"block_config": (1, 0)}, "block_config"),
        ({"compression": 1.5}, "compression"),
        ({"compression": 0.001}, "without feature maps"),
        ({"eps": -1.0}, "eps"),
        ({"stem": "resnet"}, "stem must be one of"),
        ({"num_classes": -1}, "num_classes"),
        ({"spatial_dims": 4}, "spatial_dims"),
        ({"spatial_dims": 3, "stem_pool": "blur"}, "volumes"),
        ({"stem_widths": (1, 2)}, "deep stem"),
        ({"wings": 2}, "unknown field wings"),
    ],
)
def test_impossible_configs_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DenseNetConfig.from_dict({**DenseNetConfig(num_classes=3).to_dict(), **changes})


def test_names_and_depths_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="densenet121"):
        DenseNetConfig.named("densenet99")
    with pytest.raises(ValueError, match="multiple of 6"):
        DenseNetConfig.cifar(41, 12, bottleneck=True)


def test_flops_count_volumes_and_smaller_images() -> None:
    config = DenseNetConfig(growth_rate=4, block_config=(1, 1), init_features=8, num_classes=2)
    assert 3 * config.flops(112) < config.flops(224) < 5 * config.flops(112)
    assert DenseNetConfig(spatial_dims=3, in_channels=1).flops(32) > DenseNetConfig(in_channels=1).flops(32)
