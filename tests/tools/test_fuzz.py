"""The fuzzers' table: every reader has seeds, and reads the ones that are made by hand."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from converter.core.errors import ConverterError
from tools.fuzz.seeds import MAKERS
from tools.fuzz.targets import READERS

FOUND = Path(__file__).parent / "found"
"""Inputs that did more than be read or refused, by reader: each is small, and stays."""
BY_HAND = (
    "safetensors npz npy pickle packed tar tf-table tf-graph paddle-program caffe mxnet t7 layout labels "
    "images-tar rows"
).split()


def test_every_reader_has_seeds() -> None:
    assert list(MAKERS) == list(READERS)


@pytest.mark.parametrize("name", BY_HAND)
def test_seeds_are_read(name: str, tmp_path: Path) -> None:
    MAKERS[name](tmp_path)
    READERS[name].read(tmp_path / READERS[name].file)


@pytest.mark.parametrize("found", sorted(FOUND.glob("*/*")), ids=lambda path: f"{path.parent.name}, {path.name}")
def test_what_was_found_stays_mended(found: Path, tmp_path: Path) -> None:
    reader = READERS[found.parent.name]
    shutil.copy(found, tmp_path / reader.file)
    with suppress(ConverterError):
        reader.read(tmp_path / reader.file)
