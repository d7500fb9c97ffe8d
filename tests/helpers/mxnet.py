"""MXNet files, written by hand."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from densenet.config import DenseNetConfig
from densenet.topology import steps

MAGICS = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}
CODES = {"f4": 0, "f8": 1, "f2": 2, "u1": 3, "i4": 4, "i1": 5, "i8": 6}
GAMMA = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}


def record(array: np.ndarray, generation: int) -> bytes:
    code = 12 if array.dtype == ml_dtypes.bfloat16 else CODES[array.dtype.str[1:]]
    head = struct.pack("<I", MAGICS[generation]) if generation else b""
    head += struct.pack("<i", 0) if generation >= 2 else b""
    dims = struct.pack(f"<I{array.ndim}{'q' if generation else 'I'}", array.ndim, *array.shape)
    return head + dims + struct.pack("<iii", 1, 0, code) + array.tobytes()


def params(arrays: dict[str, np.ndarray], generation: int = 2) -> bytes:
    out = struct.pack("<QQQ", 0x112, 0, len(arrays))
    out += b"".join(record(array, generation) for array in arrays.values())
    names = [name.encode() for name in arrays]
    return out + struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(n)) + n for n in names)


def gluon_name(tensor: str, config: DenseNetConfig, style: str) -> str:
    """What Gluon calls a tensor: ``structured``, ``legacy`` (by counters) or ``exported`` (with its role)."""
    module, _, leaf = tensor.rpartition(".")
    kind, parts = module.rpartition(".")[2], module.split(".")
    leaf = GAMMA[leaf] if "norm" in kind else leaf
    numbers = [int(part) for part in parts if part.isdecimal()]
    if style == "structured":
        if parts[0] == "stem":
            place = "features.0" if kind == "conv" else "features.1"
        elif parts[0] == "blocks":
            child = {"norm1": 0, "conv1": 2, "norm2": 3, "conv2": 5}[kind]
            place = f"features.{2 * numbers[0] + 4}.{numbers[1]}.1.{child}"
        elif parts[0] == "transitions":
            place = f"features.{2 * numbers[0] + 5}.{0 if kind == 'norm' else 2}"
        else:
            place = "output" if kind == "classifier" else f"features.{2 * len(config.block_config) + 3}"
        return f"{place}.{leaf}"
    word = "batchnorm" if "norm" in kind else "conv"
    if parts[0] == "stem":
        place = f"{word}0"
    elif parts[0] == "blocks":
        place = f"stage{numbers[0] + 1}_{word}{2 * numbers[1] + int(kind[-1]) - 1}"
    elif parts[0] == "transitions":
        place = f"{word}{numbers[0] + 1}"
    else:
        place = "dense0" if kind == "classifier" else f"batchnorm{len(config.block_config)}"
    role = "aux:" if leaf.startswith("running") else "arg:"
    return {"legacy": "", "fullnames": "densenet0_", "exported": f"{role}densenet0_"}[style] + f"{place}_{leaf}"


def gluon(config: DenseNetConfig, tensors: dict, style: str) -> dict[str, np.ndarray]:
    """In the order of Gluon's own files, which is not always that of execution."""
    named = {gluon_name(name, config, style): array for name, array in tensors.items()}
    return dict(sorted(named.items(), key=lambda item: item[0][::-1]))


def symbol_name(tensor: str, config: DenseNetConfig, *, of_201: bool) -> str:
    module, _, leaf = tensor.rpartition(".")
    kind, parts = module.rpartition(".")[2], module.split(".")
    numbers = [int(part) for part in parts if part.isdecimal()]
    if parts[0] == "classifier":
        return f"arg:fc6_{leaf}"
    if parts[0] == "stem":
        place = "conv1"
    elif parts[0] == "blocks":
        place = f"conv{numbers[0] + 2}_{numbers[1] + 1}_x{kind[-1]}"
    else:
        b = numbers[0] if numbers else len(config.block_config) - 1
        place = f"conv{b + 2}_{config.block_config[b]}_blk" if of_201 else f"conv{b + 2}_blk"
    if "norm" not in kind:
        return f"arg:{place}_weight"
    role = "aux:" if leaf.startswith("running") else "arg:"
    return f"{role}{place}_bn_{GAMMA[leaf].replace('running', 'moving')}"


