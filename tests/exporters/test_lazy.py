"""Models written one tensor at a time: the bytes of the whole message, or nothing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.networks import SMALL, random_model, save

from converter import export_onnx
from converter.core.checkpoint import Tensor
from converter.core.errors import CannotExpress
from converter.core.interface import Interface
from converter.engines.onnxruntime import onnx_engine
from converter.exporters.fp16 import to_half
from converter.exporters.lazy import LazyModel
from converter.exporters.onnx import lazy_onnx
from converter.exporters.presented import presented
from converter.use.calibrate import calibrate, calibration_inputs
from densenet.preprocess import Preprocess


@pytest.mark.parametrize(
    ("precision", "options"),
    [
        ("fp32", {}),
        ("fp32", {"graph": "exact", "features": True}),
        ("fp32", {"image_input": True}),
        ("fp16", {"probabilities": True}),
        ("int8", {}),
    ],
    ids=str,
)
def test_what_is_written_is_what_protobuf_writes(precision: str, options: dict[str, Any]) -> None:
    model = random_model(SMALL, preprocess=Preprocess(resize=72, crop=(64, 64)), scaled=True)
    interface = Interface(image_input=options.pop("image_input", False))
    made = presented(lazy_onnx(model, **options), model, interface)
    made = to_half(made) if precision == "fp16" else made
    made = calibrate(made, calibration_inputs(model)[:1]) if precision == "int8" else made
    file = io.BytesIO()
    made.write(file)
    assert file.getvalue() == made.whole().SerializeToString()
    onnx.checker.check_model(onnx.load_from_string(file.getvalue()), full_check=True)


def test_an_engine_computes_the_same_from_what_is_no_file_yet(tmp_path: Path) -> None:
    made = lazy_onnx(random_model(SMALL, scaled=True))
    with (tmp_path / "a.onnx").open("wb") as file:
        made.write(file)
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 70), np.float32)
    assert (onnx_engine(made)(x) == onnx_engine(tmp_path / "a.onnx")(x)).all()


def test_more_than_a_message_holds_is_refused_before_anything_is_read() -> None:
    made = lazy_onnx(random_model(SMALL))
    huge = Tensor((2**29,), np.dtype(np.float32), lambda: pytest.fail("was read"))
    with pytest.raises(CannotExpress, match=r"its weights are 2\.1 GB; an ONNX file holds 2"):
        LazyModel.of(made.proto, {**made.values, "more": huge})


def test_a_weight_that_cannot_be_written_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    huge = np.full(SMALL.tensors()["norm.weight"], 1e5, np.float32)
    source = save(random_model(changes={"norm.weight": huge}), tmp_path / "a.safetensors")
    export_onnx(source, tmp_path / "a.onnx")
    before = (tmp_path / "a.onnx").read_bytes()
    with pytest.raises(CannotExpress, match=r"norm\.weight has values beyond 65504"):
        export_onnx(source, tmp_path / "a.onnx", precision="fp16")
    assert (tmp_path / "a.onnx").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.safetensors"]
