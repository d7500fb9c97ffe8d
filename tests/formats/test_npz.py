"""npz, both ways, against numpy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.arrays import arrays, assert_same, tensors
from hypothesis import given
from hypothesis import strategies as st

from converter.core.errors import UnsafeFile
from converter.formats import open_checkpoint
from converter.formats.npz import write_npz


@given(arrays, st.booleans())
def test_npz_both_ways(tmp_path: Path, values: dict[str, Any], compressed: bool) -> None:
    values = {name.replace("/", "_").replace("\\", "_"): array for name, array in values.items()} or {"a": np.zeros(2)}
    write_npz(tmp_path / "a.npz", tensors(values))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as loaded:
        assert_same(dict(loaded), values)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "b.npz", **{f"x{name}": np.asarray(array, order="F") for name, array in values.items()})
    got = {name.removeprefix("x"): tensor.read() for name, tensor in open_checkpoint(tmp_path / "b.npz").tree.items()}
    assert_same(got, values)


class Call:
    def __reduce__(self) -> object:
        return eval, ("1 + 1",)


def test_objects_in_an_npz_are_read_as_data(tmp_path: Path) -> None:
    values = {"a": np.arange(20_000, dtype=np.float32), "b": np.ones((2, 3))}
    np.savez(tmp_path / "a.npz", model=values, epoch=np.array(3))
    opened = open_checkpoint(tmp_path / "a.npz").tree
    got = opened["model"].state[4][0]
    assert_same({name: tensor.read() for name, tensor in got.items()}, values)
    np.savez(tmp_path / "b.npz", a=np.array([Call()], object))
    with pytest.raises(UnsafeFile, match="eval"):
        open_checkpoint(tmp_path / "b.npz")
