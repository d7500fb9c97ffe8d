"""The fuzzers' table: every reader has seeds, and reads the ones that are made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.fuzz.seeds import MAKERS
from tools.fuzz.targets import READERS

BY_HAND = "safetensors npz npy pickle packed tar tf-table tf-graph paddle-program caffe mxnet t7 layout labels".split()


def test_every_reader_has_seeds() -> None:
    assert list(MAKERS) == list(READERS)


@pytest.mark.parametrize("name", BY_HAND)
def test_seeds_are_read(name: str, tmp_path: Path) -> None:
    MAKERS[name](tmp_path)
    READERS[name].read(tmp_path / READERS[name].file)
