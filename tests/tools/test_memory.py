"""Memory that must not grow with the file, measured by ``tools/memory.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import memory
import pytest

from converter.demo.demo import CHECKPOINT
from densenet.config import DenseNetConfig

NETWORK = DenseNetConfig(growth_rate=64, block_config=(6, 12, 20, 6), init_features=128)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_writing_holds_no_more_than_a_few_tensors(tmp_path: Path) -> None:
    source = tmp_path / "a.safetensors"
    memory.make(NETWORK, source)
    size = source.stat().st_size / 1e6
    assert size > 60
    least, _, _ = memory.peaks([*memory.DENSENET, "export", str(CHECKPOINT), str(tmp_path / "small.onnx")])
    for command in ("export {0} {1}/a.onnx", "convert {0} {1}/a.h5"):
        anonymous, _, _ = memory.peaks([*memory.DENSENET, *command.format(source, tmp_path).split()])
        assert anonymous - least < size / 2, command
