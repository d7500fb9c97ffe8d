"""MXNet, ``.params``: a list of arrays and their names (apache/mxnet, src/ndarray/ndarray.cc).

An array was recorded in four ways, told apart by its first four bytes:

    V0, to 0.10     those bytes are the number of dimensions, which have 4 bytes each
    V1, 0.11        a magic number first; dimensions have 8 bytes
    V2, from 1.0    another one, then how it is stored (dense, sparse); no dimensions: no data
    V3, from 1.6    as V2 with NumPy's shapes: -1 dimensions: no data

Then device, dtype and values.  Read in place, mapped.  What a module's names begin with
(``arg:``, or ``aux:`` for running statistics) is taken off.

What is computed is in the ``-symbol.json`` beside it, where there is one (structures/mxnet_symbol.py).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.dtypes import numbered
from converter.core.errors import NotADenseNet, UnreadableFile
from converter.core.mapping import Window, mapped
from converter.core.metadata import parsed
from converter.formats.damage import MALFORMED, damaged
from converter.formats.settings import agreed

NAME = "MXNet params"
MAGIC = (0x112).to_bytes(8, "little")
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DTYPES = numbered("float32 float64 float16 uint8 int32 int8 int64 bool - - - - bfloat16")
"""3rdparty/mshadow/mshadow/base.h, TypeFlag."""

EPOCH = re.compile(r"-\d{4,}$")
"""What ``save_checkpoint`` and ``export`` put between a network's name and ``.params``."""

NORMS = ("BatchNorm", "BatchNorm_v1", "_contrib_SyncBatchNorm")
BATCH_NORM = {"eps": "0.001", "fix_gamma": "True"}
POOLING = {"pool_type": "max", "pooling_convention": "valid", "global_pool": "False", "kernel": "()"}
"""What an operator that does not say does (src/operator/nn/batch_norm-inl.h, pooling-inl.h)."""


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file begins like a list of arrays."""
    return head.startswith(MAGIC)


def open_mxnet(path: Path) -> Checkpoint:
    """Open a ``.params`` file.

    Raises:
        UnreadableFile: damaged or truncated, with sparse arrays or without names; or the
            ``-symbol.json`` beside it is damaged.
    """
    tensors = _plain_names(_Reader(path).named_arrays())
    symbol = path.with_name(EPOCH.sub("", path.stem) + "-symbol.json")
    if not symbol.is_file():
        return Checkpoint(path, NAME, tensors, files=(path,))
    settings, fixed, graph = _read_symbol(symbol)
    for name in fixed & tensors.keys():
        tensors[name] = _ones(tensors[name])
    return Checkpoint(path, NAME, tensors, {}, (path,), settings=settings, graph=graph)


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    plain = {name.removeprefix("arg:").removeprefix("aux:"): tensor for name, tensor in tensors.items()}
    return plain if len(plain) == len(tensors) else tensors


def _ones(tensor: Tensor) -> Tensor:
    """A gamma that ``fix_gamma`` makes the network ignore."""
    return Tensor(tensor.shape, tensor.dtype, lambda: np.ones(tensor.shape, tensor.dtype))


class _Reader:
    """Walks the records of a file; every size is checked against what is left of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.window = Window(mapped(path))
        self.at = 0

    def named_arrays(self) -> dict[str, Tensor]:
        self.take(16)  # magic, reserved
        count = self.number(8)
        arrays = [self.array(i) for i in range(count)]  # each takes bytes: a forged count ends the file first
        if self.number(8) != count or not count:
            raise UnreadableFile(f"{self.path}: its arrays have no names")
        result: dict[str, Tensor] = {}
        for i, array in enumerate(arrays):
            size = self.number(8)
            if size > bounds.NAME:
                raise UnreadableFile(f"{self.path}: damaged, array {i} has a name of {size} bytes")
            name = str(self.take(size), "utf-8", "replace")
            if name in result:
                raise UnreadableFile(f"{self.path}: damaged, two arrays are called {name}")
            result[name] = array
        if left := len(self.window.data) - self.at:
            raise UnreadableFile(f"{self.path}: {left} bytes that belong to no array")
        return result

    def array(self, index: int) -> Tensor:
        if index >= bounds.ARRAYS:
            raise UnreadableFile(f"{self.path}: more than {bounds.ARRAYS} arrays")
        generation = self.number(4)
        if generation in (V2, V3) and self.number(4):
            raise UnreadableFile(f"{self.path}: array {index} is sparse, which weights of a DenseNet are not")
        if generation in (V1, V2, V3):
            rank, width = self.number(4), 8
        else:
            rank, width = generation, 4
        if rank > bounds.DIMENSIONS or (rank == 0 and generation != V3):
            raise UnreadableFile(f"{self.path}: damaged, or array {index} was saved without data")
        shape = tuple(self.number(width) for _ in range(rank))
        self.take(8)  # device type and number
        code = self.number(4)
        if code not in DTYPES:
            raise UnreadableFile(f"{self.path}: array {index} has dtype {code}, which cannot be read")
        dtype = DTYPES[code]
        return Tensor.over(self.take(prod(shape) * dtype.itemsize), dtype, shape)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def take(self, size: int) -> memoryview:
        if size > len(self.window.data) - self.at:
            raise UnreadableFile(f"{self.path}: truncated or damaged, it ends within an array or a name")
        piece = self.window.piece(self.at, size)
        self.at += size
        return piece


# -- symbol ------------------------------------------------------------------------


def _read_symbol(path: Path) -> tuple[dict[str, Any], set[str], Mapping[str, Any]]:
    """Config fields a network's symbol states, the gammas it keeps at one, and the symbol itself."""
    with damaged(f"{path}: not the description of a network by MXNet", *MALFORMED, SyntaxError):
        if path.stat().st_size > bounds.JSON:
            raise ValueError("too large")
        graph = parsed(path.read_text("utf-8"))
        nodes = graph["nodes"]
        said = list(chain.from_iterable(map(_says, nodes)))
        fixed = {nodes[node["inputs"][1][0]]["name"] for node in nodes if _fixes_gamma(node)}
    try:
        return agreed(said), fixed, graph
    except NotADenseNet:  # what stands before the network is set otherwise; the graph is judged whole
        return {}, fixed, graph


def _attributes(node: Mapping[str, Any], defaults: Mapping[str, str]) -> dict[str, str]:
    """An operator's parameters.  They were called ``param``, then ``attr``, and are ``attrs`` since 1.0."""
    given = {k: v for key in ("attr", "param", "attrs") for k, v in (node.get(key) or {}).items()}
    return {**defaults, **given}


def _fixes_gamma(node: Mapping[str, Any]) -> bool:
    return node["op"] in NORMS and _attributes(node, BATCH_NORM)["fix_gamma"] in ("True", "1", "true")


def _says(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Config fields a node speaks for."""
    if node["op"] in NORMS:
        yield "eps", float(_attributes(node, BATCH_NORM)["eps"])
    elif node["op"] == "Pooling":
        pool = _attributes(node, POOLING)
        average = pool["pool_type"] == "avg"
        if pool["global_pool"] in ("True", "1", "true") or (average and ast.literal_eval(pool["kernel"]) != (2, 2)):
            return
        yield "transition_ceil" if average else "stem_ceil", pool["pooling_convention"] == "full"
