"""A repository proved from its own files: every lie in it fails."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.networks import TIMM, random_model
from helpers.packages import read, save_described
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.numpy import save as save_tensors

from converter import convert
from converter.core.errors import ConverterError
from converter.core.hashing import sha256_of
from converter.demo.demo import CHECKPOINT, IMAGES
from converter.exporters.onnx import to_onnx
from converter.parity.bench import Bench
from converter.parity.verdict import Verification
from converter.publish.package import package
from converter.publish.provenance import parse_provenance
from converter.publish.repository import is_repository, verify_repository


def test_a_damaged_repository_fails_its_proof(digits: Path, tmp_path: Path) -> None:
    assert is_repository(str(digits))
    assert not is_repository(str(CHECKPOINT))
    assert is_repository("owner/name")
    assert not is_repository("hf://owner/name/model.safetensors")
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32))
    assert (
        verify_repository(digits, bench=Bench(tmp_path / "mine.npy")).budgets["onnx/model_fp16.onnx"].kinds["images"]
        == 3
    )
    proof = verify_repository(digits, bench=Bench(IMAGES))
    assert proof.passed
    listed = set(parse_provenance((digits / "provenance.json").read_bytes()))
    assert {check.name for check in proof.checks["provenance.json"]} == listed | {"config", "fingerprint"}
    assert proof.checks["onnx/model_fp16.onnx"]
    assert {check.name for check in proof.checks["config.json"]} > {
        "architecture",
        "label_names",
        "pretrained_cfg.mean",
    }
    assert set(proof.budgets) == {"onnx/model_fp16.onnx", "onnx/model_quantized.onnx"}
    assert "ONNX Runtime, model.onnx" in proof.results
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", digits, copy], check=True)
    (copy / "config.json").write_bytes(b"{}")
    (copy / "onnx" / "model_fp16.onnx").unlink()
    proof = verify_repository(copy)
    size = (digits / "config.json").stat().st_size
    assert failing(proof) == {
        "config.json": f"has 2 bytes, {size} are recorded",
        "onnx/model_fp16.onnx": "missing",
    }


@pytest.mark.parametrize("unlisted", [None, "model.safetensors", "config.json"])
def test_a_provenance_that_vouches_for_nothing_proves_nothing(
    unlisted: str | None, digits: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    values = read(copy / "provenance.json")
    values["files"] = {} if unlisted is None else {k: v for k, v in values["files"].items() if k != unlisted}
    (copy / "provenance.json").write_text(json.dumps(values))
    proof = verify_repository(copy)
    assert failing(proof)[unlisted or "config.json"] == "not in provenance.json: nothing vouches for it"


def test_an_onnx_file_of_other_weights_fails_the_proof_although_its_hash_is_right(tmp_path: Path) -> None:
    package(save_described(TIMM, tmp_path / "a.safetensors"), tmp_path / "out", onnx=["fp32"])
    wrong = to_onnx(random_model(TIMM, seed=1)).SerializeToString()
    forge(tmp_path / "out", "onnx/model.onnx", wrong)
    proof = verify_repository(tmp_path / "out")
    assert not proof.passed
    assert all(check.ok for check in proof.checks["provenance.json"])
    assert all(comparison.problem for comparison in proof.results["ONNX Runtime, model.onnx"])


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model_quantized.onnx", "model.safetensors", "config.json"])
@pytest.mark.parametrize("torch", [True, False])
def test_a_file_that_is_none_fails_the_proof_although_its_hash_is_right(
    name: str, torch: bool, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    forge(copy, name, b"{garbage")
    if not torch:
        monkeypatch.setattr("converter.publish.repository.has_torch", lambda: False)
    proof = verify_repository(copy)
    assert not proof.passed
    assert all(check.ok for check in proof.checks["provenance.json"])


CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "architecture": lambda c: c | {"architecture": "densenet169"},
    "num_classes": lambda c: c | {"num_classes": 11},
    "label_names": lambda c: c | {"label_names": c["label_names"][::-1]},
    "pretrained_cfg.mean": lambda c: c | {"pretrained_cfg": c["pretrained_cfg"] | {"mean": [0.5, 0.5, 0.5]}},
    "pretrained_cfg.label_offset": lambda c: c | {"pretrained_cfg": c["pretrained_cfg"] | {"label_offset": 1}},
    "model_args": lambda c: c | {"model_args": c["model_args"] | {"global_pool": "max"}},
    "model_type": lambda c: c | {"model_type": "vit"},
    "auto_map": lambda c: c | {"auto_map": {"AutoModel": "me/code--model.Model"}},
    "pretrained_cfg": lambda c: {k: v for k, v in c.items() if k != "pretrained_cfg"} | {"pretrained_cfg.mean": 1},
}


@pytest.mark.parametrize("key", CONFIGS)
def test_a_config_of_another_network_fails_the_proof(key: str, digits: Path, tmp_path: Path, quick: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    forge(copy, "config.json", json.dumps(CONFIGS[key](read(copy / "config.json"))).encode())
    assert any(name.startswith(key) for name in failing(verify_repository(copy)))


@pytest.mark.parametrize("change", [{"do_flip_channel_order": True}, {"image_mean": [9, 9, 9]}, None])
def test_images_prepared_otherwise_fail_the_proof(
    change: dict[str, Any] | None, digits: Path, tmp_path: Path, quick: None
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    name = "preprocessor_config.json"
    if change is None:
        (copy / name).unlink()
        values = read(copy / "provenance.json")
        del values["files"][name]
        (copy / "provenance.json").write_text(json.dumps(values))
    else:
        forge(copy, name, json.dumps(read(copy / name) | change).encode())
    assert set(failing(verify_repository(copy))) == set(change or ["file"])


def relabelled(proto: onnx.ModelProto) -> None:
    (found,) = [prop for prop in proto.metadata_props if prop.key == "densenet.labels"]
    found.value = json.dumps(json.loads(found.value)[::-1])


def renamed(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        node.input[:] = ["x" if name == "pixel_values" else name for name in node.input]
    proto.graph.input[0].name = "x"


def fixed(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def shared(proto: onnx.ModelProto) -> None:
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "side"


def unnamed(proto: onnx.ModelProto) -> None:
    del proto.metadata_props[:]


def further(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["probabilities"]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("probabilities", 1, ["batch", 10]))


@pytest.mark.parametrize("name", ["model.onnx", "model_fp16.onnx", "model_quantized.onnx"])
@pytest.mark.parametrize("change", [relabelled, renamed, fixed, shared, unnamed, further])
def test_a_graph_that_breaks_its_contract_fails_the_proof(
    name: str, change: Callable[[onnx.ModelProto], None], digits: Path, tmp_path: Path, quick: None
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    proto = onnx.load(copy / "onnx" / name)
    change(proto)
    forge(copy, f"onnx/{name}", proto.SerializeToString())
    checks = verify_repository(copy).checks[f"onnx/{name}"]
    assert any(check.ok is False for check in checks)


@pytest.mark.parametrize("name", ["model.onnx", "model_fp16.onnx", "model_quantized.onnx"])
def test_a_graph_of_another_precision_fails_the_proof(name: str, digits: Path, tmp_path: Path, quick: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    other = "model_fp16.onnx" if name != "model_fp16.onnx" else "model.onnx"
    forge(copy, f"onnx/{name}", (digits / "onnx" / other).read_bytes())
    assert "precision" in failing(verify_repository(copy))


@pytest.mark.parametrize(
    "kind", ["library names", "prefixed", "pickled", "other eps", "no metadata", "labels", "preprocess"]
)
def test_weights_that_others_cannot_load_fail_the_proof(kind: str, digits: Path, tmp_path: Path, quick: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    weights = copy / "model.safetensors"
    with safe_open(weights, "numpy") as file:
        said = file.metadata()
    tensors = load_file(weights)
    if kind == "library names":
        convert(weights, copy / "b.safetensors")
        data = (copy / "b.safetensors").read_bytes()
        (copy / "b.safetensors").unlink()
    elif kind == "pickled":
        convert(weights, copy / "b.pth", to="timm")
        data = (copy / "b.pth").read_bytes()
        (copy / "b.pth").unlink()
    elif kind == "prefixed":
        data = serialized({f"module.{name}": array for name, array in tensors.items()}, said)
    elif kind == "other eps":
        config = json.loads(said["densenet.config"]) | {"eps": 1e-3}
        data = serialized(tensors, said | {"densenet.config": json.dumps(config)})
    elif kind in ("labels", "preprocess"):
        data = serialized(tensors, said | {f"densenet.{kind}": "[[1], {}]"})
    else:
        data = serialized(tensors, {})
    forge(copy, "model.safetensors", data)
    proof = verify_repository(copy)
    assert any(check.ok is False for check in proof.checks["model.safetensors"]), proof.checks


@pytest.mark.parametrize("option", [{"engines": ["nonsense"]}, {"images": "nowhere"}])
def test_wrong_usage_is_no_verdict(option: dict[str, Any], digits: Path) -> None:
    with pytest.raises(ConverterError):
        verify_repository(digits, bench=Bench(**option))


def test_weights_nothing_proves_fail_where_they_are_listed(digits: Path, tmp_path: Path, quick: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    forge(copy, "onnx/model_q4.onnx", b"other weights")
    assert "onnx/model_q4.onnx" in failing(verify_repository(copy))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said is tested, not what is computed; PyTorch's part is in other tests."""
    monkeypatch.setattr("converter.publish.repository.has_torch", lambda: False)


