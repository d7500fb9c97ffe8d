"""Lone surrogates and control characters in names of files and classes, through all that prints or writes them."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from helpers.command import run
from helpers.networks import TIMM, random_model

from converter.core.metadata import LABELS_KEY, PREPROCESS_KEY
from converter.demo.demo import IMAGES
from converter.formats.safetensors import write_safetensors
from densenet.preprocess import Preprocess

LABELS = ["a\ud800\x1b[31m", "b\x9b\ufffe\uffff", "c<script>|`", "d\u202e\x00", "e\x07\x85f"]
IMAGE = next(IMAGES.glob("3/*.png"))
OBEYED = "\x1b\x9b\x00\x07\x85\ufffe\uffff"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / os.fsdecode(b"m\xff\x1b[31m\xc2\x9b.safetensors")
    model = random_model(TIMM)
    steps = Preprocess(resize=32, crop=(32, 32))
    said = {LABELS_KEY: json.dumps(LABELS), PREPROCESS_KEY: json.dumps(steps.to_dict())}
    write_safetensors(path, model.tensors, {**model.metadata(), **said})
    return path


def well_said(text: str) -> None:
    text.encode()  # no lone surrogate
    assert not [mark for mark in OBEYED if mark in text]


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("verb", ["inspect", "predict", "convert", "export", "verify"])
def test_what_is_printed_obeys_nobody(verb: str, as_json: bool, odd: Path, tmp_path: Path) -> None:
    more = {"predict": [IMAGE], "convert": [tmp_path / "a.safetensors"], "export": [tmp_path / "a.onnx"]}.get(verb, [])
    if verb == "verify":
        more = [odd]
    done = run(verb, odd, *more, *(["--json"] if as_json and verb not in ("convert", "export") else []))
    assert done.returncode == 0, done.stderr
    well_said(done.stdout)
    well_said(done.stderr)


def test_reports_are_what_their_parsers_read(odd: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"r.{kind}" for kind in ("json", "md", "html", "xml")]
    done = run("verify", odd, odd, *(word for path in paths for word in ("--report", path)))
    assert done.returncode == 0, done.stderr
    for path in paths:
        well_said(path.read_text("utf-8"))
    json.loads(paths[0].read_text("utf-8"))
    ET.parse(paths[3])
    assert "<script>|" not in paths[2].read_text("utf-8")


def test_tables_are_well_formed(odd: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "a.jsonl"):
        assert run("predict", odd, IMAGE, "-o", tmp_path / name).returncode == 0
        (tmp_path / name).read_text("utf-8")  # data as they are, but well-formed
