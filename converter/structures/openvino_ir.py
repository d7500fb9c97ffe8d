"""OpenVINO's IR: its layers as ONNX's nodes, which mean the same, and so judged as ONNX's graphs are.

``openvino_nodes.py`` has the layers of versions from 10 on, ``openvino_old.py`` those before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.following import following
from converter.structures.onnx_constants import Node
from converter.structures.onnx_graph import structure_of
from converter.structures.openvino_description import Description, Layer
from converter.structures.openvino_nodes import READERS, Scope, plain
from converter.structures.openvino_old import OLD, start_without
from converter.structures.parts import Structure

NAME = "openvino"
FORMAT = "OpenVINO IR"
OPSETS_FROM = 10
"""The version from which on constants are layers and results too."""
STARTS = ("Parameter", "Input")


def read_openvino(checkpoint: Checkpoint) -> Structure | None:
    """The network of an IR; None for a checkpoint of another kind.

    Raises:
        NotADenseNet: it computes something else; names the layer.
    """
    if checkpoint.format != FORMAT:
        return None
    with following(checkpoint.path, "its layers have attributes"):
        return structure_of(NAME, _tree(checkpoint.graph), checkpoint.head)


def _tree(description: Description) -> dict[str, object]:
    """A graph as ``formats/onnx_file.py`` has it."""
    if description.calibrated:
        raise NotADenseNet("it is calibrated for 8 bits; convert the float file it was made from")
    layers, old = description.layers, description.version < OPSETS_FROM
    names, taken = _names(layers), {(second, into): (first, out) for first, out, second, into in description.edges}
    scope, inputs, outputs = Scope(), dict[str, list[int | None]](), list[str]()
    nodes: list[Node] = []
    left: dict[str, None] = {}  # what no layer takes
    for number, layer in layers.items():  # before those that take them, in whichever order the file has them
        if layer.type == "Const":
            scope.add(names[number, layer.outputs[0].number], _value(layer), layer.element)
    own = list(scope.constants)
    for number, layer in layers.items():
        given = [names.get(taken.get((number, port.number), (-1, -1)), "") for port in layer.inputs]
        if "" in given:
            raise NotADenseNet(f"{layer.type} {layer.name} takes what no layer gives")
        made = [names[number, port.number] for port in layer.outputs]
        if layer.type in STARTS:
            inputs[made[0]] = [size if size > 0 else None for size in layer.outputs[0].sizes]
        elif layer.type == "Result":
            outputs += given
        elif layer.type != "Const":
            reader = (OLD if old else READERS).get(layer.type, plain(layer.type, domain="openvino"))
            nodes += reader(scope, layer, given, made)
            left |= dict.fromkeys(made[:1])
    every = {name for node in nodes for name in node["inputs"]}
    results = outputs if not old else [name for name in left if name not in every]
    if old and len(inputs) == 1:
        nodes = start_without(description.means, next(iter(inputs)), nodes, scope)
    return {
        "nodes": nodes,
        "initializers": scope.constants,
        "own": [*own, *(name for name in scope.constants if old and name.endswith(("/weights", "/biases")))],
        "inputs": inputs,
        "outputs": results,
        "functions": [],
        "opset": 0,
    }


def _names(layers: Mapping[int, Layer]) -> dict[tuple[int, int], str]:
    """What every output of every layer is called: by its layer, and its number where it is not the first."""
    seen: set[str] = set()

    def named() -> Iterator[tuple[tuple[int, int], str]]:
        for number, layer in layers.items():
            own = f"{layer.name}#{number}" if layer.name in seen else layer.name
            seen.add(own)
            for i, port in enumerate(layer.outputs):
                yield (number, port.number), f"{own}:{i}" if i else own

    return dict(named())


def _value(layer: Layer) -> Tensor | None:
    """The value of a Const; in old versions a blob in the shape of its output."""
    tensor = layer.constants.get("value") or layer.constants.get("custom")
    if tensor is None or "value" in layer.constants:
        return tensor
    shape, flat = layer.outputs[0].sizes, tensor
    return Tensor(tuple(shape), flat.dtype, lambda: flat.read().reshape(shape)) if np.prod(shape) >= 0 else None
