"""MXNet: four generations of arrays, damaged files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.mxnet import MAGICS, gluon, params, record, symbol_params
from helpers.networks import SMALL, random_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import load
from converter.core.errors import ConverterError, UnreadableFile


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(UnreadableFile) as error:
        load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("generation", [0, 2])
def test_every_truncation_is_refused(tmp_path, generation):
    content = params(gluon(SMALL, random_tensors(SMALL), "legacy"), generation)
    for end in [*range(1, 300), *range(300, len(content), 89), *range(len(content) - 40, len(content))]:
        refused(tmp_path / "x.params", content[:end])
    assert "belong to no array" in refused(tmp_path / "x.params", content + b"\0")


def test_forged_records_are_refused(tmp_path):
    path, head = tmp_path / "x.params", struct.pack("<QQ", 0x112, 0)
    one = struct.pack("<Q", 1)
    refused(path, head + struct.pack("<Q", 1 << 60) + bytes(64))
    refused(path, head + one + struct.pack("<II", 1 << 31, 0) + bytes(64))
    huge = struct.pack("<IiI3qiii", MAGICS[2], 0, 3, 1 << 40, 1 << 40, 1 << 40, 1, 0, 0)
    refused(path, head + one + huge + bytes(64))
    negative = struct.pack("<IiI1qiii", MAGICS[2], 0, 1, -1, 1, 0, 0)
    refused(path, head + one + negative + bytes(64))
    assert "sparse" in refused(path, head + one + struct.pack("<Ii", MAGICS[2], 1) + bytes(64))
    assert "without data" in refused(path, head + one + struct.pack("<IiI", MAGICS[2], 0, 0) + bytes(64))
    assert "without data" in refused(path, head + one + struct.pack("<Iii", MAGICS[3], 0, -1) + bytes(64))
    assert "dtype 99" in refused(path, head + one + struct.pack("<IiIqiii", MAGICS[2], 0, 1, 1, 1, 0, 99) + bytes(64))
    array = record(np.ones(2, np.float32), 2)
    assert "names" in refused(path, head + one + array + struct.pack("<Q", 0))
    assert "name of" in refused(path, head + one + array + one + struct.pack("<Q", 1 << 50))
    twice = struct.pack("<Q", 2) + array * 2 + struct.pack("<Q", 2) + (one + b"a") * 2
    assert "two arrays" in refused(path, head + twice)


@settings(max_examples=80)
@given(st.data())
def test_damage_anywhere_is_an_error_or_harmless(tmp_path_factory, draws):
    content = bytearray(params(symbol_params(SMALL, random_tensors(SMALL)), draws.draw(st.integers(0, 3))))
    for _ in range(draws.draw(st.integers(1, 4))):
        content[draws.draw(st.integers(0, len(content) - 1))] = draws.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("mxnet") / "x.params"
    path.write_bytes(content)
    try:
        for tensor in load(path).tensors.values():
            tensor.read()
    except ConverterError as error:
        assert "\n" not in str(error)
