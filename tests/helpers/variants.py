"""Networks of every architecture, and what computes them."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from converter.core.model import Model
from densenet import DenseNetConfig

SMALL = DenseNetConfig(growth_rate=8, block_config=(2, 3, 1), init_features=16, num_classes=5)
VARIANTS = {
    "imagenet": SMALL,
    "cifar": DenseNetConfig.cifar(13, 6),
    "cifar bottleneck": DenseNetConfig.cifar(16, 6, bottleneck=True),
    "deep, blurred": replace(SMALL, stem="deep", stem_widths=(4, 6), stem_pool="blur", transition_pool="blur"),
    "rounded up": replace(SMALL, stem_ceil=True, transition_ceil=True),
    "same": replace(SMALL, padding="same"),
    "same deep": replace(SMALL, padding="same", stem="deep"),
    "same, blurred": replace(SMALL, padding="same", stem_pool="blur"),
    "no relu": replace(SMALL, transition_relu=False, final_relu=False),
    "catavgmax": replace(SMALL, global_pool="catavgmax"),
    "avgmax": replace(SMALL, global_pool="avgmax", eps=1e-3),
    "backbone": replace(SMALL, num_classes=0),
    "one channel": replace(SMALL, in_channels=1),
    "averages, then maxima": replace(SMALL, stem_pool="avg", transition_pool="max"),
    "border of zeros": replace(SMALL, stem_pool="zero_max", hidden_activation="elu"),
    "volumes": replace(SMALL, spatial_dims=3, in_channels=1),
    "volumes, rounded up": replace(SMALL, spatial_dims=3, transition_ceil=True, padding="same"),
}


def run(proto: Any, x: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def torch_logits(model: Model, x: np.ndarray) -> np.ndarray:
    pytest.importorskip("torch")
    from converter.engines.torch import torch_engine, torch_module

    return torch_engine(torch_module(model), double=True)(x)
