"""Lua Torch files: every encoding, damaged and hostile files."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.t7 import SMALL, Function, Obj, Official, Writer, check, saved, tensor, weights
from hypothesis import example, given, settings
from hypothesis import strategies as st

from converter import load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile
from converter.formats import open_checkpoint

# -- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize(
    "options",
    [{}, {"long": 4}, {"text": True}, {"referenced": False}, {"cuda": True}, {"cuda": True, "text": True}],
    ids=lambda options: "-".join(map(str, options)) or "binary",
)
def test_every_encoding_and_type_is_read(tmp_path: Path, options: dict[str, Any], dtype: str) -> None:
    tensors = weights(SMALL, dtype)
    check(saved(tmp_path / "model.t7", Official(SMALL, tensors).network(), **options), SMALL, tensors)


def test_files_from_before_versions_are_read(tmp_path: Path) -> None:
    tensors = weights(SMALL)
    check(saved(tmp_path / "model.t7", Official(SMALL, tensors, version=None).network()), SMALL, tensors)


@pytest.mark.parametrize("tag", [6, 7, 8])
def test_functions_are_passed_over(tmp_path: Path, tag: int) -> None:
    tensors, function = weights(SMALL), Function(tag)
    root = {"epoch": 1, "f": function, "again": function, "model": Official(SMALL, tensors).network()}
    check(saved(tmp_path / "model.t7", root), SMALL, tensors)


# -- refusing -------------------------------------------------------------------------------


def test_deep_nesting_is_refused_whether_written_out_or_by_reference(tmp_path: Path) -> None:
    links = [Obj("nn.Sequential", {"modules": [Obj("nn.Identity")]})]
    for _ in range(60):
        links.append(Obj("nn.Sequential", {"modules": [links[-1]]}))
    with pytest.raises(NotADenseNet, match="contains itself"):
        load(saved(tmp_path / "model.t7", {"links": {"all": {"of": {"them": links}}}, "model": links[-1]}))
    with pytest.raises(UnreadableFile, match="deep"):
        load(saved(tmp_path / "model.t7", links[-1]))


# -- damaged and hostile files -------------------------------------------------------------------


def use(path: Path) -> None:
    """Read everything; only this project's errors may come of it, in one line."""
    try:
        for tensor in load(path).tensors.values():
            tensor.read()
    except ConverterError as error:
        assert "\n" not in str(error)


@pytest.fixture(scope="module", params=[False, True], ids=["binary", "text"])
def sound(request: pytest.FixtureRequest) -> bytes:
    config = replace(SMALL, block_config=(1,))
    writer = Writer(text=request.param)
    writer.write({"model": Official(config, weights(config)).network(), "f": Function(8)})
    return bytes(writer.out)


def test_truncated_files_are_refused(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "model.t7"
    for size in range(1, len(sound) - 1, max(1, len(sound) // 200)):
        path.write_bytes(sound[:size])
        with pytest.raises(UnreadableFile):
            load(path)


@settings(max_examples=80)
@example(flips=[(3548, 32)])  # a stride of 2 to the 61st, along an axis of one
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_never_end_in_a_traceback(tmp_path: Path, sound: bytes, flips: list[tuple[int, int]]) -> None:
    data = bytearray(sound)
    for position, value in flips:
        data[position % len(data)] = value
    (tmp_path / "model.t7").write_bytes(data)
    use(tmp_path / "model.t7")


@pytest.mark.parametrize(
    "data",
    [
        tensor([2], [1], 1, 2, announced=1 << 60),
        tensor([2], [1], 1, 2, announced=-1),
        tensor([3], [1], 1, 2),
        tensor([2], [1], 2, 2),
        tensor([2], [1], 0, 2),
        tensor([2], [-1], 2, 2),
        tensor([1 << 62, 4], [1, 1], 1, 2),
        b"\3\0\0\0\1\0\0\0\xff\xff\xff\x00\1\0\0\0" + bytes(8),
        b"\4\0\0\0\1\0\0\0\3\0\0\0V 1\xff\xff\xff\x7f",
        b"\4\0\0\0\1\0\0\0\3\0\0\0V 1" + struct.pack("<i", 22) + b"torch.BFloat16X\nTensor",
        b"3\n1\n9999999999\n1\n1\n",
        b"3\n1\n1\n1\n" + b"9" * 100_000 + b"\n",
        b"4\n1\n3\nV 1\n18\ntorch.FloatStorage\n999999999999\n1 2\n",
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_allocated(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.t7").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableFile):
            open_checkpoint(tmp_path / "model.t7")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_an_expanded_tensor_is_never_blown_up(tmp_path: Path) -> None:
    (tmp_path / "model.t7").write_bytes(tensor([1 << 30, 1 << 10], [0, 0], 1, 1))
    with pytest.raises(UnreadableFile, match="repeats"):
        open_checkpoint(tmp_path / "model.t7").tree.read()


@pytest.mark.parametrize("line", [b"1 2 x", b"1 2", b"1 2 3 4"])
def test_numbers_in_text_are_counted_and_checked(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "model.t7").write_bytes(b"4\n1\n3\nV 1\n18\ntorch.FloatStorage\n3\n" + line + b"\n")
    with pytest.raises(UnreadableFile):
        open_checkpoint(tmp_path / "model.t7").tree.read()
