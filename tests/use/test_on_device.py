"""Prediction on a device beside the processor, as far as it can be tested where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from helpers.networks import CIFAR, random_model, save

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.use.on_device import best_batch
from converter.use.predict import predictor

REAL = onnxruntime.InferenceSession
PROVIDER = "DmlExecutionProvider"


class Pretends(REAL):  # type: ignore[misc,valid-type]
    """A session on the processor that says it is on DirectML."""

    def __init__(self, *given: object, providers: list[object]) -> None:
        super().__init__(*given, providers=["CPUExecutionProvider"])
        self.said = providers

    def get_providers(self) -> list[str]:
        return [PROVIDER]


def test_a_checkpoint_is_computed_in_half_precision_which_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save(random_model(CIFAR, 0), tmp_path / "m.safetensors")
    pixels = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), np.uint8)
    here = predictor(tmp_path / "m.safetensors")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDER])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Pretends)
    there = predictor(tmp_path / "m.safetensors", engine="onnxruntime-directml")
    told = set(there.notes) - set(here.notes)
    assert {note.split(" ")[0] for note in told} == {"DirectML", "batches"}, told
    assert set(here.notes) < set(there.notes)
    want, got = here.logits(list(pixels)), there.logits(list(pixels))
    assert 0 < np.abs(want - got).max() < 0.02 * np.abs(want).max()


@pytest.mark.parametrize(
    ("growth", "room", "best"),
    [(0, 999, 128), (1, 999, 8), (0, 50, 32), (0, 1, 8)],
    ids=["costs nothing more", "costs as much more", "no room", "no room at all"],
)
def test_batches_grow_while_that_pays_and_there_is_room(growth: int, room: int, best: int) -> None:
    now = 0.0

    def run(x: Array) -> Array:
        nonlocal now
        if len(x) > room:
            raise ConverterError("no memory")
        now += len(x) ** growth
        return x

    assert best_batch(run, np.zeros((1, 3, 8, 8), np.float32), lambda: now) == best
