"""PaddlePaddle's files: pickled dicts, programs with their parameters, a folder of parameters.

``.pdparams`` is a bare pickle of numpy arrays (python/paddle/framework/io.py).  A
saved program (``.pdmodel``, a ProgramDesc of paddle/fluid/framework/framework.proto;
since Paddle 3 PIR as ``.json``) has its parameters beside it, nameless: ``.pdiparams`` is the
concatenation of LoDTensor records in the order of their sorted names.  Paddle 1 also
wrote one file per parameter, each one such record, named as the parameter.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.dtypes import dtype, numbered
from converter.core.errors import UnreadableFile
from converter.core.mapping import Window, mapped
from converter.formats.damage import damaged
from converter.formats.paddle.program import Program, Shape, is_program, read_program, tensor_desc
from converter.formats.torch import bare_pickle

DTYPES = numbered("bool int16 int32 int64 float16 float32 float64") | numbered("uint8 int8 bfloat16", 20)
"""VarType.Type of framework.proto."""

SLICES = "UnpackBigParamInfor@@"
"""How pickles of protocol 2 and 3 hold arrays of more than 2**30 - 1 bytes."""


# -- which file is it? --------------------------------------------------------------------


def matches_params(path: Path, head: bytes) -> bool:
    """Whether a file is a ``.pdparams`` pickle."""
    return path.suffix == ".pdparams" and bare_pickle.matches(path, head)


def matches_records(_path: Path, head: bytes) -> bool:
    """Whether a file begins with a LoDTensor record: versions 0, no levels, a short TensorDesc."""
    return (
        head[:16] == bytes(16)
        and head[20:21] == b"\x08"
        and 0 < int.from_bytes(head[16:20], "little") <= bounds.PADDLE_DESC
    )


def matches_folder(path: Path) -> bool:
    """Whether a folder holds one program, or parameters one to a file."""
    return _program_in(path) is not None or any(True for _ in _parameter_files(path))


def open_folder(path: Path) -> Checkpoint:
    """Open the one program in a folder with its parameters, or the parameters that are files of their own."""
    program = _program_in(path)
    if program is not None and _beside(program):
        return open_program(program)
    files = sorted(_parameter_files(path))
    if not files:
        raise UnreadableFile(f"{path}: holds a Paddle program, but not its parameters")
    tensors: dict[str, Tensor] = {}
    for file in files:
        records = _records(file)
        if len(records) != 1:
            raise UnreadableFile(f"{file}: {len(records)} parameters without names; name the program beside it")
        tensors[file.name] = records[0]
    said = read_program(program) if program else Program({}, {})
    read = (*([program] if program else []), *files)
    return Checkpoint(path, "Paddle parameters", tensors, {}, read, settings=said.settings, graph=said.graph)


# -- pickles ------------------------------------------------------------------------------


def open_params(path: Path) -> Checkpoint:
    """Open a ``.pdparams``; a program of the same name beside it says what is computed."""
    opened, program = _pickled(path), path.with_suffix(".pdmodel")
    if not program.is_file() or not is_program(program, _head(program)):
        return opened
    said = read_program(program)
    return replace(opened, settings=said.settings, graph=said.graph, files=(path, program))


def _pickled(path: Path) -> Checkpoint:
    opened = bare_pickle.open_bare_pickle(path)
    for node in _dicts(opened.tree):
        slices = node.pop(SLICES, {})
        for key, spec in slices.items() if isinstance(slices, dict) else ():
            with damaged(f"{path}: the slices of {key} are not complete"):
                parts = [node.pop(name) for name in spec["slices"]]
                shape = tuple(map(int, spec["OriginShape"]))
            node[key] = _joined(parts, shape, f"{path}: the slices of {key}")
        for key, value in node.items():
            if isinstance(value, Tensor) and value.dtype == np.uint16:
                node[key] = _bfloat16(value)
    return replace(opened, format="Paddle pickle")


def _dicts(tree: Any) -> Iterator[dict[Any, Any]]:
    """Every dict of a tree, once: a pickle can refer to itself."""
    todo, seen = [tree], set[int]()
    while todo:
        node = todo.pop()
        if isinstance(node, (dict, list)) and id(node) not in seen:
            seen.add(id(node))
            todo += node.values() if isinstance(node, dict) else node
            if isinstance(node, dict):
                yield node


def _bfloat16(bits: Tensor) -> Tensor:
    """numpy has no bfloat16; Paddle's ``Tensor.numpy()`` gives its bits as uint16."""
    return replace(bits, dtype=dtype("bfloat16"), read=lambda: bits.read().view(dtype("bfloat16")))


