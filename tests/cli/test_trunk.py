"""What stands beside a trunk is offered to be left out to who asks for features, and to nobody else."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
from helpers.command import ok, refused
from helpers.networks import SMALL, random_tensors

from converter.core.checkpoint import Tensor
from converter.demo.demo import IMAGES
from converter.formats.torch.zip_writer import write_torch
from converter.layouts.torchvision import TORCHVISION

IMAGE = next(path for path in sorted(IMAGES.rglob("*.png")))


def test_a_trunk_is_offered_for_features_alone(tmp_path: Path) -> None:
    names = {name: stored.keys[0] for name, stored in TORCHVISION.expand(SMALL).items() if "classifier" not in name}
    values = {names[name]: array for name, array in random_tensors(SMALL).items() if name in names}
    beside = {"gate.weight": np.zeros((3, 3, 3), np.float32), "att.q.weight": np.zeros((7, 9), np.float32)}
    source, target = tmp_path / "a b.pth", tmp_path / "a.onnx"
    write_torch(source, {name: Tensor.of(array) for name, array in {**values, **beside}.items()})
    for words in (("export", source, target), ("export", source, target, "--outputs", "logits,features")):
        assert "--drop" not in refused(2, *words)
    said = refused(2, "export", source, target, "--outputs", "features")
    assert said.rstrip().endswith("--outputs features --drop 'gate.*' --drop 'att.*'")
    ok(*shlex.split(said.partition("without them: densenet ")[2]))
    assert target.exists()
    said = refused(2, "predict", source, IMAGE, "--features", tmp_path / "f.npy")
    assert "densenet convert " in said
    assert said.rstrip().endswith("trunk.safetensors --drop 'gate.*' --drop 'att.*'")
    assert "--drop" not in refused(2, "predict", source, IMAGE)
