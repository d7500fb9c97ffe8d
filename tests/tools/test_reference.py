"""The public API: what there is, its examples, and its reference."""

from __future__ import annotations

import doctest
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.hub import client
from helpers.hub_server import Hub

import converter
from converter import convert
from converter.demo.demo import CHECKPOINT, IMAGES, record
from tools.reference import PAGES, VERBS, pages

TAKEN = "Source Images Bench Recipe Commit Dataset Original Precision Model".split()
"""The records that users make."""


def test_everything_public_is_documented_with_an_example() -> None:
    assert {"package", "push", "predict", "evaluate", "diff", "convert", "load", "inspect", "verify"} <= {*VERBS}
    assert {name for name in converter.__all__ if not name[0].isupper()} == {*VERBS, "__version__"}
    for name in converter.__all__:
        if name != "__version__":
            said = getattr(converter, name).__doc__
            assert said and (">>> " in said or name not in (*VERBS, *TAKEN)), name


def test_the_reference_is_up_to_date() -> None:
    for name, text in pages().items():
        assert (PAGES / name).read_text("utf-8") == text, "run python -m tools.reference"


def test_the_examples_are_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    facts = record()
    convert(CHECKPOINT, "digits.pth", to="torchvision", preprocess=facts["preprocessing"], labels=facts["class_names"])
    shutil.copy(CHECKPOINT.parent / "reference.npz", "reference.npz")
    shutil.copytree(IMAGES, "images")
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner(verbose=False)
    with Hub() as hub, client(hub, tmp_path):
        for name in (*VERBS, *TAKEN):  # in this order: some use what others wrote
            thing: Any = getattr(converter, name)
            for example in finder.find(thing, name, globs={}):
                runner.run(example)
    assert runner.summarize(verbose=False).attempted > 30
    assert not runner.failures


def test_the_package_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "converter", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"densenet-converter {converter.__version__}"
