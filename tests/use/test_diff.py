"""``densenet diff``: the same weights in other clothes, and what is not the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.command import ok, refused, run
from helpers.networks import CIFAR, SMALL, random_model, random_tensors, save
from helpers.t7 import Official, saved
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import Difference, diff, inspect
from converter.core.checkpoint import Tensor
from converter.core.fingerprint import Fingerprint
from converter.use.diff.compare import compare
from densenet.config import DenseNetConfig

OFFICIAL = DenseNetConfig(growth_rate=4, block_config=(2, 1), init_features=8, num_classes=3)


def between(a: dict[str, np.ndarray], b: dict[str, np.ndarray], config: DenseNetConfig = SMALL) -> Difference:
    models = [random_model(config, changes=tensors) for tensors in (a, b)]
    return compare("a", "b", *models)


def others(found: Difference) -> dict[str, str]:
    return {tensor.name: tensor.status for tensor in found.tensors if tensor.status != "identical"}


def test_the_same_weights_in_t7_keras_torch_and_safetensors(tmp_path: Path) -> None:
    tensors = random_tensors(OFFICIAL)
    t7 = saved(tmp_path / "a.t7", Official(OFFICIAL, tensors).network())
    for target, more in (("b.safetensors", ()), ("c.h5", ("--to", "keras")), ("d.pth", ("--to", "torchvision"))):
        ok("convert", t7, tmp_path / target, *more)
        done = run("diff", t7, tmp_path / target)
        assert done.returncode == 0, done.stdout
        # Keras has an eps of its own, which is folded into the norms.
        assert done.stdout.splitlines()[-1].startswith(
            "the same weights, " + ("" if "keras" in more else "bit for bit")
        )
    prints = {inspected(tmp_path / name)["fingerprint"] for name in ("a.t7", "b.safetensors", "d.pth")}
    assert len(prints) == 1


def inspected(path: Path) -> dict[str, str]:
    facts: dict[str, str] = json.loads(ok("inspect", path, "--fingerprint", "--json"))
    return facts


@pytest.mark.parametrize(("dtype", "name"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_rounded_weights_are_the_same_and_said_to_be_rounded(tmp_path: Path, dtype: str, name: str) -> None:
    a, b = save(SMALL, tmp_path / "a.safetensors"), tmp_path / "b.safetensors"
    ok("convert", a, b, "--dtype", dtype)
    done = run("diff", a, b)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"the same weights, rounded to {name}")
    prints = [Fingerprint.of(inspect(path).model.tensors) for path in (a, b)]
    assert prints[0].same(prints[1]) == name
    assert Fingerprint.parse(str(prints[0])) == prints[0]
    assert Fingerprint.parse("x") is None


def test_a_fine_tuned_head_is_another_head_on_the_same_trunk(tmp_path: Path) -> None:
    a = save(SMALL, tmp_path / "a.safetensors")
    other = random_tensors(SMALL, 1)
    b = save(random_model(changes={k: v for k, v in other.items() if "classifier" in k}), tmp_path / "b.safetensors")
    done = run("diff", a, b, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["relation"]) == (1, "other head")
    assert others(diff(a, b)) == {"classifier.weight": "changed", "classifier.bias": "changed"}
    assert found["line"].startswith("the same trunk with another head (5 classes): 2 of ")


def test_other_classes_are_another_head() -> None:
    config = DenseNetConfig(**{**vars(SMALL), "num_classes": 3})
    tensors = random_tensors(SMALL)
    trunk = {name: array for name, array in tensors.items() if "classifier" not in name}
    found = compare("a", "b", random_model(SMALL), random_model(config, changes=trunk))
    assert (found.relation, found.same) == ("other head", False)
    assert "(5 and 3 classes)" in found.line()
    assert found.settings == {"num_classes": (5, 3)}


def test_one_changed_norm_is_found_with_its_distance() -> None:
    a = random_tensors(SMALL)
    name = "blocks.2.layers.1.norm2.weight"
    found = between(a, {**a, name: a[name] * np.linspace(0.9, 1.1, len(a[name]), dtype=np.float32)})
    assert others(found) == {name: "changed"}
    (tensor,) = [t for t in found.tensors if t.name == name]
    expected = np.linalg.norm(a[name] * np.linspace(-0.1, 0.1, len(a[name]))) / np.linalg.norm(a[name])
    assert tensor.distance == pytest.approx(expected, rel=1e-5)
    assert (found.relation, found.same) == ("related", False)


def test_swapped_layers_say_where_they_come_from() -> None:
    a = random_tensors(CIFAR)
    names = ("blocks.0.layers.0.conv1.weight", "blocks.1.layers.0.conv1.weight")
    shape = a[names[0]].shape
    b = {**a, "blocks.0.layers.0.norm1.weight": a["stem.conv.weight"][:6, 0, 0, 0]}
    swapped = ("transitions.0.norm.weight", "transitions.0.norm.bias")
    b |= dict(zip(swapped, (a[swapped[1]], a[swapped[0]])))
    found = {tensor.name: (tensor.status, tensor.detail) for tensor in between(a, b, CIFAR).tensors}
    assert found[swapped[0]] == ("moved", f"A's {swapped[1]}")
    assert found[swapped[1]] == ("moved", f"A's {swapped[0]}")
    assert found["blocks.0.layers.0.norm1.weight"][0] == "changed"
    assert found[names[0]][0] == "identical", shape


def test_scaled_and_permuted_tensors_are_called_that() -> None:
    a = random_tensors(SMALL)
    conv, norm = "blocks.0.layers.0.conv1.weight", "norm.bias"
    found = between(a, {**a, conv: a[conv] * np.float32(0.5), norm: a[norm][::-1].copy()})
    assert others(found) == {conv: "scaled", norm: "permuted"}
    assert [t.detail for t in found.tensors if t.name == conv] == ["x 0.5"]


def test_independent_networks_are_unrelated_and_reports_show_it(tmp_path: Path) -> None:
    a, b = save(SMALL, tmp_path / "a.safetensors"), save(random_model(seed=1), tmp_path / "b.safetensors")
    done = run("diff", a, b, "-o", tmp_path / "r.html", "-o", tmp_path / "r.json")
    assert done.returncode == 1
    assert "not the same weights" in done.stdout
    found = json.loads((tmp_path / "r.json").read_text())
    assert abs(found["cosine"]) < 0.3
    assert {tensor["status"] for tensor in found["tensors"]} == {"changed"}
    page = (tmp_path / "r.html").read_text()
    assert page.count("<circle") == len(found["tensors"])
    assert "blocks.3.layers.0.conv2.weight" in page


def test_settings_that_no_tensor_shows_make_networks_differ() -> None:
    other = random_model(DenseNetConfig(**{**vars(SMALL), "transition_relu": not SMALL.transition_relu}))
    found = compare("a", "b", random_model(SMALL), other)
    assert (found.relation, found.same, list(found.settings)) == ("identical", False, ["transition_relu"])
    assert found.line() == "the same weights, bit for bit; 1 settings differ"


def test_another_eps_differs_unless_the_norms_make_up_for_it() -> None:
    config = DenseNetConfig(**{**vars(SMALL), "eps": 1e-3})
    tensors = random_tensors(SMALL)
    found = compare("a", "b", random_model(SMALL), random_model(config))
    assert {t.name.rpartition(".")[2] for t in found.tensors if not t.same} == {"running_var"}
    assert (found.same, found.settings) == (False, {"eps": (1e-5, 1e-3)})
    made_up = {k: v - np.float32(1e-3 - 1e-5) for k, v in tensors.items() if k.endswith("running_var")}
    found = compare("a", "b", random_model(SMALL), random_model(config, changes=made_up))
    assert (found.same, found.settings) == (True, {})


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    a = save(SMALL, tmp_path / "a.safetensors")
    assert "no such report" in refused(2, "diff", a, a, "-o", tmp_path / "r.pdf")
    assert "b.pth" in refused(2, "diff", a, tmp_path / "b.pth")


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["float16", "bfloat16"]))
def test_a_fingerprint_survives_rounding_to_the_precision_it_has_digits_for(seed: int, precision: str) -> None:
    from ml_dtypes import bfloat16

    bits = np.random.default_rng(seed).integers(0, 2**32, 50, np.uint64).astype(np.uint32)
    values = np.nan_to_num(bits.view(np.float32), posinf=1, neginf=-1)
    with np.errstate(over="ignore"):
        rounded = values.astype(bfloat16 if precision == "bfloat16" else np.float16)
    before, after = (Fingerprint.of({"a": Tensor.of(array)}) for array in (values, rounded))
    assert getattr(before, precision) == getattr(after, precision)
    changed = values.copy()
    changed[0] = -changed[0] if changed[0] else 1
    assert Fingerprint.of({"a": Tensor.of(changed)}).same(before) == ""
