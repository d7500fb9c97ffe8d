"""The verbs on what is in memory, and what their results show in a terminal and in a notebook."""

from __future__ import annotations

import importlib
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from converter import ConverterError, diff, export_onnx, inference_model, inspect, load, predict, verify
from converter.core.progress import counted, shown_in_notebooks

torch = pytest.importorskip("torch")
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def made() -> Any:
    torch.manual_seed(0)
    return importlib.import_module("torchvision.models").DenseNet(4, (1, 1), 8, num_classes=3).eval()


def test_onnx_into_a_buffer_is_the_file(made: Any, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    done = export_onnx(made, buffer)
    export_onnx(made, tmp_path / "a.onnx")
    assert done.path is None and done.to_dict()["target"] is None
    assert buffer.getvalue() == (tmp_path / "a.onnx").read_bytes()
    for target in (io.StringIO(), 3, None):
        with pytest.raises(ConverterError, match="a target is a path, or a file opened in binary mode; not a"):
            export_onnx(made, target)  # type: ignore[arg-type]
    with pytest.raises(ConverterError, match="name a file"):
        export_onnx(made, io.BytesIO(), external_data=True)


def test_predictions_of_a_module_and_of_onnx_bytes(made: Any) -> None:
    buffer = io.BytesIO()
    export_onnx(made, buffer)
    scores = [inference_model(source, PIXELS)["pred_scores"] for source in (made, buffer.getvalue())]  # type: ignore
    assert np.array_equal(*scores)
    done = predict(made, [PIXELS, PIXELS], top=2)
    assert repr(done) == "Classified(2 of 2 images)"
    assert done.answered == 2 and done.ranked[1]["image"] == "the array"
    assert [each["score"] for each in done.ranked[0]["top"]] == sorted(scores[0].tolist(), reverse=True)[:2]


def test_a_state_dict_against_onnx_bytes(made: Any) -> None:
    buffer = io.BytesIO()
    export_onnx(made, buffer)
    verdict = verify(made.state_dict(), buffer.getvalue())
    assert verdict.passed and any("torchvision: it is in memory" in note for note in verdict.notes)
    assert repr(verdict) == "Verification('state dict in memory', 2 engines, passed)"
    page = verdict._repr_html_()
    assert "PyTorch float32" in page and "pass" in page and len(page) < 5000
    with pytest.raises(ConverterError, match="save it and name that"):
        verify(made, engines=["torchvision"])


def test_differences_of_two_in_memory(made: Any) -> None:
    found = diff(made, made.state_dict())
    assert found.relation == "identical" and repr(found).endswith("the same weights, bit for bit)")
    assert len(repr(found)) < 200


def test_what_is_shown_of_a_model_is_short_and_escaped(made: Any) -> None:
    state = {"state_dict": made.state_dict(), "class_names": ["<b>", "dog", "fox"]}
    found, model = inspect(state), load(state)
    for shown in (found, model):
        assert len(repr(shown)) < 250 and "3 classes" in repr(shown)
        page = shown._repr_html_()
        assert page.startswith("<table>") and "&lt;b&gt;" in page and "<b>" not in page
        assert len(page) < 3000 and "the file holds tensors alone" in page


def test_progress_is_a_line_of_a_notebooks_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[list[str]] = []

    def display(data: dict[str, str], **_: Any) -> Any:
        said.append([data["text/plain"]])
        return SimpleNamespace(update=lambda data, **_: said[-1].append(data["text/plain"]))

    class ZMQInteractiveShell:
        execution_count = 1

    shell = ZMQInteractiveShell()
    shown_in_notebooks("nobody sees it")
    module = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", module)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))  # type: ignore[arg-type]
    shown_in_notebooks("one")
    shown_in_notebooks("two")
    shell.execution_count = 2
    more = counted(8)
    more(3)
    more(5)
    assert said == [["one", "two"], [f"{'━' * 9}{'╌' * 15} 3 of 8 images", f"{'━' * 24} 8 of 8 images"]]
