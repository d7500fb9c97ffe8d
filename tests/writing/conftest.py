"""Keras."""

from __future__ import annotations

import os
from typing import Any

import pytest


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")
