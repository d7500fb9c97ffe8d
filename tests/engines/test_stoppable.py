"""Graphs that never end, and work that nobody waits for any more."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converter.core.errors import ConverterError, UnreadableFile, UnsafeFile
from converter.engines import stoppable
from converter.engines.onnxruntime import onnx_engine, session
from converter.use.in_order import in_order

FLOAT, BOOL, INT64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64
info = helper.make_tensor_value_info


def loop() -> onnx.NodeProto:
    """2^62 turns."""
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["value"], ["same"])]
    inputs, outputs = [info("i", INT64, []), info("go", BOOL, []), info("value", FLOAT, None)], [info("on", BOOL, [])]
    body = helper.make_graph(nodes, "body", inputs, [*outputs, info("same", FLOAT, None)])
    return helper.make_node("Loop", ["turns", "yes", "x"], ["y"], name="again", body=body)


def branch(*nodes: onnx.NodeProto, weights: tuple[onnx.TensorProto, ...] = ()) -> onnx.NodeProto:
    """An If with these nodes in its branches."""
    inside = helper.make_graph(list(nodes), "inside", [], [info("y", FLOAT, None)], initializer=list(weights))
    return helper.make_node("If", ["yes"], ["y"], then_branch=inside, else_branch=inside)


def model_of(node: onnx.NodeProto, functions: tuple[onnx.FunctionProto, ...] = ()) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(np.int64(1 << 62), "turns"), numpy_helper.from_array(np.bool_(True), "yes")]
    shape = ["n", 3, 8, 8]
    graph = helper.make_graph([node], "g", [info("x", FLOAT, shape)], [info("y", FLOAT, None)], initializer=constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9)


def in_a_function() -> onnx.ModelProto:
    body = loop()
    own = helper.make_function("own", "F", ["x", "turns", "yes"], ["y"], [body], [helper.make_opsetid("", 18)])
    return model_of(helper.make_node("F", ["x", "turns", "yes"], ["y"], domain="own"), (own,))


@pytest.mark.parametrize("made", [model_of(loop()), model_of(branch(loop())), in_a_function()], ids=["g", "if", "f"])
def test_a_file_with_a_loop_is_not_run(tmp_path: Path, made: onnx.ModelProto) -> None:
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(UnreadableFile, match=r"m\.onnx: Loop again, which may never end"):
        session(tmp_path / "m.onnx")


def test_a_branch_without_a_loop_is_run(tmp_path: Path) -> None:
    onnx.save(model_of(branch(helper.make_node("Identity", ["x"], ["y"]))), tmp_path / "m.onnx")
    x = np.ones((2, 3, 8, 8), np.float32)
    assert np.array_equal(onnx_engine(tmp_path / "m.onnx")(x), x)


def test_external_data_of_a_branch_stays_in_the_folder(tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="../secret")
    onnx.save(model_of(branch(helper.make_node("Identity", ["w"], ["y"]), weights=(weight,))), tmp_path / "m.onnx")
    with pytest.raises(UnsafeFile):
        session(tmp_path / "m.onnx")


def test_a_name_of_an_axis_that_is_no_text_is_damage(tmp_path: Path) -> None:
    data = model_of(helper.make_node("Identity", ["x"], ["y"])).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data.replace(b"\x12\x01n", b"\x12\x01\xb3"))
    with pytest.raises(UnreadableFile, match="damaged"):
        onnx_engine(tmp_path / "m.onnx")


def test_a_run_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    run = onnx_engine(model_of(loop()).SerializeToString())
    monkeypatch.setattr(stoppable, "SECONDS", 0.3)
    before = threading.active_count()
    with pytest.raises(ConverterError, match=r"took longer than 0\.3 s on input \[1, 3, 8, 8\]"):
        run(np.ones((1, 3, 8, 8), np.float32))
    began = time.monotonic()
    while threading.active_count() > before:
        assert time.monotonic() - began < 20
        time.sleep(0.01)


def test_an_interrupt_does_not_wait_for_the_graph(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(model_of(loop()).SerializeToString())
    code = (
        "import signal, sys, numpy as np, pathlib; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from converter.engines.onnxruntime import onnx_engine\n"
        "run = onnx_engine(pathlib.Path(sys.argv[1]).read_bytes()); print('ready', flush=True)\n"
        "run(np.ones((1, 3, 8, 8), np.float32))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "m.onnx")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in said


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        stoppable.stoppable(lambda: 1 // 0)


def test_who_leaves_does_not_wait_for_others_work() -> None:
    may_end = threading.Event()

    def work(items: object) -> object:
        if items != [0]:
            may_end.wait(20)
        return items

    results = in_order(work, range(10), 1)
    assert next(results) == [0]
    began = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 5
    may_end.set()
