"""TensorFlow Lite's models: operators as TensorFlow's nodes, which mean the same, and so judged as its graphs are.

What is fused into one operator there (a bias, an activation) becomes nodes of its own, and kernels get TensorFlow's
order of axes.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    return LiteGraph(scope.nodes, Inputs(inputs, outputs, shapes))


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
