"""TensorFlow Lite's models: operators as TensorFlow's nodes, which mean the same, and so judged as its graphs are.

What is fused into one operator there (a bias, an activation) becomes nodes of its own, and kernels get TensorFlow's
order of axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.following import following
from converter.structures.parts import Structure
from converter.structures.tf_description import Function, Node, Shape, Signature
from converter.structures.tf_graph import DEFAULT, structure_of
from converter.structures.tflite_description import Description, Operator, Value
from converter.structures.tflite_nodes import CODES, FUSED, LiteNode, Scope, other

NAME = "tflite"
FORMAT = "TensorFlow Lite"
SMALL = (3, 7, 9, 17, 19, 20)
"""TensorType: UINT8, INT16, INT8, INT4, INT2, UINT4, which stand for real numbers by a scale."""


class Inputs:
    """The images and results of a model."""

    def __init__(self, inputs: Mapping[str, str], outputs: Mapping[str, str], shapes: Mapping[str, Shape]) -> None:
        self.inputs, self.outputs, self.shapes = inputs, outputs, shapes


class LiteGraph:
    """A model as one of TensorFlow's graphs (``tf_description.py``)."""

    def __init__(self, nodes: Mapping[str, LiteNode], signature: Signature) -> None:
        self.nodes: Mapping[str, Node] = nodes
        self.signatures: Mapping[str, Signature] = {DEFAULT: signature}
        self.restore = ""
        self.variables: Mapping[str, tuple[str, Tensor]] = {}

    def function(self, name: str) -> Function | None:
        """It has none."""
        return None


def read_tflite(checkpoint: Checkpoint) -> Structure | None:
    """The network of a model; None for a checkpoint of another kind.

    Raises:
        NotADenseNet: it computes something else; names the operator.
    """
    if checkpoint.format != FORMAT:
        return None
    with following(checkpoint.path, "it has operators"):
        return structure_of(NAME, _graph(checkpoint.graph), checkpoint.head)


def _graph(found: Description) -> LiteGraph:
    values, scope = found.values, Scope()
    for value in values:
        if value.constant is not None:
            scope.constant(value.name, value.constant)
    for index in found.inputs:
        scope.add(LiteNode(values[index].name, "Placeholder", ()))
    for operator in found.operators:
        _check(operator, values)
        _translate(scope, operator, values)
    inputs, outputs = ({values[i].name: values[i].name for i in each} for each in (found.inputs, found.outputs))
    shapes: dict[str, Shape] = {values[i].name: values[i].shape for i in found.inputs}
    _without_turns(scope, shapes)
    return LiteGraph(scope.nodes, Inputs(inputs, outputs, shapes))


def _without_turns(scope: Scope, shapes: dict[str, Shape]) -> None:
    """Leave out the turns around a network that PyTorch's users gave (N, C, H, W), as litert-torch writes them.

    Its images are turned to (N, H, W, C) first of all, and its last maps back before their average; the network between
    is the same without either.  Any other turn stays, and is judged as it stands.
    """
    takers: dict[str, list[LiteNode]] = {}
    for node in scope.nodes.values():
        for name in node.inputs:
            takers.setdefault(name, []).append(node)
    for node in [node for node in scope.nodes.values() if node.op in ("Transpose", "Reshape")]:
        source = node.inputs[0]
        order = _ints(scope, node) if node.op == "Transpose" else _order(shapes.get(source), _ints(scope, node))
        users = takers.get(node.name, [])
        if order == [0, 2, 3, 1] and source in shapes and takers[source] == [node]:
            shape = shapes[source]
            shapes[source] = tuple(shape[i] for i in order) if shape and len(shape) == len(order) else shape
        elif order == [0, 3, 1, 2] and users and all(_averages(scope, user) for user in users):
            for user in users:
                axes = scope.ints(f"{user.name} (axes)", [1, 2])
                scope.add(replace(user, inputs=(user.inputs[0], axes)))
        else:
            continue
        scope.add(LiteNode(node.name, "Identity", (source,)))


def _order(shape: Shape, made: list[int]) -> list[int]:
    """Of one channel a turn is a new shape: images (N, 1, H, W) become (N, H, W, 1)."""
    turns = shape is not None and len(shape) == 4 and shape[1] == 1 and made == [shape[i] for i in (0, 2, 3, 1)]
    return [0, 2, 3, 1] if turns else []


def _averages(scope: Scope, node: LiteNode) -> bool:
    """Whether a node makes a vector of maps (N, C, H, W)."""
    return node.op == "Mean" and not node.number("keep_dims") and sorted(_ints(scope, node)) == [2, 3]


def _ints(scope: Scope, node: LiteNode) -> list[int]:
    """The numbers that a node takes second."""
    found = scope.value(node.inputs[1]) if len(node.inputs) > 1 else None
    return [int(n) for n in found.read().ravel()] if found is not None and found.dtype.kind == "i" else []


def _check(operator: Operator, values: list[Value]) -> None:
    """Refuse what must be made anew.

    Raises:
        NotADenseNet: it takes or makes values of 8 bits, or weights whose zeros are left out.
    """
    for value in (values[i] for i in (*operator.inputs, *operator.outputs) if i >= 0):
        if value.quantised and value.kind in SMALL:
            raise NotADenseNet(f"{value.name}: it is quantised; convert the float file it was made from")
        if value.sparse:
            raise NotADenseNet(f"{value.name}: its zeros are left out, which is not read; convert the dense file")


def _translate(scope: Scope, operator: Operator, values: list[Value]) -> None:
    """The nodes of one operator."""
    given = [values[i].name if i >= 0 else "" for i in operator.inputs]
    made = [values[i].name for i in operator.outputs]
    if not made:
        return
    name, reader, fused = CODES.get(operator.code, (operator.custom or f"operator {operator.code}", other, -1))
    code = operator.options.number(fused, "<b") if operator.options is not None and fused >= 0 else 0
    activation = FUSED.get(code, "other activation")
    shapes = [values[i].shape if i >= 0 else () for i in operator.inputs]
    scope.operator = name
    reader(scope, operator.options, given, [f"{made[0]} before its {activation}", *made[1:]] if code else made, shapes)
    if code:
        scope.add(LiteNode(made[0], activation, (f"{made[0]} before its {activation}",)))
