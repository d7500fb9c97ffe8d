"""Packages and a Hub to publish them to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.hub_server import Hub
from helpers.networks import SMALL, save

from converter.demo.demo import CHECKPOINT, IMAGES, record
from converter.publish.package import package


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "repository"
    trained = record()
    package(
        CHECKPOINT,
        folder,
        calibration=IMAGES,
        evaluation=IMAGES,
        license_id="Apache-2.0",
        preprocess=trained["preprocessing"],
        labels=[f"digit {i}" for i in range(10)],
    )
    return folder


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        yield server


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a few files, one of them in git LFS."""
    folder = tmp_path_factory.mktemp("small")
    package(save(SMALL, folder / "small.safetensors"), folder / "package", onnx=["fp32"])
    return folder / "package"
