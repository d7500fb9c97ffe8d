"""Frameworks that run the file they made; where TensorFlow and Paddle are missing, a stand-in for what is called."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.cases import CASES

from converter import load, verify
from converter.core.errors import ConverterError, Unavailable
from converter.engines.frameworks import source_engine
from converter.engines.onnxruntime import onnx_engine
from converter.exporters.onnx import to_onnx

FILES = {
    "tensorflow": CASES / "keras2-frozen" / "frozen.pb",
    "paddle": CASES / "paddle-jit2" / "inference.pdmodel",
}


@pytest.mark.parametrize("framework", FILES)
def test_the_framework_itself_agrees(framework: str) -> None:
    pytest.importorskip(framework)
    verdict = verify(FILES[framework], engines=[framework])
    assert verdict.passed
    assert f"{framework}, its own model" in verdict.results


@pytest.mark.parametrize(("framework", "package"), [("tensorflow", "tensorflow"), ("paddle", "paddlepaddle")])
def test_what_is_missing_is_named(framework: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converter.engines.frameworks.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=f"{framework} is not installed: pip install {package}"):
        source_engine(load(FILES[framework]), FILES[framework])


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("converter.engines.frameworks.find_spec", lambda _: object())


def test_a_saved_model_is_called_by_its_signature_with_channels_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
    model = load(FILES["tensorflow"])
    run = onnx_engine(to_onnx(model).SerializeToString())
    signature: Any = lambda image: {"logits": run(np.moveaxis(image, -1, 1).copy())}  # noqa: E731
    spec = SimpleNamespace(shape=type("Shape", (list,), {"rank": 4})([None, None, None, 3]))
    holder = type("Signature", (), {"__call__": lambda self, **given: signature(**given)})()
    holder.structured_input_signature = ((), {"image": spec})
    holder.structured_outputs = {"logits": None, "features": None}
    loaded = SimpleNamespace(signatures={"serving_default": holder})
    stand_in(
        monkeypatch, "tensorflow", saved_model=SimpleNamespace(load=lambda folder: loaded), constant=lambda array: array
    )
    name, engine = source_engine(model, tmp_path, "tensorflow")
    x = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    assert name == "tensorflow"
    np.testing.assert_allclose(engine(x), run(x), rtol=1e-6)
    holder.structured_outputs = {"a": None, "b": None}
    with pytest.raises(ConverterError, match="gives a, b"):
        source_engine(model, tmp_path, "tensorflow")


def test_variables_without_a_graph_are_nothing_tensorflow_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "tensorflow")
    file = CASES / "tf-slim-v2ckpt" / "tf-densenet.ckpt.index"
    with pytest.raises(Unavailable, match="without a graph"):
        source_engine(load(file), file, "tensorflow")


def test_a_program_runs_in_paddle_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(FILES["paddle"])
    run = onnx_engine(to_onnx(model).SerializeToString())
    held: dict[str, Any] = {}

    def handle(name: str) -> Any:
        return SimpleNamespace(
            reshape=lambda shape: held.update(shape=shape),
            copy_from_cpu=lambda array: held.update(x=array),
            copy_to_cpu=lambda: held["y"],
        )

    predictor = SimpleNamespace(
        get_input_names=lambda: ["x"],
        get_output_names=lambda: ["y"],
        get_input_handle=handle,
        get_output_handle=handle,
        run=lambda: held.update(y=run(held["x"])),
    )
    config = SimpleNamespace(
        disable_gpu=lambda: None, disable_glog_info=lambda: None, switch_ir_optim=lambda wanted: None
    )
    inference = SimpleNamespace(
        Config=lambda *files: held.update(files=files) or config, create_predictor=lambda given: predictor
    )
    stand_in(monkeypatch, "paddle", inference=inference)
    _, engine = source_engine(model, FILES["paddle"])
    x = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(engine(x), run(x), rtol=1e-6)
    assert held["shape"] == [2, 3, 64, 64]
    assert [Path(file).suffix for file in held["files"]] == [".pdmodel", ".pdiparams"]


def test_parameters_of_a_network_paddle_lacks_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "paddle")
    stand_in(monkeypatch, "paddle.vision")
    stand_in(monkeypatch, "paddle.vision.models", DenseNet=None)
    file = FILES["paddle"].with_name("none.pdparams")
    with pytest.raises(Unavailable, match=r"paddle\.vision has no"):
        source_engine(load(FILES["paddle"]), file, "paddle")
