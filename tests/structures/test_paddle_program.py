"""Paddle programs, as Paddle wrote them, with operators changed: what is computed is read, or refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cases import CASES, logits_of

from converter import load
from converter.core.errors import NotADenseNet

Ops = list[dict[str, Any]]


def of_kind(ops: Ops, kind: str, at: int = 0) -> dict[str, Any]:
    """An operator of a program by what it does."""
    return [op for op in ops if op["#"] == f"1.{kind}"][at]


def says(kind: str, at: int = 0, becomes: str = "", **attributes: Any) -> Callable[[Ops], None]:
    """An operator that says something else, or does."""

    def change(ops: Ops) -> None:
        op = of_kind(ops, kind, at)
        for attribute in op["A"]:
            if attribute["N"] in attributes:
                attribute["AT"]["D"] = attributes[attribute["N"]]
        op["#"] = f"1.{becomes}" if becomes else op["#"]

    return change


def behind(kind: str, **attributes: Any) -> Callable[[Ops], None]:
    """A further operator, which makes the result of the logits."""

    def change(ops: Ops) -> None:
        fetch = of_kind(ops, "fetch")
        said = [{"N": name, "AT": {"#": "", "D": value}} for name, value in attributes.items()]
        made = {"#": f"1.{kind}", "A": said, "I": fetch["I"], "O": [{"%": 9999, "TT": {}}]}
        ops.insert(ops.index(fetch), made)
        fetch["I"] = [{"%": 9999}]

    return change


def in_front(kind: str, **attributes: Any) -> Callable[[Ops], None]:
    """A further operator, which makes of the image what the first convolution takes."""

    def change(ops: Ops) -> None:
        conv, data = of_kind(ops, "conv2d"), of_kind(ops, "data")
        said = [{"N": name, "AT": {"#": "", "D": value}} for name, value in attributes.items()]
        made = {"#": f"1.{kind}", "A": said, "I": [{"%": data["O"][0]["%"]}], "O": [{"%": 9998, "TT": {}}]}
        ops.insert(ops.index(conv), made)
        conv["I"][0] = {"%": 9998}

    return change


def changed(folder: Path, change: Callable[[Ops], None]) -> Path:
    """The reference program with something changed, its parameters beside it."""
    shutil.copytree(CASES / "paddle-jit3", folder, dirs_exist_ok=True)
    path = folder / "inference.json"
    program = json.loads(path.read_text())
    change(program["program"]["regions"][0]["blocks"][0]["ops"])
    path.write_text(json.dumps(program, separators=(",", ":")))
    return path


def numbers(*values: int) -> list[dict[str, Any]]:
    return [{"#": "0.a_i64", "D": value} for value in values]


STRANGE = {
    "conv2d": says("conv2d", 1, strides=numbers(2, 2)),
    "depthwise|conv2d": says("conv2d", 2, paddings=numbers(0, 0)),
    "tanh": says("relu", 3, "tanh"),
    "border of zeros": says("pool2d", 0, pooling_type="avg"),
    "transition_pool is avg here, max before": says("pool2d", 1, pooling_type="max"),
    "transition_ceil": says("pool2d", 1, ceil_mode=True),
    "pool2d .* global pooling|a pooling": says("pool2d", -1, adaptive=False),
    "training mode": says("batch_norm_", 2, is_test=False),
    "flip .* logits": behind("flip", axis=numbers(1)),
    "relu %9999": behind("relu"),
    "softmax %9999": behind("softmax", axis=0),
    "quantised": in_front("quantize_linear"),
    "bilinear_interp": in_front("bilinear_interp"),
    "drops features": behind("dropout", is_test=False),
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_another_network_is_refused_by_name(tmp_path: Path, change: Callable[[Ops], None]) -> None:
    match = next(match for match, each in STRANGE.items() if each is change)
    with pytest.raises(NotADenseNet, match=match):
        load(changed(tmp_path, change))


SAME = {
    "softmax": (behind("softmax", axis=-1), 1.0, 0.0, "softmax %9999 behind the logits"),
    "dropout": (behind("dropout", is_test=True, mode="upscale_in_train"), 1.0, 0.0, ""),
    "dropout of old": (behind("dropout", is_test=True, mode="downgrade_in_infer", dropout_prob=0.25), 0.75, 0.0, ""),
    "scale": (behind("scale", scale=2.0, bias=1.0, bias_after_scale=True), 2.0, 1.0, ""),
    "shift, then scale": (behind("scale", scale=2.0, bias=1.0, bias_after_scale=False), 2.0, 2.0, ""),
}


@pytest.mark.parametrize(("change", "times", "plus", "note"), SAME.values(), ids=SAME)
def test_what_follows_the_logits(
    tmp_path: Path, change: Callable[[Ops], None], times: float, plus: float, note: str
) -> None:
    path = changed(tmp_path, change)
    expected = np.load(tmp_path / "logits.npy") * times + plus
    have = logits_of(path, np.load(tmp_path / "input.npy"))
    np.testing.assert_allclose(have, expected, atol=1e-5 * np.abs(expected).max())
    assert any(note in each for each in load(path).notes) or not note


def test_what_images_go_through(tmp_path: Path) -> None:
    x = np.load(CASES / "paddle-jit3" / "input.npy")
    plain = logits_of(CASES / "paddle-jit3", x)
    path = changed(tmp_path, in_front("flip", axis=numbers(1)))
    np.testing.assert_allclose(logits_of(path, x[:, ::-1].copy()), plain, atol=1e-5)
    path = changed(tmp_path, in_front("scale", scale=0.5, bias=0.0, bias_after_scale=True))
    np.testing.assert_allclose(logits_of(path, 2 * x), plain, atol=1e-5)
    path = changed(tmp_path, in_front("scale", scale=2.0, bias=-1.0, bias_after_scale=True))
    assert any("recorded as its preprocessing" in note for note in load(path).notes)


@pytest.mark.parametrize(("kind", "other"), [(b"\x1a\x04relu", b"\x1a\x04sqrt"), (b"pool2d", b"pool9d")])
def test_a_program_of_paddle_2_is_read_whole(tmp_path: Path, kind: bytes, other: bytes) -> None:
    shutil.copytree(CASES / "paddle-jit2", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "inference.pdmodel"
    assert load(path).origin.layout == "paddle, program"
    path.write_bytes(path.read_bytes().replace(kind, other))
    with pytest.raises(NotADenseNet, match=other[-4:].decode()):
        load(path)


def before_the_classifier(kind: str, **attributes: Any) -> Callable[[Ops], None]:
    """An activation of the pooled features."""

    def change(ops: Ops) -> None:
        linear = of_kind(ops, "matmul")
        said = [{"N": name, "AT": {"#": "", "D": value}} for name, value in attributes.items()]
        made = {"#": f"1.{kind}", "A": said, "I": [linear["I"][0]], "O": [{"%": 9997, "TT": {}}]}
        ops.insert(ops.index(linear), made)
        linear["I"][0] = {"%": 9997}

    return change


ACTIVATIONS = {
    "gelu": before_the_classifier("gelu", approximate=False),
    "gelu_tanh": before_the_classifier("gelu", approximate=True),
    "leaky_relu:0.1": before_the_classifier("leaky_relu", alpha=float(np.float32(0.1))),
    "silu": before_the_classifier("swish"),
    "hardswish": before_the_classifier("hardswish"),
    "hardsigmoid": before_the_classifier("hardsigmoid", slope=float(np.float32(1 / 6)), offset=0.5),
    "softplus": before_the_classifier("softplus", beta=1.0, threshold=20.0),
}


@pytest.mark.parametrize(("word", "change"), ACTIVATIONS.items(), ids=ACTIVATIONS)
def test_activations_of_a_head(tmp_path: Path, word: str, change: Callable[[Ops], None]) -> None:
    assert load(changed(tmp_path, change)).config.head == (word,)


@pytest.mark.parametrize(
    "change", [before_the_classifier("hardsigmoid", slope=0.25, offset=0.5), before_the_classifier("stanh")]
)
def test_an_activation_that_no_head_has_is_refused(tmp_path: Path, change: Callable[[Ops], None]) -> None:
    with pytest.raises(NotADenseNet, match="%9997"):
        load(changed(tmp_path, change))
