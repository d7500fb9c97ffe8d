"""What verify runs besides engines, in C, does not hold it up for ever either."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.networks import export_model, random_model

from converter.core.errors import ConverterError
from converter.core.model import Images
from converter.engines import stoppable
from converter.parity.artifact import Artifact
from converter.parity.locate import locate
from converter.parity.onnx_checks import onnx_checks
from densenet.config import DenseNetConfig

CONFIG = DenseNetConfig(growth_rate=2, block_config=(1, 1), init_features=4, bn_size=1, num_classes=2)


def test_a_check_or_a_search_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, path = random_model(CONFIG), tmp_path / "m.onnx"
    export_model(model, path)
    file = Artifact.open(path)
    monkeypatch.setattr(onnx.checker, "check_model", lambda *_, **__: time.sleep(20))
    monkeypatch.setattr(stoppable, "SECONDS", 0.3)
    checks = {check.name: check for check in onnx_checks(file, CONFIG, Images(), model)}
    assert "took longer than 0.3 s" in checks["valid ONNX"].detail
    monkeypatch.setattr(stoppable, "SECONDS", 0)
    with pytest.raises(ConverterError, match="took longer"):
        locate(model, onnx.load(path), np.ones((1, 3, 32, 32), np.float32))
