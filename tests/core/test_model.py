"""What is known of a model's images, and what its files say of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from helpers.networks import SMALL, random_model

from converter import ConverterError, Images
from densenet.preprocess import Preprocess

STEPS, OTHER = Preprocess(crop=(64, 64)), Preprocess(crop=(32, 32))
GREY = Preprocess(mean=(0.5,), std=(0.5,), channels=1)
NAMES = ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (Images(), Images(), Images()),
        (Images(STEPS), Images(OTHER, NAMES), Images(STEPS, NAMES)),
        (Images(labels=NAMES), Images(OTHER, ("x",)), Images(OTHER, NAMES)),
        (Images(STEPS, NAMES), Images(OTHER, ("x",)), Images(STEPS, NAMES)),
    ],
)
def test_what_one_says_and_else_the_other(first: Images, second: Images, together: Images) -> None:
    assert first.or_else(second) == together


def test_described_beats_what_the_source_says() -> None:
    model = random_model(SMALL, preprocess=STEPS)
    assert model.described(Images(OTHER, NAMES)).images == Images(OTHER, NAMES)
    assert model.described(Images(labels=NAMES)).images == Images(STEPS, NAMES)
    assert model.images == Images(STEPS)


def test_descriptions_of_another_network_are_refused() -> None:
    model = random_model(SMALL)
    with pytest.raises(ConverterError, match="2 labels for 5 classes"):
        model.described(Images(labels=("a", "b")))
    with pytest.raises(ConverterError, match="images of 1 channels for a network of 3 channels"):
        model.described(Images(GREY))
    volumes = random_model(replace(SMALL, spatial_dims=3))
    with pytest.raises(ConverterError, match="3 dimensions"):
        volumes.described(Images(STEPS))


def test_metadata_says_what_is_known_and_no_more() -> None:
    model = random_model(SMALL)
    assert set(model.metadata()) == {"densenet.config", "densenet.source", "densenet.tool"}
    metadata = model.described(Images(STEPS, NAMES)).metadata()
    assert Preprocess.from_dict(json.loads(metadata["densenet.preprocess"])) == STEPS
    assert json.loads(metadata["densenet.labels"]) == list(NAMES)
    assert json.loads(metadata["densenet.source"])["sha256"] == "0" * 64
