"""Checkpoints of torch."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest


def save(path: Path, state: Any, **options: Any) -> Path:
    """What torch.save writes."""
    torch = pytest.importorskip("torch")
    torch.save(state, path, **options)
    return path


def prefixed(state: Any, prefix: str) -> Any:
    return OrderedDict((prefix + key, value) for key, value in state.items())
