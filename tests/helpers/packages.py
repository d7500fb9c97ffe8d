"""What tests of packages share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess
from helpers.networks import random_model, save

LABELS = [f"class {i}" for i in range(5)]


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def small_images(config: DenseNetConfig) -> Preprocess:
    """The usual preprocessing at 64 pixels, where proofs take a tenth of the time."""
    return replace(Preprocess.usual(config), resize=72, crop=(64, 64))


def save_described(config: DenseNetConfig, path: Path) -> Path:
    """A random network in a file that says what its images are: small ones."""
    return save(random_model(config, preprocess=small_images(config)), path)
