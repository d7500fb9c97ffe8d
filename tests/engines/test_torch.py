"""PyTorch as an engine: what errors of features come to."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.networks import SMALL, random_model

from converter.engines.torch import behind_pooling, carried, torch_engine, torch_module


@pytest.mark.parametrize("head", [(), ("linear:6", "relu"), ("norm", "linear:3", "silu", "norm")])
def test_errors_of_features_go_through_all_layers_of_a_head(head: tuple[str, ...]) -> None:
    module = torch_module(random_model(replace(SMALL, head=head)))
    run = torch_engine(behind_pooling(module), double=True)
    features, errors = np.random.default_rng(0).normal(size=(2, 3, SMALL.classifier_features))
    errors *= 1e-6
    each = [run(features + errors * one) - run(features) for one in np.eye(SMALL.classifier_features)]
    assert np.allclose(carried(module, features, errors), np.sqrt(np.square(each).sum(axis=0)), rtol=1e-4)
