"""Several heads are judged one by one, in the file as it is; what differs is named with its head."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers.command import ok, refused
from helpers.networks import CIFAR, random_model, save
from onnx import numpy_helper

from converter import export_onnx, verify
from converter.engines.onnxruntime import Session
from densenet.head import Head
from densenet.model import Features

CONFIG = replace(CIFAR, num_classes=0, heads=(Head("age", 3, ("linear:7", "gelu")), Head("sex", 2)))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save(random_model(CONFIG, scaled=True), tmp_path_factory.mktemp("tasks") / "tasks.safetensors")
    export_onnx(path, path.with_suffix(".onnx"), probabilities=True, features=True)
    return path


def changed(path: Path, module: str, by: float) -> Path:
    """An ONNX file with one weight moved."""
    proto = onnx.load(path)
    weight = next(t for t in proto.graph.initializer if t.name.startswith(module) and t.name.endswith("weight"))
    array = numpy_helper.to_array(weight).copy()
    array.flat[1] += by
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(proto, path.with_name("changed.onnx"))
    return path.with_name("changed.onnx")


def test_every_head_of_every_file_is_compared(tasks: Path) -> None:
    ok("convert", tasks, tasks.with_name("again.safetensors"))
    verdict = verify(tasks, tasks.with_suffix(".onnx"), tasks.with_name("again.safetensors"))
    assert verdict.passed
    for head in ("age", "sex"):
        own = [name for name in verdict.results if name.endswith(f", head {head}")]
        assert [name.split(", ")[0] for name in own] == ["PyTorch float32", *["ONNX Runtime"] * 3, "PyTorch float32"]


@pytest.mark.parametrize(("module", "heads"), [("heads.sex.classifier", ["sex"]), ("blocks.1", ["age", "sex"])])
def test_a_fault_is_named_with_its_head(tasks: Path, module: str, heads: list[str]) -> None:
    verdict = verify(tasks, changed(tasks.with_suffix(".onnx"), module, 0.5))
    assert not verdict.passed
    assert [name.rpartition(" ")[2] for name in verdict.breaks] == heads
    assert all(found.module.startswith(module) for found in verdict.breaks.values())


def test_results_under_each_other_s_names_fail(tasks: Path) -> None:
    proto = onnx.load(tasks.with_suffix(".onnx"))
    for node in proto.graph.node:
        node.output[:] = [{"age": "sex", "sex": "age"}.get(name, name) for name in node.output]
    onnx.save(proto, tasks.with_name("swapped.onnx"))
    assert not verify(tasks, tasks.with_name("swapped.onnx")).passed


def test_a_foreign_file_is_compared_by_the_names_of_its_results(tasks: Path) -> None:
    proto = onnx.load(tasks.with_suffix(".onnx"))
    del proto.metadata_props[:], proto.graph.output[2:]
    onnx.save(proto, tasks.with_name("foreign.onnx"))
    assert verify(tasks, tasks.with_name("foreign.onnx")).passed


def test_one_head_is_compared_with_its_own_in_a_file_of_several(tasks: Path) -> None:
    assert verify(tasks, tasks.with_suffix(".onnx"), head="age").passed
    assert "one head" in refused(2, "verify", tasks, tasks.with_suffix(".onnx"), "--record", tasks.with_name("r.npz"))
    export_onnx(tasks, tasks.with_name("age.onnx"), head="age")
    assert verify(tasks, tasks.with_name("age.onnx"), head="age").passed
    assert not np.isnan(verify(tasks).worst())


def test_what_heads_share_is_computed_once(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {"torch": 0, "onnx": 0}
    in_torch, in_onnx = Features.forward_features, Session.run

    def counted_torch(self: Features, x: torch.Tensor) -> torch.Tensor:
        runs["torch"] += 1
        return in_torch(self, x)

    def counted_onnx(self: Session, *args: Any) -> list[Any]:
        runs["onnx"] += 1
        return in_onnx(self, *args)

    monkeypatch.setattr(Features, "forward_features", counted_torch)
    monkeypatch.setattr(Session, "run", counted_onnx)
    ok("convert", tasks, tasks.with_name("again.safetensors"))
    files = tasks.with_suffix(".onnx"), tasks.with_name("again.safetensors")
    together = verify(tasks, *files)
    of_two, alone = dict(runs), {}
    for head in ("age", "sex"):
        runs.update(torch=0, onnx=0)
        alone[head] = verify(tasks, *files, head=head)
        assert of_two == runs
    for head, verdict in alone.items():
        for name, found in verdict.results.items():
            assert [c.error for c in together.results[f"{name}, head {head}"]] == [c.error for c in found]
