"""What is expensive to make and used by many."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import numpy as np

    from converter.core.model import Model

HERE = Path(__file__).parent
QUICK = {
    "cli": "mistakes pipes_given",
    "core": "model source",
    "densenet": "dicom head labels names pixels preprocess several_heads volumes zoo",
    "engines": "specs stoppable timm_model",
    "exporters": "fp16 presented",
    "fetch": "folders hub_files place",
    "formats": (
        "bounds by_value flatbuffer foreign keras_preset keras_saved openvino protobuf tfjs torch torch_pickle"
    ),
    "layouts": "custom",
    "parity": "bench budget checks compare",
    "publish": "provenance",
    "reading": "beside choice class_names facts flax",
    "structures": "coreml ncnn ort paddle_numbered tf_tracked tflite",
    "tools": "fuzz",
    "use": "calibrate cam diff inference inputs",
    "use/evaluation": "figures truths",
    "writing": "convert fingerprint",
}
"""``pytest -m quick``: by room, files of tests that take about a second of processor time each."""


def is_quick(path: Path) -> bool:
    """Whether a file of tests is among the quick ones."""
    room = path.relative_to(HERE).parent.as_posix()
    return path.stem.removeprefix("test_") in QUICK.get(room, "").split()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files that are not asked for are not imported."""
    quick = config.getoption("markexpr") == "quick"
    return True if quick and collection_path.name.startswith("test_") and not is_quick(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick ones."""
    for item in items:
        if item.path.is_relative_to(HERE) and is_quick(item.path):
            item.add_marker(pytest.mark.quick)


# The networks are small: threads would wait for each other longer than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What load makes slow has not failed; what is pushed is judged on the same inputs each time.
settings.register_profile(
    "tests", max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize="CI" in os.environ
)
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def alike_everywhere() -> Iterator[None]:
    """No file of a test has to outlive a power failure; waiting for the disk would take most of the time.

    And tables are as wide as where nobody looks, though pytest-xdist says how wide its terminal is.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.delenv("COLUMNS", raising=False)
        yield


@pytest.fixture(scope="session")
def trained() -> Model:
    """The model that ships with the package, with the preprocessing it was trained for."""
    from converter import Images, load
    from converter.demo.demo import CHECKPOINT, record
    from densenet.preprocess import Preprocess

    return load(CHECKPOINT).described(Images(Preprocess.from_dict(record()["preprocessing"])))


@pytest.fixture(scope="session")
def trained_images(trained: Model) -> list[np.ndarray]:
    """The images that ship with it, as it takes them."""
    from converter.demo.demo import IMAGES
    from converter.use.calibrate import images_of

    return images_of(trained, IMAGES)


@pytest.fixture(scope="session")
def state() -> Any:
    """The state dict of a small network of torchvision's, with statistics unlike fresh ones."""
    torchvision = pytest.importorskip("torchvision")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torchvision.models.DenseNet(4, (2, 1), 8, num_classes=3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return OrderedDict(model.state_dict())
