"""A saved Paddle program: which parameters it has, and what its operators say of the network.

``.pdmodel`` (Paddle 2; ``__model__`` in Paddle 1) is a ProgramDesc of
paddle/fluid/framework/framework.proto; since Paddle 3 a program is PIR, as JSON
(paddle/fluid/pir/serialize_deserialize).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from converter.core import bounds
from converter.core.errors import UnreadableFile
from converter.core.mapping import content
from converter.core.metadata import parsed
from converter.formats.damage import damaged, naming, typed
from converter.formats.protobuf import fields, mapped, message, messages, number, numbers, signed, string, text
from converter.formats.settings import as_written, one_eps

HEAD = b"\x08\x00\x10" + b"\xff" * 9 + b"\x01"
"""The first block of a ProgramDesc: idx 0, parent -1."""

LOD_TENSOR = 7

Shape = tuple[int, ...]
Operator = tuple[str, Mapping[str, Any]]


SLOTS = ("X", "Input", "Filter", "W", "Y", "Scale", "Bias", "Mean", "Variance")
RESULTS = ("Out", "Output", "Y")
"""Places of what operators of a ProgramDesc take and make, in the order of PIR; others come behind."""


@dataclass(frozen=True)
class Program:
    """What a saved program says.

    Attributes:
        shapes: its parameters' shapes by name.
        settings: config fields.
        graph: ``ops`` (op, inputs: lists of values by place, outputs, attributes; ``by_place`` true in PIR), ``inputs``
            (name to shape, -1 where it is dynamic), ``outputs`` and ``parameters`` (names); None if it says nothing
            of what operators take.
    """

    shapes: Mapping[str, Shape]
    settings: Mapping[str, Any]
    graph: Mapping[str, Any] | None = None


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
    ops = parsed(path.read_bytes())["program"]["regions"][0]["blocks"][0]["ops"]
    parameters = [op for op in ops if op["#"] == "p"]
    shapes = {str(op["A"][3]): tuple(map(int, op["O"]["TT"]["D"][1])) for op in parameters}
    graph = _pir_graph(ops, list(shapes))
    said = ((op["#"].partition(".")[2], _pir_attributes(op)) for op in ops if op["#"] != "p")
    return Program(shapes, _settings(said, judged=graph is not None), graph)


def _pir_graph(ops: Sequence[Mapping[str, Any]], parameters: list[str]) -> dict[str, Any] | None:
    """Operators and the values between them, which have numbers."""
    values: dict[int, list[str]] = {}  # a vector is several
    graph: dict[str, Any] = {"ops": [], "inputs": {}, "outputs": [], "parameters": parameters}
    for op in ops:
        kind = op["#"].partition(".")[2]
        if op["#"] == "p":
            values[op["O"]["%"]] = [str(op["A"][3])]
            continue
        given = [values.get(value["%"], []) for value in op.get("I", ())]
        attributes = {**_pir_attributes(op), "by_place": True}
        made = [f"%{value['%']}" for value in op.get("O", ())]
        values |= {value["%"]: [name] for value, name in zip(op.get("O", ()), made)}
        if kind == "combine":
            if sum(map(len, given)) > bounds.JOINED:
                raise UnreadableFile(f"more than {bounds.JOINED} values in one list")
            values[op["O"][0]["%"]] = [name for names in given for name in names]
        elif kind in ("data", "feed"):
            graph["inputs"][made[0]] = list(op["O"][0]["TT"]["D"][1])
        elif kind == "fetch":
            graph["outputs"] += given[0]
        else:
            graph["ops"].append({"op": kind, "inputs": given, "outputs": made, "attributes": attributes})
    return graph if graph["outputs"] else None


def _pir_attributes(op: Mapping[str, Any]) -> dict[str, Any]:
    return {attribute["N"]: _plain(attribute["AT"].get("D")) for attribute in op["A"]}


def _plain(value: Any) -> Any:
    """An attribute's value; arrays hold attributes again."""
    if not isinstance(value, list):
        return value
    return [each.get("D") if isinstance(each, dict) else each for each in value]


