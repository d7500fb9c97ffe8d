"""The fingerprint of the weights in what is written: one for all formats, layouts and types."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from helpers.command import ok
from helpers.networks import CIFAR, SMALL, random_model, random_tensors, save

from converter import convert, export_onnx, inspect
from converter.core.fingerprint import Fingerprint
from converter.core.metadata import FINGERPRINT_KEY
from densenet.config import DenseNetConfig

WRITTEN = [
    ("a.safetensors", {}),
    ("a.safetensors", {"to": "timm"}),
    ("a.safetensors", {"to": "mmpretrain", "dtype": "bf16"}),
    ("a.pth", {"to": "torchvision"}),
    ("a.pth", {"dtype": "fp16"}),
    ("a.npz", {"dtype": "fp64"}),
    ("a.h5", {}),  # Keras' eps is folded into the norms
    ("a.onnx", {}),
    ("a.onnx", {"graph": "exact", "precision": "fp16"}),
]


@pytest.mark.parametrize(("target", "how"), WRITTEN, ids=[f"{name}-{how}" for name, how in WRITTEN])
def test_what_is_written_records_the_weights_it_was_made_of(tmp_path: Path, target: str, how: dict[str, str]) -> None:
    source = save(SMALL, tmp_path / "source.safetensors")
    fingerprint = Fingerprint.of(inspect(source).model.tensors).float32
    (export_onnx if target.endswith("onnx") else convert)(source, tmp_path / target, **how)  # type: ignore[operator]
    assert recorded(tmp_path / target) == fingerprint
    assert re.search(rf"^made of +{fingerprint}$", ok("inspect", tmp_path / target), re.M)


def recorded(path: Path) -> str:
    if path.suffix == ".onnx":
        return next(p.value for p in onnx.load(path).metadata_props if p.key == FINGERPRINT_KEY)
    return str(inspect(path).model.stated[FINGERPRINT_KEY])


@pytest.mark.parametrize("config", [SMALL, CIFAR])
def test_another_value_is_another_fingerprint_and_a_copy_is_none(tmp_path: Path, config: DenseNetConfig) -> None:
    tensors = random_tensors(config)
    changed = {"norm.running_mean": tensors["norm.running_mean"] + 1e-6}
    for name, changes in (("a", {}), ("b", changed)):
        convert(save(random_model(config, changes=changes), tmp_path / f"{name}.pth"), tmp_path / f"{name}.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "again.npz")
    a, b, again = (recorded(tmp_path / name) for name in ("a.safetensors", "b.safetensors", "again.npz"))
    assert a == again != b
