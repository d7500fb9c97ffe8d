"""Layouts as TOML tables: saved, edited, passed back, and wrong."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.networks import random_tensors
from helpers.renamed import CONFIG, rename, same, save

from converter import convert, inspect, load
from converter.core.errors import ConverterError, UnreadableFile
from converter.layouts import LAYOUTS
from converter.layouts.custom import layout_toml, read_layout


def test_the_guessed_table_can_be_saved_and_passed_back(tmp_path: Path) -> None:
    tensors = random_tensors(CONFIG)
    foreign = {rename(name): array for name, array in tensors.items()}
    path, table = save(tmp_path / "a.npz", foreign), tmp_path / "mine.toml"
    table.write_text(layout_toml(inspect(path).chosen.layout).replace('"inferred"', '"mine"'))
    shuffled = save(tmp_path / "b.npz", {f"x.{name}": foreign[name] for name in sorted(foreign)})
    found = load(shuffled, layout=str(table))
    assert (found.origin.layout, found.origin.prefix, found.notes) == ("mine", "x.", ())
    same(shuffled, tensors, layout=str(table))
    convert(shuffled, tmp_path / "c.npz", layout=str(table), to=str(table))
    assert set(np.load(tmp_path / "c.npz")) == set(foreign)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout.writable], ids=lambda layout: layout.name)
def test_built_in_tables_as_files(layout: Any, tmp_path: Path) -> None:
    try:
        (tmp_path / "a.toml").write_text(layout_toml(layout))
    except ConverterError as error:
        assert "more than rename" in str(error)
        return
    again = read_layout(tmp_path / "a.toml")
    assert again.modules == layout.modules
    assert {name: leaf.names for name, leaf in again.leaves.items() if name in layout.leaves} == {
        name: leaf.names for name, leaf in layout.leaves.items()
    }
    assert again.network == layout.network


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("name = ", UnreadableFile, "cannot be read as a layout"),
        ('name = "a"', ConverterError, "must give every module"),
        ('[modules]\n"stem.conf" = "a"', ConverterError, "stem.conf"),
        ('[modules]\n"stem.conv" = 3', ConverterError, "must give every module"),
        ('[modules]\n"transitions.{t}.conv" = "down.conv"', ConverterError, "must say {t}"),
        ('[modules]\n"stem.norm" = "conv_block{l+1}"', ConverterError, "says {l}, which 'stem.norm' does not count"),
        ('[modules]\n"stem.norm" = "{x}"', ConverterError, "says {x}"),
        (f'[modules]\n"transitions.{{t}}.conv" = "a{{t+{"9" * 5000}}}"', ConverterError, "must say {t}"),
        ('[modules]\n"stem.conv" = "a"\n[leaves]\n"norm.gamma" = "b"', ConverterError, "norm.gamma"),
        ('[modules]\n"stem.conv" = "a"\n[leaves]\n"norm.weight" = { stored = "up" }', ConverterError, "stored"),
        ('[modules]\n"stem.conv" = "a"\n[network]\nwings = 2', ConverterError, "wings"),
    ],
)
def test_tables_with_mistakes(text: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(error, match=re.escape(words)):
        read_layout(tmp_path / "a.toml")


def test_a_missing_table(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", random_tensors(CONFIG))
    with pytest.raises(UnreadableFile, match=r"none\.toml"):
        load(path, layout=str(tmp_path / "none.toml"))
