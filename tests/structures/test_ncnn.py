"""ncnn: layers and weights, whichever file is given; what they may not be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import CASES, logits_of

from converter import load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile

CASE = CASES / "ncnn"
PARAM = "densenet.ncnn.param"
BIN = "densenet.ncnn.bin"


def changed(folder: Path, change: Callable[[str], str]) -> Path:
    """The case with its layers changed."""
    for name in (PARAM, BIN):
        shutil.copy(CASE / name, folder)
    path = folder / PARAM
    text = change(path.read_text())
    assert text != (CASE / PARAM).read_text()
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["", PARAM, BIN])
def test_any_part_finds_the_rest(name: str) -> None:
    want = np.load(CASE / "logits.npy")
    assert np.abs(logits_of(CASE / name, np.load(CASE / "input.npy")) - want).max() < 1e-5 * np.abs(want).max()


@pytest.mark.parametrize(("gone", "left"), [(BIN, PARAM), (PARAM, BIN)])
def test_a_part_alone_says_what_is_missing(gone: str, left: str, tmp_path: Path) -> None:
    shutil.copy(CASE / left, tmp_path)
    with pytest.raises(UnreadableFile, match=rf"{gone}.*missing" if left == PARAM else "not a checkpoint of a known"):
        load(tmp_path / left)


def test_weights_of_8_bits_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda text: text.replace(" 9=1", " 8=2 9=1", 1))
    with pytest.raises(UnreadableFile, match="its weights are quantised to 8 bits"):
        load(path)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (" 1=2 11=2", " 1=3 11=3", "2x2 average pooling"),  # another pooling in the transition
        ("Concat ", "Eltwise ", "Eltwise"),
        ("ReLU ", "Power ", "Power"),
        ("Pooling                  gap_0", "Interp                   gap_0", "Interp"),
    ],
)
def test_what_a_densenet_does_not_do_is_refused_by_name(old: str, new: str, why: str, tmp_path: Path) -> None:
    def change(text: str) -> str:
        return text.replace(old, new, 1)

    with pytest.raises(NotADenseNet, match=why):
        load(changed(tmp_path, change))


def test_rounding_up_is_a_setting(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda text: text.replace("2=2 3=0 5=1 6=1", "2=2 3=0 5=0 6=0"))
    assert load(path).config.transition_ceil


def test_an_eps_of_its_own_is_read(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda text: text.replace("1.000000e-5", "1.000000e-3"))
    assert load(path).config.eps == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("old", "new"),
    [("0=6 ", "0=7 "), ("6=", "6=9"), ("BatchNorm ", "GroupNorm "), (" 1 1 in0 ", " 1 x in0 "), ("0=6 ", "0=-6 ")],
)
def test_damaged_layers_are_refused(old: str, new: str, tmp_path: Path) -> None:
    with pytest.raises(ConverterError):
        load(changed(tmp_path, lambda text: text.replace(old, new, 1)))


def test_a_file_of_weights_of_another_size_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda text: text + "\n")
    whole = (CASE / BIN).read_bytes()
    for content, why in ((whole[:-4], "truncated"), (whole + bytes(8), "8 bytes more")):
        (tmp_path / BIN).write_bytes(content)
        with pytest.raises(UnreadableFile, match=why):
            load(path)


def test_other_forms_are_named(tmp_path: Path) -> None:
    (tmp_path / "m.param.bin").write_bytes((7767517).to_bytes(4, "little") + bytes(64))
    with pytest.raises(UnreadableFile, match="binary"):
        load(tmp_path / "m.param.bin")
    (tmp_path / "m.pnnx.param").write_text("7767517\n1 1\npnnx.Input pnnx_input_0 0 1 0 #0=(1,3,32,32)f32\n")
    with pytest.raises(UnreadableFile, match="PNNX' own"):
        load(tmp_path / "m.pnnx.param")
    left = "7767517\n2 2\nInput in0 0 1 in0\nTensor.index Tensor.index_8 1 1 in0 3\n"
    (tmp_path / "m.param").write_text(left)
    with pytest.raises(UnreadableFile, match=r"Tensor\.index Tensor\.index_8 is PNNX' and none of ncnn's layers"):
        load(tmp_path / "m.param")