def _program_desc(path: Path) -> Program:
    """ProgramDesc {1: blocks}, of which the first; BlockDesc {3: vars, 4: ops}."""
    block = message(mapped(path), 1)
    shapes = dict(filter(None, map(_parameter, messages(block, 3))))
    operators = [(_operator(desc), desc) for desc in messages(block, 4)]
    graph: dict[str, Any] = {"ops": [], "inputs": {}, "outputs": [], "parameters": list(shapes)}
    for (kind, attributes), desc in operators:
        given, made = _places(desc, 1, SLOTS), _places(desc, 2, RESULTS)
        names = [name for place in made for name in place]
        if kind == "feed":
            graph["inputs"] |= dict.fromkeys(names, ())
        elif kind == "fetch":
            graph["outputs"] += given[0]
        else:
            graph["ops"].append({"op": kind, "inputs": given, "outputs": names, "attributes": attributes})
    graph["inputs"] |= {name: shape for name, shape in map(_variable, messages(block, 3)) if name in graph["inputs"]}
    said = (operator for operator, _ in operators)
    judged = bool(graph["outputs"])
    return Program(shapes, _settings(said, judged=judged), graph if judged else None)


def _places(desc: memoryview, field: int, order: Sequence[str]) -> list[list[str]]:
    """OpDesc.Var {1: parameter, 2: repeated arguments}: the arguments, by the known order of the parameters."""
    places = {
        text(place, 1): [string(value) for n, _, value in fields(place) if n == 2 and isinstance(value, memoryview)]
        for place in messages(desc, field)
    }
    known = [name for name in order if places.get(name)]
    return [places[name] for name in (*known, *(name for name in places if name not in order and places[name]))]


def _variable(variable: memoryview) -> tuple[str, Shape]:
    """Name and shape of a VarDesc."""
    descs = (desc for tensor in messages(message(variable, 2), 3) for desc in messages(tensor, 1))
    return text(variable, 1), next((tensor_desc(desc)[1] for desc in descs), ())


def _parameter(variable: memoryview) -> tuple[str, Shape] | None:
    """VarDesc {1: name, 2: type {1: kind, 3: lod_tensor {1: TensorDesc}}, 3: persistable}, if it is a parameter."""
    kind = message(variable, 2)
    if not number(variable, 3) or number(kind, 1) != LOD_TENSOR:
        return None
    return _variable(variable)


def tensor_desc(desc: memoryview) -> tuple[int, Shape]:
    """Type and shape of a TensorDesc {1: data_type, 2: repeated int64 dims}."""
    dims = chain.from_iterable(numbers(value) for n, _, value in fields(desc) if n == 2)
    shape = tuple(map(signed, dims))
    return number(desc, 1), shape


def _operator(desc: memoryview) -> Operator:
    """OpDesc {3: type, 4: attrs {1: name ...}}."""
    return text(desc, 3), {text(attribute, 1): _value(attribute) for attribute in messages(desc, 4)}


def _value(attribute: memoryview) -> Any:
    """Attr {3: int, 4: float, 5: text, 6: ints, 7: floats, 10: bool, 13: long, 15: longs, 19: double}."""
    several = list[Any]()
    for n, _, value in fields(attribute):
        if n in (3, 13) and isinstance(value, int):
            return signed(value) if n == 13 else signed32(value)
        if n == 4 and isinstance(value, memoryview) and len(value) == 4:
            return struct.unpack("<f", value)[0]
        if n == 19 and isinstance(value, memoryview) and len(value) == 8:
            return struct.unpack("<d", value)[0]
        if n == 5 and isinstance(value, memoryview):
            return string(value)
        if n == 10:
            return bool(value)
        if n in (6, 15):
            several += [signed32(number) if n == 6 else signed(number) for number in numbers(value)]
        if n == 7 and isinstance(value, memoryview):
            several += [real for (real,) in struct.iter_unpack("<f", content(value))]
    return several or None


def signed32(value: int) -> int:
    """A varint as the int32 it stands for."""
    return signed(value) if value >> 63 else (value & 0xFFFFFFFF) - (1 << 32) * (value >> 31 & 1)


def _settings(ops: Iterable[Operator], *, judged: bool) -> dict[str, Any]:
    """What the operators say of the network: eps of the norms, rounding of the pools.

    A graph that is judged whole may have norms before the network with an eps of their own.
    """
    eps, said = set[float](), dict[str, Any]()
    for kind, attributes in ops:
        if kind in ("batch_norm", "batch_norm_") and isinstance(attributes.get("epsilon"), float):
            eps.add(as_written(attributes["epsilon"]))
        elif kind == "pool2d" and not (attributes.get("global_pooling") or attributes.get("adaptive")):
            name = "stem_ceil" if attributes.get("pooling_type") == "max" else "transition_ceil"
            said[name] = bool(attributes.get("ceil_mode"))
    return {**said, **({} if judged and len(eps) > 1 else one_eps(eps))}
