"""Caffe: both generations of blobs, damaged files."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.caffe import layer, loaded, netspec, same, shicai
from helpers.networks import CIFAR, SMALL, random_tensors
from helpers.wire import data, fixed32, number, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile

# -- weights -----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["float", "double", "unpacked", "legacy"])
@pytest.mark.parametrize("of_201", [False, True])
def test_shicai_in_every_form_of_blob(tmp_path, form, of_201):
    tensors = random_tensors(SMALL, dtype=np.float64 if form == "double" else np.float32)
    config, have, _ = loaded(tmp_path / "x.caffemodel", shicai(SMALL, tensors, of_201=of_201, form=form))
    assert replace(config, transition_ceil=False) == SMALL
    same(have, tensors)


# -- damage ------------------------------------------------------------------------


def refused(path: Path, content: bytes, kind: type[ConverterError] = UnreadableFile) -> str:
    path.write_bytes(content)
    with pytest.raises(kind) as error:
        load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def test_every_truncation_is_refused(tmp_path):
    content = shicai(SMALL, random_tensors(SMALL))
    for end in [*range(1, 400), *range(400, len(content), 97), len(content) - 1]:
        refused(tmp_path / "x.caffemodel", content[:end], ConverterError)


def test_forged_sizes_are_refused(tmp_path):
    kernel = np.ones((2, 2, 1, 1))
    huge = data(7, data(1, varint(1 << 40) * 2)) + data(5, bytes(4))
    many = data(7, data(1, varint(1) * 100_000)) + data(5, bytes(4))
    negative = data(7, data(1, varint((1 << 64) - 1))) + data(5, bytes(4))
    head = layer("a", "Convolution", kernel)
    for forged in (huge, many, negative):
        text = refused(tmp_path / "x.caffemodel", head + data(100, data(1, "b") + data(2, "Scale") + data(7, forged)))
        assert "b/0" in text
    assert "no data" in refused(
        tmp_path / "x.caffemodel", head + data(100, data(1, "b") + data(2, "Scale") + data(7, number(1, 1)))
    )


def test_networks_that_are_none_of_ours(tmp_path):
    path, kernel = tmp_path / "x.caffemodel", np.ones((2, 2, 1, 1))
    refused(path, layer("a", "Convolution", kernel), NotADenseNet)
    refused(path, layer("a", "Reshape", np.ones((2, 2, 2))), NotADenseNet)
    assert "two layers" in refused(path, layer("a", "Convolution", kernel) * 2)
    assert "2015" in refused(path, layer("a", "Convolution", kernel) + data(2, b""))
    assert "no Scale" in refused(path, layer("a", "BatchNorm", np.ones(2), np.ones(2), np.ones(1)), NotADenseNet)
    other_eps = layer("b", "BatchNorm", more=data(139, fixed32(3, struct.pack("<f", 0.1))))
    assert "different eps" in refused(path, layer("a", "BatchNorm") + other_eps, NotADenseNet)


@settings(max_examples=80)
@given(st.data())
def test_damage_anywhere_is_an_error_or_harmless(tmp_path_factory, draws):
    content = bytearray(netspec(CIFAR, random_tensors(CIFAR)))
    for _ in range(draws.draw(st.integers(1, 4))):
        content[draws.draw(st.integers(0, len(content) - 1))] = draws.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("caffe") / "x.caffemodel"
    path.write_bytes(content)
    try:
        for tensor in load(path).tensors.values():
            tensor.read()
    except ConverterError as error:
        assert "\n" not in str(error)
