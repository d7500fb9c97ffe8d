"""Arrays of every kind."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from converter.core.checkpoint import Tensor

arrays = st.dictionaries(
    st.text(st.characters(codec="ascii", min_codepoint=46, max_codepoint=122), min_size=1, max_size=12),
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements=st.integers(0, 1),
    ),
    max_size=6,
)


def tensors(values: dict[str, Any]) -> dict[str, Tensor]:
    return {name: Tensor.of(array) for name, array in values.items()}


def assert_same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(got) == set(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        np.testing.assert_array_equal(got[name], array)
