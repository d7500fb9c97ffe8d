"""Devices beside the processor, as far as they can be tested where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from helpers.networks import CIFAR, random_model

from converter.core.errors import ConverterError, Unavailable
from converter.engines.devices import DEVICES
from converter.engines.onnxruntime import session
from converter.engines.specs import check_installed, parse_specs
from converter.exporters.onnx import to_onnx

CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]
REAL = onnxruntime.InferenceSession


class Pretends:
    """A session on the processor that says it is on CUDA."""

    asked: list[object] = []  # noqa: RUF012 (what all of them were asked for)

    def __init__(self, *given: Any, providers: list[Any]) -> None:
        Pretends.asked += providers[:1]
        self.loaded = REAL(*given, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return CUDA

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loaded, name)


@pytest.fixture
def graph() -> bytes:
    return to_onnx(random_model(CIFAR, 0)).SerializeToString()


def test_a_device_that_is_not_there_says_what_to_install() -> None:
    for name, device in DEVICES.items():
        with pytest.raises(Unavailable, match=f"{device.name} cannot be used.*pip install {device.package}"):
            check_installed(parse_specs([f"onnxruntime-{name}"]))


def test_a_device_that_does_not_start_is_not_replaced_by_the_processor(
    monkeypatch: pytest.MonkeyPatch, graph: bytes
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA)
    with pytest.raises(Unavailable, match="could not start it"):
        session(graph, device="cuda")


def test_an_engine_on_a_device(monkeypatch: pytest.MonkeyPatch, graph: bytes) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Pretends)
    on_device, here = parse_specs(["onnxruntime-cuda", "onnxruntime"])
    assert on_device.label == "ONNX Runtime CUDA"
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32), np.float32)
    np.testing.assert_array_equal(on_device.start(graph, None)(x), here.start(graph, None)(x))
    # no TF32, which is not float32; and the processor is told nothing new
    assert Pretends.asked == [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]


def test_no_such_device(graph: bytes) -> None:
    with pytest.raises(ConverterError, match="no device is called 'cudo'; there are cpu, cuda"):
        session(graph, device="cudo")
