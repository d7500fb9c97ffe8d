"""Every file that frameworks wrote, damaged at random: it is read or refused in one line, and nothing hangs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cases import CASES, file_of
from helpers.reader import Reader
from hypothesis import given, settings
from hypothesis import strategies as st

ASIDE = ("input.npy", "logits.npy", "results.npz", "logits_state_dict.npy", "case.json")
FILES = sorted(path.relative_to(CASES) for path in CASES.rglob("*") if path.is_file() and path.name not in ASIDE)
NUMBERS = tuple(n.to_bytes(4, "little") for n in (0, 1, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as process:
        yield process


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(CASES, tmp_path_factory.mktemp("mutations") / "data")


Change = tuple[str, float, bytes, int]
CHANGES = st.tuples(
    st.sampled_from(("set", "insert", "delete", "double", "end")),
    st.one_of(st.floats(0, 0.02), st.floats(0, 1), st.floats(0.98, 1)),  # descriptions stand at either end
    st.one_of(st.sampled_from(NUMBERS), st.binary(min_size=1, max_size=8)),
    st.integers(1, 64),
)


def changed(content: bytes, changes: list[Change]) -> bytes:
    """A file's bytes with some set, inserted, left out, written twice, or cut off from a place on."""
    result = bytearray(content)
    for kind, place, new, size in changes:
        at = int(place * len(result))
        if kind == "set":
            result[at : at + len(new)] = new
        elif kind == "insert":
            result[at:at] = new
        elif kind == "delete":
            del result[at : at + size]
        elif kind == "double":
            result[at:at] = result[at : at + size]
        else:
            del result[at:]
    return bytes(result)


@pytest.mark.parametrize("file", FILES, ids=str)
@given(changes=st.lists(CHANGES, min_size=1, max_size=4))
@settings(max_examples=3, derandomize=True, database=None)
def test_damaged_files_are_read_or_refused(file: Path, reader: Reader, cases: Path, changes: list[Change]) -> None:
    path, whole = cases / file, (CASES / file).read_bytes()
    path.write_bytes(changed(whole, changes))
    try:
        assert reader.ask(cases / file_of(file.parts[0]).relative_to(CASES)) in ("read", "refused")
    finally:
        path.write_bytes(whole)
