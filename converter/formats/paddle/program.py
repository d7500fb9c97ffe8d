"""A saved Paddle program: which parameters it has, and what its operators say of the network.

``.pdmodel`` (Paddle 2; ``__model__`` in Paddle 1) is a ProgramDesc of
paddle/fluid/framework/framework.proto; since Paddle 3 a program is PIR, as JSON
(paddle/fluid/pir/serialize_deserialize).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from converter.formats.damage import damaged, naming, typed
from converter.formats.protobuf import fields, mapped, message, messages, number, numbers, signed, text
from converter.formats.settings import as_written, one_eps

HEAD = b"\x08\x00\x10" + b"\xff" * 9 + b"\x01"
"""The first block of a ProgramDesc: idx 0, parent -1."""

LOD_TENSOR = 7

Shape = tuple[int, ...]
Operator = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Program:
    """What a saved program says: its parameters' shapes by name, and config fields."""

    shapes: Mapping[str, Shape]
    settings: Mapping[str, Any]


def is_program(_path: Path, head: bytes) -> bool:
    """Whether a file is a saved program of Paddle 1, 2 or 3."""
    return (head[:1] == b"\x0a" and HEAD in head[:24]) or (head[:1] == b"{" and b'"pir"' in head[:64])


def read_program(path: Path) -> Program:
    """Parameters and settings of a program in either form.

    Raises:
        UnreadableFile: damaged, or its norms have different eps.
    """
    with damaged(f"{path}: not a Paddle program", why=typed), naming(path), path.open("rb") as file:
        return _pir(path) if file.read(1) == b"{" else _program_desc(path)


def _pir(path: Path) -> Program:
    """PIR as JSON: an op ``p`` is a parameter (paddle/fluid/pir/serialize_deserialize)."""
    ops = json.loads(path.read_bytes())["program"]["regions"][0]["blocks"][0]["ops"]
    parameters = [op for op in ops if op["#"] == "p"]
    return Program(
        {str(op["A"][3]): tuple(map(int, op["O"]["TT"]["D"][1])) for op in parameters},
        _settings((op["#"].partition(".")[2], _pir_attributes(op)) for op in ops if op["#"] != "p"),
    )


def _pir_attributes(op: Mapping[str, Any]) -> dict[str, Any]:
    return {attribute["N"]: attribute["AT"].get("D") for attribute in op["A"]}


def _program_desc(path: Path) -> Program:
    """ProgramDesc {1: blocks}, of which the first; BlockDesc {3: vars, 4: ops}."""
    block = message(mapped(path), 1)
    shapes = dict(filter(None, map(_parameter, messages(block, 3))))
    return Program(shapes, _settings(map(_operator, messages(block, 4))))


def _parameter(variable: memoryview) -> tuple[str, Shape] | None:
    """VarDesc {1: name, 2: type {1: kind, 3: lod_tensor {1: TensorDesc}}, 3: persistable}, if it is a parameter."""
    kind = message(variable, 2)
    if not number(variable, 3) or number(kind, 1) != LOD_TENSOR:
        return None
    descs = (desc for tensor in messages(kind, 3) for desc in messages(tensor, 1))
    return text(variable, 1), next((tensor_desc(desc)[1] for desc in descs), ())


def tensor_desc(desc: memoryview) -> tuple[int, Shape]:
    """Type and shape of a TensorDesc {1: data_type, 2: repeated int64 dims}."""
    dims = chain.from_iterable(numbers(value) for n, _, value in fields(desc) if n == 2)
    shape = tuple(map(signed, dims))
    return number(desc, 1), shape


def _operator(desc: memoryview) -> Operator:
    """OpDesc {3: type, 4: attrs {1: name ...}}."""
    return text(desc, 3), {text(attribute, 1): _value(attribute) for attribute in messages(desc, 4)}


def _value(attribute: memoryview) -> Any:
    """Attr {4: float, 5: text, 10: bool}; other kinds do not matter here."""
    for n, _, value in fields(attribute):
        if n == 4 and isinstance(value, memoryview) and len(value) == 4:
            return struct.unpack("<f", value)[0]
        if n == 5 and isinstance(value, memoryview):
            return str(value, "utf-8")
        if n == 10:
            return bool(value)
    return None


def _settings(ops: Iterable[Operator]) -> dict[str, Any]:
    """What the operators say of the network: eps of the norms, rounding of the pools."""
    eps, said = set[float](), dict[str, Any]()
    for kind, attributes in ops:
        if kind in ("batch_norm", "batch_norm_") and isinstance(attributes.get("epsilon"), float):
            eps.add(as_written(attributes["epsilon"]))
        elif kind == "pool2d" and not (attributes.get("global_pooling") or attributes.get("adaptive")):
            name = "stem_ceil" if attributes.get("pooling_type") == "max" else "transition_ceil"
            said[name] = bool(attributes.get("ceil_mode"))
    return {**said, **one_eps(eps)}
