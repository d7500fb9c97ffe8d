"""Half precision: what it changes and what it refuses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers.networks import SMALL, random_model
from onnx import TensorProto

from converter.core.errors import CannotExpress
from converter.core.model import Model
from converter.engines.onnxruntime import onnx_engine
from converter.exporters.fp16 import to_half
from converter.exporters.onnx import lazy_onnx


def test_half_is_half_the_size_and_takes_and_gives_float32(trained: Model, trained_images: list[np.ndarray]) -> None:
    made = lazy_onnx(trained)
    whole, half = made.whole(), to_half(made).whole()
    onnx.checker.check_model(half, full_check=True)
    kinds = {tensor.data_type for tensor in half.graph.initializer}
    assert kinds == {TensorProto.FLOAT16}
    assert half.ByteSize() < 0.56 * whole.ByteSize()
    for value in (*half.graph.input, *half.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert [value.name for value in half.graph.input] == ["pixel_values"]
    assert [value.name for value in half.graph.output] == ["logits"]
    x = np.concatenate(trained_images)
    expected, found = onnx_engine(whole.SerializeToString())(x), onnx_engine(half.SerializeToString())(x)
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()
    assert (found.argmax(1) == expected.argmax(1)).all()


def test_every_output_of_half_is_cast_back() -> None:
    proto = to_half(lazy_onnx(random_model(), features=True, probabilities=True)).whole()
    onnx.checker.check_model(proto, full_check=True)
    x = np.zeros((1, 3, 64, 64), np.float32)
    assert onnx_engine(proto.SerializeToString())(x).dtype == np.float32


def test_weights_too_large_for_half_are_refused() -> None:
    huge = np.full(SMALL.tensors()["norm.weight"], 1e5, np.float32)
    with pytest.raises(CannotExpress, match=r"norm\.weight has values beyond 65504"):
        to_half(lazy_onnx(random_model(changes={"norm.weight": huge}))).whole()
