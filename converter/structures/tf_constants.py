"""Constants of TensorFlow graphs: variables, Const nodes, and what nodes make of those, as far as it is simple."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Tensor
from converter.core.dtypes import Types
from converter.core.errors import NotADenseNet
from converter.structures.ops import Weight
from converter.structures.tf_calls import Calls, Frame, Step
from converter.structures.tf_description import Node
from converter.structures.weights import lazily

VARIABLES = ("VarHandleOp", "VariableV2", "Variable")
ASSIGNS = ("AssignVariableOp", "Assign")
DTYPES = Types({1: "float32", 2: "float64", 3: "int32", 9: "int64", 14: "bfloat16", 19: "float16"})
"""types.proto, DataType."""


class Constants:
    """The constants among the steps of a graph, by the names of their values."""

    def __init__(self, variables: Mapping[str, Weight]) -> None:
        self.variables = variables
        self.values: dict[str, Weight] = {}

    def take(self, step: Step) -> bool:
        """Whether a step depends on no feature map; what it makes is a constant then, if it is simple."""
        if step.node.op in VARIABLES:
            if step.y in self.variables:
                self.values[step.y] = self.variables[step.y]
            return True
        if step.node.op == "Const":
            tensor = step.node.tensor("value")
            if tensor is not None:
                self.values[step.y] = Weight(step.y, tensor, (step.y,))
            return True
        if not step.x or not all(name in self.values for name in step.x):
            return False
        weights = [self.values[name] for name in step.x]
        tensor = _evaluated(step.node, [weight.tensor for weight in weights])
        if tensor is None:
            return False
        key = weights[0].key if tensor is weights[0].tensor else step.y
        self.values[step.y] = Weight(key, tensor, tuple(source for weight in weights for source in weight.sources))
        return True

    def size(self, step: Step, shape: tuple[int | None, ...]) -> None:
        """What a step makes is a shape; sizes that are not known are not numbers."""
        values = np.array([np.nan if n is None else n for n in shape])
        self.values[step.y] = Weight(step.y, Tensor.of(values))

    def weight(self, step: Step, i: int) -> Weight | None:
        """The constant that a step takes as its input ``i``; None if it takes none there."""
        return self.values.get(step.x[i]) if i < len(step.x) else None

    def ints(self, step: Step, i: int) -> list[int | None] | None:
        """Integers that a step takes, those that are not known as None; None if it takes none there."""
        weight = self.weight(step, i)
        if weight is None or prod(weight.tensor.shape) > bounds.COMPUTED:
            return None
        values = weight.tensor.read().reshape(-1).astype(np.float64)
        if not np.array_equal(values, np.round(values), equal_nan=True):
            raise NotADenseNet(f"{step}: takes {weight.key} for integers")
        return [None if np.isnan(value) else int(value) for value in values]


def variables_of(calls: Calls, restore: str, stored: Mapping[str, tuple[str, Tensor]]) -> dict[str, Weight]:
    """The variables of a graph by the names of their nodes, as the node that fills them from a checkpoint says.

    A variable that is filled by none is looked for under its own name.

    Args:
        calls: traces the graph's values.
        restore: the node that fills them.
        stored: the checkpoint's variables, and what reports call them.
    """
    main = calls.main
    frames = [main]
    node = main.nodes.get(restore)
    if node is not None and node.op in ("StatefulPartitionedCall", "PartitionedCall"):
        calls.made(main, restore)
        frames += main.called.values()
    keys: dict[str, str] = {}
    names: dict[str, list[str]] = {}  # what each RestoreV2 asks for
    for frame in frames:
        for each in frame.nodes.values():
            if each.op in ASSIGNS and len(each.inputs) > 1:
                keys |= _assigned(calls, frame, each, names)
    named = {name: (name, tensor) for name, tensor in stored.values()}
    result: dict[str, Weight] = {}
    for each in main.nodes.values():
        if each.op in VARIABLES:
            found = [keys.get(each.name, ""), each.text("shared_name"), each.name]
            have = next((all_[key] for key in found for all_ in (stored, named) if key in all_), None)
            if have is not None:
                result[each.name] = Weight(have[0], have[1], (have[0],))
    return result


def _assigned(calls: Calls, frame: Frame, node: Node, names: dict[str, list[str]]) -> dict[str, str]:
    """Which checkpoint's key a variable is filled from, if a node does that."""
    owner, source = (calls.made(frame, reference) for reference in node.inputs[:2])
    if source[1].op != "RestoreV2" or owner[1].op not in VARIABLES:
        return {}
    asked = source[0].place + source[1].name
    if asked not in names:
        names[asked] = calls.made(source[0], source[1].inputs[1])[1].texts("value")
    return {owner[1].name: names[asked][source[2]]} if source[2] < len(names[asked]) else {}


# -- what nodes compute ---------------------------------------------------------------