def symbol_params(config: DenseNetConfig, tensors: dict, *, of_201: bool = False) -> dict[str, np.ndarray]:
    named = {symbol_name(name, config, of_201=of_201): array for name, array in tensors.items()}
    named["arg:fc6_weight"] = named["arg:fc6_weight"][:, :, None, None]
    return named


Symbol = dict[str, Any]


def symbol(config: DenseNetConfig, name: Callable[[str], str], **norm: str) -> Symbol:
    """The ``-symbol.json`` that MXNet writes of a network; ``name`` says what its tensors are called."""
    made: Symbol = {"nodes": [{"op": "null", "name": "data", "inputs": []}], "attrs": {"mxnet_version": ["int", 10600]}}
    at = {"pixel_values": 0}
    for step in steps(config):
        module = step.module
        leaves = module.tensors() if module is not None else ()
        constants = [name(leaf) for leaf in leaves]
        constants.sort(key=lambda key: -1 if "gamma" in key or "weight" in key else "moving" in key or "running" in key)
        x = [at[value] for value in step.inputs]
        ceil = config.stem_ceil if step.op == "max_pool" else config.transition_ceil
        pool = {"kernel": "(3, 3)", "pad": "(1, 1)", "stride": "(2, 2)", "pool_type": "max"}
        if step.op == "avg_pool":
            pool = {"kernel": "(2, 2)", "stride": "(2, 2)", "pool_type": "avg"}
        op, attrs = {
            "conv": ("Convolution", {"no_bias": "True"}),
            "norm": ("BatchNorm", {"eps": str(config.eps), "fix_gamma": "False", **norm}),
            "relu": ("Activation", {"act_type": "relu"}),
            "concat": ("Concat", {"num_args": "2"}),
            "max_pool": ("Pooling", {**pool, **({"pooling_convention": "full"} if ceil else {})}),
            "avg_pool": ("Pooling", {**pool, **({"pooling_convention": "full"} if ceil else {})}),
            "global_pool": ("Pooling", {"global_pool": "True", "kernel": "(1, 1)", "pool_type": "avg"}),
            "linear": ("FullyConnected", {"num_hidden": str(config.num_classes)}),
        }[step.op]
        if module is not None and step.op == "conv":
            kernel, stride = module.shape[2:], module.stride
            pads = tuple(n // 2 for n in kernel)
            attrs |= {"kernel": str(tuple(kernel)), "stride": str(tuple(stride)), "pad": str(pads)}
        at[step.name] = node(made, op, step.name, *x, *(variable(made, key) for key in constants), **attrs)
    made["heads"] = [[at[step.name], 0, 0]]
    return made


def variable(made: Symbol, name: str) -> int:
    """A further variable of a symbol, its number."""
    made["nodes"].append({"op": "null", "name": name, "inputs": []})
    return len(made["nodes"]) - 1


def node(made: Symbol, op: str, name: str, *inputs: int, **attrs: str) -> int:
    """A further operator of a symbol, its number."""
    made["nodes"].append({"op": op, "name": name, "attrs": attrs, "inputs": [[i, 0, 0] for i in inputs]})
    return len(made["nodes"]) - 1


def named(made: Symbol, name: str) -> dict[str, Any]:
    """A node by its name."""
    return next(each for each in made["nodes"] if each["name"] == name)


def text(made: Symbol, attributes: str = "attrs") -> str:
    """As JSON; what operators say was called ``param``, then ``attr``."""
    nodes = [{attributes if key == "attrs" else key: value for key, value in n.items()} for n in made["nodes"]]
    return json.dumps({**made, "nodes": nodes})
