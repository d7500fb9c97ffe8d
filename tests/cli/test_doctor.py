"""doctor: what is installed, at which version, and what to install for the rest."""

from __future__ import annotations

import json
from importlib import metadata
from importlib.util import find_spec

import onnxruntime
from helpers.command import ok

from converter.engines.runtimes import RUNTIMES


def test_what_is_installed_and_what_to_install() -> None:
    found = json.loads(ok("doctor", "--json"))
    parts = {(part["kind"], part["name"]): part for part in found["parts"]}
    onnx = parts["engine", "ONNX Runtime"]
    assert onnx["packages"] == {"onnxruntime": metadata.version("onnxruntime")}
    assert (onnx["ready"], onnx["install"]) == (True, "")
    cuda = parts["engine", "ONNX Runtime, CUDA"]
    assert cuda["ready"] is ("CUDAExecutionProvider" in onnxruntime.get_available_providers())
    assert cuda["install"] == ("" if cuda["ready"] else "pip install onnxruntime-gpu")
    for runtime in RUNTIMES:
        part = parts["exporter", runtime.name]
        missing = [name for name in runtime.writes if find_spec(name) is None]
        assert part["does"] == runtime.suffix
        assert part["ready"] is not bool(missing)
        assert part["install"] == (f"pip install 'densenet-converter[{runtime.extra}]'" if missing else "")
        assert [name for name, version in part["packages"].items() if version is None] == missing


def test_a_table_for_people() -> None:
    said = ok("doctor")
    assert f"onnxruntime {metadata.version('onnxruntime')}" in said
    for title in ("Engines", "Exporters", "Other files"):
        assert title in said
