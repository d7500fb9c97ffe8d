"""The two files of an OpenVINO IR: what is missing, damaged or asks for too much is one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.cases import CASES

from converter import load
from converter.core.errors import ConverterError, UnreadableFile
from converter.formats import open_checkpoint

CASE = CASES / "openvino10-mo"
LAUGHS = '<!DOCTYPE net [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for name in ("model.xml", "model.bin"):
        shutil.copy(CASE / name, tmp_path)
    return tmp_path / "model.xml"


def test_what_is_opened(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    assert checkpoint.format == "OpenVINO IR"
    assert [file.name for file in checkpoint.files] == ["model.xml", "model.bin"]
    assert checkpoint.graph.version == 10
    assert open_checkpoint(path.with_suffix(".bin")).path == path


def test_missing_and_short_weights(path: Path) -> None:
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(UnreadableFile, match=r"model\.xml: model\.bin is truncated"):
        open_checkpoint(path)
    weights.unlink()
    with pytest.raises(UnreadableFile, match=r"model\.bin, which has its weights, is missing"):
        open_checkpoint(path)


def test_weights_alone_are_no_network(path: Path) -> None:
    path.unlink()
    with pytest.raises(ConverterError):
        load(path.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<net ", f"{LAUGHS}<net ", "document type"),
        ("</net>", "", "damaged"),
        ('offset="0"', 'offset="-4"', "truncated"),
        ('offset="0"', 'offset="99999999999999999999"', "truncated"),
        ('shape="4,8,3,3"', 'shape="4,8,3,4"', "bytes of float32"),
        ("<edge ", "<edge x='' ", ""),
        ('layer id="0"', 'layer id="1"', "two layers have the number 1"),
        ("<dim>40</dim>", "<dim>many</dim>", "damaged"),
        ('from-layer="0"', 'from-layer="77777"', "takes what no layer gives"),
        ('kernel="3,3"', 'kernel="3,three"', "attributes that cannot be"),
        ('type="Parameter"', 'type="Const"', "0 inputs"),
    ],
)
def test_damage_is_said(path: Path, old: str, new: str, words: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    if not words:
        load(path)
        return
    with pytest.raises(ConverterError, match=words) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_other_xml_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<?xml version='1.0'?><annotation><object/></annotation>")
    with pytest.raises(UnreadableFile, match="not a checkpoint of a known format"):
        open_checkpoint(tmp_path / "a.xml")
