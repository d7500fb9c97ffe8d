"""A candidate is found and parsed once, however much of verification looks at it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from helpers.networks import save
from helpers.parity import SMALL, edit

from converter import verify
from converter.fetch import place
from converter.formats import onnx_file
from converter.parity import artifact


def test_a_failing_onnx_candidate_is_opened_once_and_its_weights_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = save(SMALL, tmp_path / "a.safetensors")
    from converter.use.export import export_onnx

    export_onnx(reference, tmp_path / "good.onnx")

    def damage(proto: onnx.ModelProto) -> None:
        weight = next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4)
        weight.raw_data = bytes(len(weight.raw_data))

    candidate = edit(tmp_path / "good.onnx", tmp_path / "bad.onnx", damage)
    seen: list[str] = []

    def counted(module: object, name: str, word: str) -> None:
        real = getattr(module, name)

        def call(path: Path, *rest: object) -> object:
            if Path(path) == candidate:
                seen.append(word)
            return real(path, *rest)

        monkeypatch.setattr(module, name, call)

    counted(onnx, "load", "onnx")
    counted(onnx_file, "open_onnx", "reader")
    counted(artifact, "resolve", "resolved")
    assert place.resolve is not artifact.resolve
    verdict = verify(reference, candidate)
    assert not verdict.passed
    assert verdict.breaks  # located, too
    # A reader looks for external data; weights are not kept, and are loaded again to say where it breaks.
    assert sorted(seen) == ["onnx", "onnx", "reader", "reader", "resolved"]
