"""Reference files of Keras, and those made of them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from converter import load
from helpers.cases import CASES, logits_of

H5 = CASES / "keras3-h5" / "model.h5"
ZIP = CASES / "keras3-zip" / "model.keras"
WEIGHTS = CASES / "keras3-weights" / "model.weights.h5"
FLYYUFELIX = CASES / "flyyufelix-k122-tf-tf" / "densenet121_weights_tf.h5"
FILES = (H5, ZIP, WEIGHTS, FLYYUFELIX)


def error_of(path: Path, case: Path) -> float:
    """Largest difference from the logits Keras computed, relative to the largest logit."""
    want = np.load(case.parent / "logits.npy")
    got = logits_of(path, np.load(case.parent / "input.npy"))
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


def same_tensors(a: Path, b: Path) -> bool:
    left, right = load(a), load(b)
    return left.config == right.config and all(
        np.array_equal(left.tensors[name].read(), tensor.read()) for name, tensor in right.tensors.items()
    )


def rewritten_zip(target: Path, config: Callable[[Any], Any]) -> Path:
    """The .keras file with its config changed."""
    with zipfile.ZipFile(ZIP) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, json.dumps(config(json.loads(data))) if name == "config.json" else data)
    return target


def layers_of(config: Any, kind: str) -> list[Any]:
    return [layer for layer in config["config"]["layers"] if layer["class_name"] == kind]
