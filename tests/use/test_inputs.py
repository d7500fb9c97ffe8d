"""Synthetic inputs: every kind, from seeds, of sizes that show rounding."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.networks import CIFAR, SMALL
from helpers.parity import PREPROCESS

from converter.use.inputs import KINDS, awkward_size, pixels, standard, synthetic
from densenet.config import DenseNetConfig


@pytest.mark.parametrize("kind", KINDS)
def test_synthetic_inputs_come_again_from_their_seeds(kind: str) -> None:
    a, b, c = (synthetic(kind, (2, 3, 16, 17), seed).array for seed in (1, 1, 2))
    assert a.shape == (2, 3, 16, 17)
    assert a.dtype == np.float32
    assert np.isfinite(a).all()
    assert np.array_equal(a, b)
    assert np.array_equal(a, c) == (kind == "zeros")


def test_permuted_is_the_same_image_with_its_channels_reversed() -> None:
    array = synthetic("permuted", (2, 3, 8, 8), 0).array
    assert np.array_equal(array[0, ::-1], array[1])


@pytest.mark.parametrize(("config", "size"), [(SMALL, 64), (DenseNetConfig(), 224), (CIFAR, 32)])
def test_awkward_sizes_show_rounding_up_at_every_pooling(config: DenseNetConfig, size: int) -> None:
    for length in awkward_size(config, (size, size)):
        assert abs(length - size) <= 32
        if config.stem != "cifar":
            length = (length - 1) // 2 + 1  # noqa: PLW2901
            assert length % 2 == 0
            length //= 2  # noqa: PLW2901
        for _ in config.block_config[1:]:
            assert length % 2 == 1
            length //= 2  # noqa: PLW2901


def test_the_usual_inputs_have_every_kind_and_batches_of_1_2_and_3() -> None:
    batches = standard(SMALL, PREPROCESS, (), seed=3)
    assert {batch.kind for batch in batches} == set(KINDS)
    assert {len(batch.array) for batch in batches} == {1, 2, 3}
    assert [batch.seed for batch in batches] == list(range(3, 3 + len(batches)))
    assert len({batch.name for batch in batches}) == len(batches)


def test_pixels_are_what_the_network_sees() -> None:
    for batch in pixels(PREPROCESS, 0):
        assert batch.pixels is not None
        assert batch.pixels.dtype == np.uint8
        top = (batch.pixels.shape[1] - 64) // 2
        left = round((batch.pixels.shape[2] - 64) / 2)
        crop = batch.pixels[:, top : top + 64, left : left + 64].transpose(0, 3, 1, 2) / 255.0
        mean, std = (np.reshape(v, (3, 1, 1)) for v in (PREPROCESS.mean, PREPROCESS.std))
        assert np.allclose(batch.array, (crop - mean) / std, atol=1e-5)
