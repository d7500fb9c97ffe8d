"""Paddle: parameters that are only numbered."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.networks import imagenet_configs
from helpers.paddle import numbered, pir, record, same, write_pickle
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import load
from converter.core.errors import NotADenseNet

# -- programs and records -----------------------------------------------------------------


@settings(max_examples=15)
@given(config=imagenet_configs(), start=st.integers(0, 12))
def test_numbered_parameters(tmp_path, config, start):
    tensors, arrays = numbered(config, start)
    (tmp_path / "m.json").write_text(pir(arrays))
    (tmp_path / "m.pdiparams").write_bytes(
        b"".join(record(arrays[name], levels=i % 2) for i, name in enumerate(sorted(arrays)))
    )
    for path in (tmp_path / "m.json", tmp_path / "m.pdiparams", write_pickle(tmp_path / "n.pdparams", arrays)):
        model = load(path)
        assert model.config == config
        same(model, tensors)


# -- damaged and hostile ------------------------------------------------------------------


def test_another_numbered_network_is_refused(tmp_path):
    arrays = numbered()[1]
    extra = {**arrays, "conv2d_99.w_0": np.zeros((3, 3, 3, 3), np.float32)}
    with pytest.raises(NotADenseNet):
        load(write_pickle(tmp_path / "x.pdparams", extra))
