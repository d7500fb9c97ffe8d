"""safetensors, both ways, against the real library; sharded checkpoints."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from helpers.arrays import arrays, assert_same, tensors
from hypothesis import given
from hypothesis import strategies as st

from converter.core.errors import CannotExpress, UnreadableFile, UnsafeFile
from converter.formats import open_checkpoint
from converter.formats.npz import write_npz
from converter.formats.safetensors import write_safetensors


@given(arrays, st.dictionaries(st.text(min_size=1), st.text()))
def test_what_we_write_the_library_reads(tmp_path: Path, values: dict[str, Any], metadata: dict[str, str]) -> None:
    metadata.pop("format", None)
    write_safetensors(tmp_path / "a.safetensors", tensors(values), metadata)
    assert_same(safetensors.numpy.load_file(tmp_path / "a.safetensors"), values)
    with safetensors.safe_open(tmp_path / "a.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt", **metadata}


@given(arrays)
def test_what_the_library_writes_we_read(tmp_path: Path, values: dict[str, Any]) -> None:
    safetensors.numpy.save_file(values, tmp_path / "a.safetensors", {"k": "v"})
    checkpoint = open_checkpoint(tmp_path / "a.safetensors")
    assert checkpoint.metadata == {"k": "v"}
    assert_same({name: tensor.read() for name, tensor in checkpoint.tree.items()}, values)


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    values = {f"t{i}": np.full((i, 3), i, np.float32) for i in range(1, 9)}
    for name in ("a", "b"):
        write_safetensors(tmp_path / f"{name}.safetensors", tensors(values), {"x": "1", "y": "2"})
        write_npz(tmp_path / f"{name}.npz", tensors(values))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_bfloat16_goes_through_safetensors_and_is_refused_by_npz(tmp_path: Path) -> None:
    array = np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    write_safetensors(tmp_path / "a.safetensors", tensors({"a": array}), {})
    np.testing.assert_array_equal(open_checkpoint(tmp_path / "a.safetensors").tree["a"].read(), array)
    with pytest.raises(CannotExpress, match="--dtype"):
        write_npz(tmp_path / "a.npz", tensors({"a": array}))
    assert not (tmp_path / "a.npz").exists()


def header(value: Any, data: bytes = b"") -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(text).to_bytes(8, "little") + text + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        header({"a": ENTRY}, b"\0" * 7),
        header({"a": ENTRY}, b"\0" * 9),
        header({"a": ENTRY | {"shape": [3]}}, b"\0" * 8),
        header({"a": ENTRY | {"shape": [-2]}}, b"\0" * 8),
        header({"a": ENTRY | {"shape": [1 << 62, 4]}}, b"\0" * 8),
        header({"a": ENTRY | {"dtype": "X9"}}, b"\0" * 8),
        header({"a": ENTRY, "b": ENTRY}, b"\0" * 8),
        header({"a": ENTRY | {"data_offsets": [8, 0]}}, b"\0" * 8),
        header({"a": ENTRY | {"data_offsets": ["0", 8]}}, b"\0" * 8),
        header({"a": ENTRY, "__metadata__": {"k": 1}}, b"\0" * 8),
        header({"a": 3}),
        header(b"{" + b"[" * 50000),
        header(b'{"a"'),
        (1 << 60).to_bytes(8, "little") + b"{}",
        (90_000_000).to_bytes(8, "little") + b"{}",
    ],
)
def test_malformed_headers_are_one_clear_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UnreadableFile, match=r"a\.safetensors"):
        open_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["../a.safetensors", "/etc/passwd", "sub/a.safetensors", ""])
def test_an_index_that_points_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(UnsafeFile, match="outside"):
        open_checkpoint(tmp_path / "m.safetensors.index.json")


def test_sharded_checkpoints_join(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a": np.ones(2)}, tmp_path / "m-1.safetensors")
    safetensors.numpy.save_file({"b": np.zeros(3)}, tmp_path / "m-2.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}))
    checkpoint = open_checkpoint(index)
    assert_same({name: tensor.read() for name, tensor in checkpoint.tree.items()}, {"a": np.ones(2), "b": np.zeros(3)})
    assert len(checkpoint.files) == 3
    index.write_text(json.dumps({"weight_map": {"c": "m-1.safetensors"}}))
    with pytest.raises(UnreadableFile, match="c is not in the shard"):
        open_checkpoint(index)
    index.write_text(json.dumps({"weight_map": {"a": "m-3.safetensors"}}))
    with pytest.raises(UnreadableFile, match="missing"):
        open_checkpoint(index)
