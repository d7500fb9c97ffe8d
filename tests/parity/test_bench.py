"""The conditions of a comparison: what they default to, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from converter import Bench, ConverterError
from converter.core.errors import Unavailable


def test_the_usual() -> None:
    bench = Bench()
    assert (bench.images, bench.seed, bench.engines, bench.specs) == (None, 0, (), ())


def test_engines_are_taken_apart_once() -> None:
    bench = Bench(engines=(name for name in ["onnxruntime-basic@1", "onnxruntime"]))
    assert bench.engines == ("onnxruntime-basic@1", "onnxruntime")
    assert [spec.label for spec in bench.specs] == ["ONNX Runtime basic 1 thread", "ONNX Runtime"]
    assert bench == Bench(engines=bench.engines)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"engines": ["tensorrt"]}, "no engine is called 'tensorrt'"),
        ({"engines": ["onnxruntime@0"]}, "no engine is called"),
        ({"seed": -1}, "a seed is 0 or more, not -1"),
    ],
)
def test_what_is_refused_where_it_is_made(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConverterError, match=message):
        Bench(**fields)


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converter.engines.specs.find_spec", lambda _: None)
    with pytest.raises(Unavailable, match="openvino is not installed: pip install openvino"):
        Bench(engines=["openvino"])
