"""Paddle files, written by hand."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.model import Model
from converter.layouts.layout import Layout
from densenet.config import DenseNetConfig
from helpers.networks import SMALL, random_tensors
from helpers.wire import data, fixed32, number

Arrays = dict[str, np.ndarray]
CODES = {"float16": 4, "float32": 5, "float64": 6, "bfloat16": 22, "int64": 3}


def named(layout: Layout, config: DenseNetConfig = SMALL, dtype: Any = np.float32) -> tuple[Arrays, Arrays]:
    """A random network in the library layout, and in another."""
    tensors, result = random_tensors(config, dtype=dtype), {}
    for name, (leaf, keys) in layout.expand(config).items():
        if name in tensors:
            assert leaf.write is not None
            result[keys[0]] = np.ascontiguousarray(leaf.write(tensors[name])[0])
    return tensors, result


def numbered(config: DenseNetConfig = SMALL, start: int = 0) -> tuple[Arrays, Arrays]:
    """A random network under the names Paddle makes up; the numbers count per class."""
    tensors = random_tensors(config)
    leaves = {"weight": "w_0", "bias": "b_0", "running_mean": "w_1", "running_var": "w_2"}
    classes, counts, result = {"conv": "conv2d", "norm": "batch_norm", "linear": "linear"}, {}, {}
    for module in config.modules():
        count = counts[module.kind] = counts.get(module.kind, start - 1) + 1
        for name in module.tensors():
            array = tensors[name].T if module.kind == "linear" else tensors[name]
            result[f"{classes[module.kind]}_{count}.{leaves[name.rpartition('.')[2]]}"] = np.ascontiguousarray(array)
    return tensors, result


def record(array: np.ndarray, levels: int = 0) -> bytes:
    desc = number(1, CODES[array.dtype.name]) + b"".join(number(2, n) for n in array.shape)
    lod = struct.pack("<IQ", 0, levels) + (struct.pack("<Q", 16) + bytes(16)) * levels
    return lod + struct.pack("<Ii", 0, len(desc)) + desc + array.tobytes()


def program(arrays: Arrays, eps: float = 1e-5, ceil: bool = False) -> bytes:
    """A ProgramDesc: variables and the operators that say something."""

    def var(name: str, kind: int, persistable: int, array: np.ndarray | None = None) -> bytes:
        desc = b"" if array is None else number(1, 5) + b"".join(number(2, n) for n in array.shape)
        inner = number(1, kind) + (data(3, data(1, desc)) if desc else b"")
        return data(3, data(1, name) + data(2, inner) + number(3, persistable))

    def attribute(name: str, value: bytes) -> bytes:
        return data(4, data(1, name) + number(2, 1) + value)

    block = number(1, 0) + number(2, 2**64 - 1)
    block += var("feed", 9, 1) + var("fetch", 10, 1) + var("x.tmp_0", 7, 0)
    block += b"".join(var(name, 7, 1, array) for name, array in arrays.items())
    block += data(4, data(3, "batch_norm") + attribute("epsilon", fixed32(4, np.float32(eps).tobytes())))
    for kind, whole in (("max", 0), ("avg", 0), ("avg", 1)):
        said = attribute("pooling_type", data(5, kind)) + attribute("ceil_mode", number(10, ceil and not whole))
        block += data(4, data(3, "pool2d") + said + attribute("global_pooling", number(10, whole)))
    return data(1, block)


def pir(arrays: Arrays) -> str:
    ops = [
        {"#": "p", "A": [0, 1, 1, name], "O": {"%": 1, "TT": {"#": "0.t_dtensor", "D": [{}, list(array.shape)]}}}
        for name, array in arrays.items()
    ]
    norm = {"#": "1.batch_norm_", "A": [{"N": "epsilon", "AT": {"#": "0.a_f32", "D": 9.999999747378752e-06}}]}
    regions = [{"blocks": [{"ops": [*ops, norm]}]}]
    return json.dumps({"base_code": {"magic": "pir"}, "program": {"regions": regions}}, separators=(",", ":"))


def write_program(folder: Path, arrays: Arrays, **how: Any) -> Path:
    (folder / "inference.pdmodel").write_bytes(program(arrays, **how))
    (folder / "inference.pdiparams").write_bytes(b"".join(record(arrays[name]) for name in sorted(arrays)))
    return folder / "inference.pdmodel"


def write_pickle(path: Path, value: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def same(model: Model, want: Arrays) -> None:
    assert set(model.tensors) == set(want)
    for name, array in want.items():
        np.testing.assert_array_equal(model.tensors[name].read(), array, err_msg=name)
