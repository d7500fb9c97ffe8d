"""Networks in timm's words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.networks import CIFAR, SMALL, TIMM

from converter.core.errors import CannotExpress
from converter.engines.timm_model import timm_model
from densenet.config import NAMED, DenseNetConfig


@pytest.mark.parametrize("name", ["densenet121", "densenet169", "densenet201", "densenet161", "densenetblur121d"])
def test_published_architectures_need_no_arguments(name: str) -> None:
    assert timm_model(NAMED[name]).architecture == name
    assert not timm_model(NAMED[name]).arguments


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (CIFAR, "a CIFAR stem"),
        (SMALL, "6 feature maps after the stem"),
        (replace(TIMM, compression=1.0), "compression 1"),
        (replace(TIMM, final_relu=False), "no ReLU after the last norm"),
        (replace(TIMM, transition_ceil=True), "pooling that rounds up"),
        (replace(TIMM, padding="same"), "TensorFlow's padding"),
        (replace(TIMM, transition_pool="blur"), "blur pooling in the transitions alone"),
        (replace(TIMM, spatial_dims=3), "3 spatial dimensions"),
    ],
)
def test_networks_timm_lacks_are_refused_by_name(config: DenseNetConfig, reason: str) -> None:
    with pytest.raises(CannotExpress, match=reason):
        timm_model(config)
