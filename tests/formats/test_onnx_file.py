"""ONNX files: external data, damaged and hostile ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.graphs import TINY, constants, exported, external, set_constants, set_nodes
from helpers.networks import SMALL, random_tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from converter import load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile, UnsafeFile
from converter.formats import open_checkpoint

# -- the same network, written otherwise -----------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_in_every_field(tmp_path: Path, dtype: type) -> None:
    path, proto = exported(tmp_path)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor).astype(dtype)
        code = helper.np_dtype_to_tensor_dtype(array.dtype)
        typed = tensor.name.startswith("blocks")  # int32_data for float16, double_data for float64
        values = array.tobytes() if not typed else array.reshape(-1).tolist()
        tensor.CopyFrom(helper.make_tensor(tensor.name, code, array.shape, values, raw=not typed))
    path.write_bytes(proto.SerializeToString())
    model = load(path)
    for name, array in random_tensors(TINY).items():
        assert model.tensors[name].dtype == dtype
        assert np.array_equal(model.tensors[name].read(), array.astype(dtype)), name


# -- external data -------------------------------------------------------------------


def test_external_data_is_part_of_the_source(tmp_path: Path) -> None:
    path = external(tmp_path)
    assert [file.name for file in open_checkpoint(path).files] == ["model.onnx", "weights.bin"]
    model = load(path)
    for name, array in random_tensors(TINY).items():
        assert np.array_equal(model.tensors[name].read(), array), name


@pytest.mark.parametrize("location", ["/etc/passwd", "../weights.bin", "a/../../w", "C:\\w", "..\\w", "", "link.bin"])
def test_external_data_elsewhere_is_unsafe(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(1 << 20))
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(UnsafeFile, match="outside its own folder"):
        load(external(folder, location))


@pytest.mark.parametrize(
    ("location", "entries"),
    [
        ("missing.bin", {}),
        ("weights.bin", {"offset": 1 << 40}),
        ("weights.bin", {"offset": -4}),
        ("weights.bin", {"length": 1 << 40}),
        ("weights.bin", {"length": "many"}),
    ],
)
def test_external_data_that_does_not_fit(tmp_path: Path, location: str, entries: dict[str, object]) -> None:
    with pytest.raises(UnreadableFile):
        load(external(tmp_path, location, **entries))


# -- damaged and hostile ---------------------------------------------------------------


def test_truncated_anywhere(tmp_path: Path) -> None:
    path, proto = exported(tmp_path)
    data = proto.SerializeToString()
    for end in [*range(1, 200, 7), *range(200, len(data) - 1, len(data) // 60)]:
        path.write_bytes(data[:end])
        with pytest.raises(UnreadableFile):
            load(path)


@settings(max_examples=60)
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_damage_gives_an_error_or_other_weights(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, int]]
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path, proto = exported(folder, replace(TINY, block_config=(1, 1)))
    data = bytearray(proto.SerializeToString())
    for at, byte in changes:
        data[int(at * len(data))] = byte
    path.write_bytes(data)
    try:
        for tensor in load(path).tensors.values():
            tensor.read()
    except ConverterError as error:
        assert "\n" not in str(error)


def test_a_shape_cannot_ask_for_more_than_the_file_has(tmp_path: Path) -> None:
    path, proto = exported(tmp_path)
    proto.graph.initializer[0].dims[0] = 1 << 50
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UnreadableFile, match="bytes"):
        load(path)


def test_values_made_of_nothing_have_a_limit(tmp_path: Path) -> None:
    path, proto = exported(tmp_path)
    arrays = constants(proto)
    del arrays["stem.conv.weight"]
    arrays["shape"] = np.array([1 << 30, 3, 7, 7])
    set_constants(proto, arrays)
    set_nodes(proto, [helper.make_node("ConstantOfShape", ["shape"], ["stem.conv.weight"]), *proto.graph.node])
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(NotADenseNet, match="too large"):
        load(path)


def test_concatenations_of_concatenations_have_a_limit(tmp_path: Path) -> None:
    path, proto = exported(tmp_path)
    doubled = [helper.make_node("Concat", [f"x{i}", f"x{i}"], [f"x{i + 1}"], axis=1) for i in range(64)]
    proto.graph.input[0].name, proto.graph.output[0].name = "x0", "x64"
    set_nodes(proto, doubled)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(NotADenseNet, match="Concat x1: a DenseNet has images as they are"):
        load(path)


def test_more_fields_than_any_network_has(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    nodes = b"\x0a\x00" * 400_000
    size, length = len(nodes), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    path.write_bytes(b"\x08\x08\x3a" + bytes((*length, size)) + nodes)
    with pytest.raises(UnreadableFile, match="fields"):
        load(path)


def test_the_name_of_the_file_does_not_matter(tmp_path: Path) -> None:
    path, _ = exported(tmp_path, SMALL)
    other = path.rename(tmp_path / "weights.dat")
    assert load(other).config == SMALL
