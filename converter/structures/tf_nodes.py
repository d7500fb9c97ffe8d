"""TensorFlow's nodes as operators: windows, and numbers per channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Tensor
from converter.core.errors import NotADenseNet
from converter.structures.ops import Kind, Op, Weight, Window, border_of
from converter.structures.tf_calls import Step
from converter.structures.tf_maps import Found, Maps, Network, Reader, op_of, plain
from converter.structures.tf_shapes import SHAPING
from converter.structures.weights import lazily, transposed
from densenet.module import NORM_TENSORS

FLOATS = (1, 2, 14, 19)


# -- windows -------------------------------------------------------------------------


def _oriented(step: Step, maps: Maps) -> bool:
    """Whether a node takes channels where they are."""
    spatial = step.node.text("data_format", "NHWC")
    if (spatial[-1:] == "C") != maps.last:
        raise NotADenseNet(f"{step} takes {spatial}, and is given the channels elsewhere")
    return maps.shape is None or maps.rank == len(spatial)


def _inner(values: list[int], maps: Maps) -> tuple[int, ...] | None:
    """What an attribute says of the spatial axes, if it says nothing else; ones where it is absent."""
    values = values or [1] * maps.rank
    if len(values) != maps.rank or values[0] != 1 or values[maps.axis] != 1:
        return None
    return tuple(values[i] for i in maps.spatial)


def _window(step: Step, maps: Maps, kernel: tuple[int, ...] | None, groups: int = 1) -> Window | None:
    node = step.node
    strides, dilations = _inner(node.ints("strides"), maps), _inner(node.ints("dilations"), maps)
    if kernel is None or strides is None or dilations is None or len(kernel) != len(strides) or min(strides) < 1:
        return None
    none, rule, explicit = (0,) * len(kernel), node.text("padding"), node.ints("explicit_paddings")
    begin = end = none
    if rule == "EXPLICIT":
        if len(explicit) != 2 * maps.rank:
            return None
        begin, end = (tuple(explicit[2 * i + at] for i in maps.spatial) for at in (0, 1))
    elif rule not in ("SAME", "VALID"):
        return None
    return Window(kernel, strides, begin, end, dilations, groups, same=rule == "SAME")


def _after(window: Window, maps: Maps, channels: int | None) -> Maps:
    """What a window makes of maps."""
    spans = tuple((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations))
    sizes = [
        None
        if n is None
        else replace(window, kernel=(span,), strides=(s,), begin=(b,), end=(e,), size=(n,)).size_after()[0]
        for n, span, s, b, e in zip(maps.sizes, spans, window.strides, window.begin, window.end)
    ]
    return replace(maps.resized(sizes, channels), pooled=False)


def _conv(network: Network, step: Step, maps: Maps) -> Found:
    weight = network.constants.weight(step, 1)
    if not _oriented(step, maps) or weight is None or len(weight.tensor.shape) != maps.rank:
        return None
    *kernel, taken, given = weight.tensor.shape
    groups = (maps.channels or taken) // taken if taken else 1
    window = _window(step, maps, tuple(kernel), groups)
    if window is None:
        return None
    order = (len(kernel) + 1, len(kernel), *range(len(kernel)))  # (height, width, in, out) to (out, in, height, width)
    turned = replace(weight, tensor=lazily(weight.tensor, lambda array: array.transpose(order)))
    after = _after(window, maps, given)
    pooled = maps.pooled and {*window.kernel, *window.strides} == {1}
    return op_of("conv", step, step.x[0], weights={"weight": turned}, window=window), replace(after, pooled=pooled)


def _pool(network: Network, step: Step, maps: Maps) -> Found:
    if not _oriented(step, maps):
        return None
    window = _window(step, maps, _inner(step.node.ints("ksize"), maps))
    if window is None:
        return None
    kind: Kind = "max_pool" if step.node.op.startswith("MaxPool") else "avg_pool"
    after = _after(window, maps, maps.channels)
    whole = window.kernel == maps.sizes and not any((*window.begin, *window.end))
    return op_of(kind, step, step.x[0], window=window), replace(after, pooled=whole)


def _reduce(network: Network, step: Step, maps: Maps) -> Found:
    """A mean or maximum over all positions is global pooling."""
    axes = network.constants.ints(step, 1)
    if axes is None or None in axes or maps.pooled or len(maps.spatial) < 1:
        return None
    if {axis % maps.rank for axis in axes if axis is not None} != set(maps.spatial):
        return None
    kind: Kind = "global_avg" if step.node.op == "Mean" else "global_max"
    after = maps.resized([1] * len(maps.spatial), maps.channels)
    if not step.node.number("keep_dims"):
        after = Maps((after.shape[0] if after.shape else None, maps.channels))
    return op_of(kind, step, step.x[0]), replace(after, pooled=True)


def _pad(network: Network, step: Step, maps: Maps) -> Found:
    amounts, value = network.constants.ints(step, 1), network.constants.weight(step, 2)
    mirrors = step.node.op == "MirrorPad"
    filled = 0.0 if value is None else float(value.tensor.read().reshape(-1)[0])
    if amounts is None or len(amounts) != 2 * maps.rank or (mirrors and step.node.text("mode") != "REFLECT"):
        return None
    sides = [n for n in amounts if n is not None and n >= 0]
    outside = [sides[2 * i + at] for i in (0, maps.axis) for at in (0, 1)] if len(sides) == len(amounts) else [1]
    if any(outside):
        return None
    begin, end = (tuple(sides[2 * i + at] for i in maps.spatial) for at in (0, 1))
    window = Window((), (), begin, end)
    after = maps.resized((None if n is None else n + b + e for n, b, e in zip(maps.sizes, begin, end)), maps.channels)
    kind = border_of("reflect" if mirrors else "constant", filled)
    return None if kind is None else (op_of(kind, step, step.x[0], window=window), after)


# -- numbers per channel -------------------------------------------------------------


def _norm(network: Network, step: Step, maps: Maps) -> Found:
    if step.node.number("is_training", 1):
        raise NotADenseNet(f"{step}: normalises by the batch, as in training; save the network for inference")
    if not _oriented(step, maps):
        return None
    weights = {leaf: network.constants.weight(step, i) for i, leaf in enumerate(NORM_TENSORS, 1)}
    found = {leaf: weight for leaf, weight in weights.items() if weight is not None and len(weight.tensor.shape) == 1}
    if len(found) < 4:
        return None
    return op_of("norm", step, step.x[0], weights=found, eps=step.node.real("epsilon", 1e-4)), maps


def _bias(network: Network, step: Step, maps: Maps) -> Found:
    last = step.node.text("data_format", "NHWC")[-1] == "C"
    constant = network.constants.weight(step, 1)
    if constant is None or len(constant.tensor.shape) != 1 or (maps.rank > 2 and last != maps.last):
        return None
    return op_of("row" if maps.rank == 2 else "affine", step, step.x[0], weights={"bias": constant}), maps


def _arithmetic(network: Network, step: Step, maps: Maps) -> Found:
    """A constant per channel added or multiplied; or two values added."""
    kind, constants = step.node.op, network.constants
    if len(step.x) == 2 and not any(name in constants.values for name in step.x):
        return (Op("add", step.x, step.y, str(step)), maps) if kind in ("Add", "AddV2", "AddN") else None
    at = 0 if step.x[0] in constants.values else 1
    constant = constants.weight(step, at)
    found = None if constant is None else _per_channel(constant, maps)
    if found is None or len(step.x) != 2 or (at == 0 and kind in ("RealDiv", "Div")):
        return None
    x = step.x[1 - at]
    if kind == "Maximum":
        return (op_of("relu", step, x), maps) if not found.tensor.read().any() else None
    if kind in ("RealDiv", "Div") or (kind == "Sub" and at):
        values = found.tensor.read().astype(np.float64)
        turned = Tensor.of(-values if kind == "Sub" else 1 / values)
        found = replace(found, key=f"{found.key} ({step.y})", tensor=turned)
    elif kind == "Sub":
        inner = f"{step.y} (negated)"
        negated = Weight(inner, Tensor.of(np.full(1, -1.0)))
        network.ops.append(Op("affine", (x,), inner, str(step), weights={"weight": negated}))
        x = inner
    leaf = "weight" if kind in ("Mul", "RealDiv", "Div") else "bias"
    return op_of(_scaling(maps, found), step, x, weights={leaf: found}), maps


def _scaling(maps: Maps, values: Weight) -> Kind:
    return "row" if maps.rank == 2 and prod(values.tensor.shape) > 1 else "affine"


def _per_channel(constant: Weight, maps: Maps) -> Weight | None:
    """A constant as one number, or one for each channel; None if it is more, or changes how many there are."""
    shape, size = constant.tensor.shape, prod(constant.tensor.shape)
    full = (1,) * (maps.rank - len(shape)) + shape
    if size > bounds.COMPUTED or len(full) > maps.rank or size != (full[maps.axis] if size != 1 else 1):
        return None
    if size != 1 and maps.channels not in (None, size):
        return None
    values = constant.tensor.read().reshape(-1)
    if not constant.sources and not np.isfinite(values).all():
        return None  # made of sizes that are not known
    return replace(constant, tensor=Tensor.of(values.astype(np.float32) if values.dtype.kind in "iu" else values))


def _negative(network: Network, step: Step, maps: Maps) -> Found:
    return op_of("affine", step, step.x[0], weights={"weight": Weight(step.y, Tensor.of(np.full(1, -1.0)))}), maps


def _matmul(network: Network, step: Step, maps: Maps) -> Found:
    weight, node = network.constants.weight(step, 1), step.node
    turned = node.number("transpose_b") or node.number("adj_y")
    if weight is None or len(weight.tensor.shape) != 2 or node.number("transpose_a") or node.number("adj_x"):
        return None
    if maps.rank != 2:
        return None
    tensor = weight.tensor if turned else transposed(weight.tensor)
    given = tensor.shape[0]
    shape = (maps.shape[0] if maps.shape else None, given)
    return op_of("linear", step, step.x[0], weights={"weight": replace(weight, tensor=tensor)}), Maps(
        shape, pooled=True
    )


def _cast(network: Network, step: Step, maps: Maps) -> Found:
    return (op_of("skip", step, step.x[0]), maps) if step.node.number("DstT") in FLOATS else None


READERS: Mapping[str, Reader] = {
    **SHAPING,
    **dict.fromkeys(("Conv2D", "Conv3D"), _conv),
    **dict.fromkeys(("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D"), _pool),
    **dict.fromkeys(("Mean", "Max"), _reduce),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _pad),
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), _norm),
    "BiasAdd": _bias,
    **dict.fromkeys(("Add", "AddV2", "AddN", "Sub", "Mul", "RealDiv", "Div", "Maximum"), _arithmetic),
    "Neg": _negative,
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2"), _matmul),
    "Cast": _cast,
    "Relu": plain("relu"),
    "Softmax": plain("softmax"),
    "Sigmoid": plain("sigmoid"),
    **dict.fromkeys(("LogSoftmax", "ArgMax", "TopKV2"), plain("end")),
}
"""Nodes by operator; a reader returns None where the node does something a DenseNet does not."""
