"""Fixtures of verification."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.networks import save
from helpers.parity import network


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return save(network(), tmp_path / "reference.safetensors")


@pytest.fixture
def one_thread() -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