def _joined(parts: list[Any], shape: Shape, what: str) -> Tensor:
    if not parts or not all(isinstance(part, Tensor) for part in parts) or min(shape, default=0) < 0:
        raise UnreadableFile(f"{what} are no arrays")
    if prod(shape) != sum(prod(part.shape) for part in parts):
        raise UnreadableFile(f"{what} do not make up its shape {list(shape)}")
    return Tensor(shape, parts[0].dtype, lambda: np.concatenate([p.read().reshape(-1) for p in parts]).reshape(shape))


# -- LoDTensor records --------------------------------------------------------------------


def open_records(path: Path) -> Checkpoint:
    """Open a ``.pdiparams``, whose names are in the program beside it."""
    for program in (path.with_suffix(".pdmodel"), path.with_suffix(".json"), path.with_name("__model__")):
        if program.is_file():
            return _program_and_records(program, path)
    raise UnreadableFile(
        f"{path}: the names of its parameters are in the .pdmodel or .json beside it, which is missing"
    )


def _records(path: Path) -> list[Tensor]:
    """Every record of a file (paddle/phi/core/serialization: SerializeToStream of DenseTensor)."""
    window, at, result = Window(mapped(path)), 0, list[Tensor]()
    length = len(window.data)
    truncated = f"{path}: truncated, a parameter ends behind the end of the file"
    with damaged(truncated, struct.error):
        while at < length:
            if len(result) >= bounds.ARRAYS:
                raise UnreadableFile(f"{path}: more than {bounds.ARRAYS} parameters")
            version, levels = struct.unpack("<IQ", window.piece(at, 12))
            at += 12
            if version or levels > 8:
                raise UnreadableFile(f"{path}: damaged, no parameter begins at byte {at - 12}")
            for _ in range(levels):
                at += 8 + struct.unpack("<Q", window.piece(at, 8))[0]
            version, size = struct.unpack("<Ii", window.piece(at, 8))
            at += 8
            if version or not 0 < size <= bounds.PADDLE_DESC or at + size > length:
                raise UnreadableFile(f"{path}: damaged, no parameter begins at byte {at - 8}")
            code, shape = tensor_desc(window.piece(at, size))
            at += size
            if code not in DTYPES or min(shape, default=0) < 0:
                raise UnreadableFile(f"{path}: a parameter has type {code} and shape {list(shape)}, which is not read")
            end = at + prod(shape) * DTYPES[code].itemsize
            if end > length:
                raise UnreadableFile(truncated)
            result.append(Tensor.over(window.piece(at, end - at), DTYPES[code], shape))
            at = end
    return result


# -- programs -----------------------------------------------------------------------------


def open_program(path: Path) -> Checkpoint:
    """Open a saved program with the parameters beside it."""
    params = _beside(path)
    if params is None:
        raise UnreadableFile(f"{path}: a Paddle program; its parameters ({path.stem}.pdiparams) are missing")
    if not bare_pickle.matches(params, _head(params)):
        return _program_and_records(path, params)
    opened = _pickled(params)
    said = read_program(path)
    return replace(opened, path=path, settings=said.settings, files=(path, params), graph=said.graph)


def _beside(program: Path) -> Path | None:
    """The parameters that belong to a program."""
    names = [program.with_suffix(".pdiparams"), program.with_suffix(".pdparams")]
    if program.name == "__model__":
        names = [program.with_name("__params__")]
    return next((path for path in names if path.is_file()), None)


def _program_and_records(path: Path, params: Path) -> Checkpoint:
    program, records = read_program(path), _records(params)
    names = sorted(program.shapes)
    if len(names) != len(records):
        raise UnreadableFile(f"{params}: {len(records)} parameters where {path.name} names {len(names)}")
    for name, record in zip(names, records):
        if record.shape != program.shapes[name]:
            shapes = f"{list(record.shape)}, in {path.name} {list(program.shapes[name])}"
            raise UnreadableFile(f"{params}: {name} has shape {shapes}: they do not belong together")
    tensors, said = dict(zip(names, records)), program.settings
    return Checkpoint(path, "Paddle program", tensors, {}, (path, params), settings=said, graph=program.graph)


# -- folders ------------------------------------------------------------------------------


def _program_in(folder: Path) -> Path | None:
    """The one program in a folder, if there is one."""
    found = [file for file in _files(folder) if file.suffix in (".pdmodel", ".json") or file.name == "__model__"]
    programs = [file for file in found if is_program(file, _head(file))]
    return programs[0] if len(programs) == 1 else None


def _parameter_files(folder: Path) -> Iterator[Path]:
    return (file for file in _files(folder) if matches_records(file, _head(file)))


def _files(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry) for entry in entries if entry.is_file()]


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(512)