def test_the_card_is_for_people_to_edit(digits: Path, tmp_path: Path, quick: None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    (copy / "README.md").write_text((copy / "README.md").read_text() + "A word of mine.")
    proof = verify_repository(copy)
    assert proof.passed
    assert [c.name for c in proof.checks["provenance.json"] if c.ok is None] == ["README.md"]
    (copy / "README.md").unlink()
    assert failing(verify_repository(copy)) == {"README.md": "missing"}


def test_files_nobody_vouches_for_are_named(digits: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    (copy / "notes.txt").write_text("mine")
    proof = verify_repository(copy)
    assert proof.passed
    assert [(c.name, c.detail) for c in proof.checks["provenance.json"] if c.ok is None] == [
        ("notes.txt", "not in provenance.json")
    ]
    values = read(copy / "provenance.json")
    del values["files"]["onnx/model_fp16.onnx"]
    (copy / "provenance.json").write_text(json.dumps(values))
    assert failing(verify_repository(copy)) == {"onnx/model_fp16.onnx": "not in provenance.json"}


def serialized(tensors: dict[str, Any], metadata: dict[str, str]) -> bytes:
    data: bytes = save_tensors(tensors, metadata)
    return data


def failing(proof: Verification) -> dict[str, str]:
    """What does not hold, and why."""
    return {check.name: check.detail for checks in proof.checks.values() for check in checks if check.ok is False}


def forge(folder: Path, name: str, data: bytes) -> None:
    """Another file, and its hash where provenance.json has the right one's."""
    (folder / name).write_bytes(data)
    values = read(folder / "provenance.json")
    values["files"][name] = {"sha256": sha256_of((folder / name,)), "size": len(data)}
    (folder / "provenance.json").write_text(json.dumps(values))