def _evaluated(node: Node, tensors: list[Tensor]) -> Tensor | None:
    """What a node makes of constants; None if that is not simple."""
    op = node.op
    if op in ("ReadVariableOp", "Identity"):
        return tensors[0]
    if op == "Cast":
        dtype = DTYPES.get(node.number("DstT"))
        return None if dtype is None else lazily(tensors[0], lambda array: array.astype(dtype, copy=False))
    if op in VIEWS:
        given = [tensor.read() for tensor in tensors[1:] if prod(tensor.shape) <= bounds.COMPUTED]
        change = VIEWS[op]
        return lazily(tensors[0], lambda array: change(node, array, *given)) if len(given) == len(tensors) - 1 else None
    if op == "Fill" and prod(tensors[0].shape) <= 8:
        shape = tuple(int(n) for n in tensors[0].read())
        if min(shape, default=0) < 0 or prod(shape) > bounds.FILLED:
            return None
        return Tensor(shape, tensors[1].dtype, lambda: np.broadcast_to(tensors[1].read(), shape))
    if op in ELEMENTWISE and max(prod(tensor.shape) for tensor in tensors) > bounds.COMPUTED:
        shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors))
        if prod(shape) > bounds.FILLED:
            return None
        return Tensor(shape, tensors[0].dtype, lambda: np.asarray(ELEMENTWISE[op](*(t.read() for t in tensors))))
    compute = ELEMENTWISE.get(op)
    if compute is not None:
        return Tensor.of(np.asarray(compute(*(tensor.read() for tensor in tensors))))
    if op in OTHERS and all(prod(tensor.shape) <= bounds.COMPUTED for tensor in tensors):
        return Tensor.of(np.asarray(OTHERS[op](node, *(tensor.read() for tensor in tensors))))
    return None


def slices(node: Node, rank: int, begin: Array, end: Array, strides: Array) -> list[Any] | None:
    """The index that a StridedSlice stands for (tensorflow/core/ops/array_ops.cc); None where it adds axes."""
    masks = [node.number(f"{name}_mask") for name in ("begin", "end", "shrink_axis", "ellipsis", "new_axis")]
    if masks[4]:
        return None
    index: list[Any] = []
    for i, (first, last, step) in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist())):
        first_free, last_free, shrinks, ellipsis = (mask >> i & 1 for mask in masks[:4])
        if ellipsis:
            index += [slice(None)] * (rank - len(begin) + 1)
        elif shrinks:
            index.append(first)
        else:
            index.append(slice(None if first_free else first, None if last_free else last, step))
    return index


def _strided(node: Node, array: Array, begin: Array, end: Array, strides: Array) -> Array:
    index = slices(node, array.ndim, begin, end, strides)
    if index is None:
        raise NotADenseNet(f"{node.op} {node.name} adds axes")
    taken: Array = array[tuple(index)]
    return taken


def _reduced(node: Node, array: Array, axes: Array, how: Callable[..., Array]) -> Array:
    return np.asarray(how(array, axis=tuple(axes.reshape(-1).tolist()), keepdims=bool(node.number("keep_dims"))))


VIEWS: Mapping[str, Callable[..., Array]] = {
    "Reshape": lambda node, array, shape: array.reshape([int(n) for n in shape]),
    "Transpose": lambda node, array, order: array.transpose([int(n) for n in order]),
    "Squeeze": lambda node, array: np.squeeze(array, tuple(node.ints("squeeze_dims")) or None),
    "ExpandDims": lambda node, array, axis: np.expand_dims(array, int(axis.reshape(-1)[0])),
}

ELEMENTWISE: Mapping[str, Callable[..., Array]] = {
    **dict.fromkeys(("Add", "AddV2"), lambda a, b: a + b),
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    **dict.fromkeys(("RealDiv", "Div"), lambda a, b: a / b if a.dtype.kind != "i" else a // b),
    "Rsqrt": lambda a: 1 / np.sqrt(a),
    "Sqrt": np.sqrt,
    "Square": np.square,
    "Neg": np.negative,
    "Reciprocal": lambda a: 1 / a,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Pow": np.power,
}

OTHERS: Mapping[str, Callable[..., Array]] = {
    "Pack": lambda node, *arrays: np.stack(arrays, node.number("axis")),
    "ConcatV2": lambda node, *arrays: np.concatenate(arrays[:-1], int(arrays[-1])),
    "Concat": lambda node, axis, *arrays: np.concatenate(arrays, int(axis)),
    "GatherV2": lambda node, array, i, axis: np.take(array, i, int(axis)),
    "StridedSlice": _strided,
    "Range": lambda node, first, last, step: np.arange(first, last, step),
    "Prod": lambda node, array, axes: _reduced(node, array, axes, np.prod),
    "Sum": lambda node, array, axes: _reduced(node, array, axes, np.sum),
}
