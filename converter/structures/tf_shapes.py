"""TensorFlow's nodes that change shapes alone, as operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from converter.structures.ops import Op
from converter.structures.tf_calls import Step
from converter.structures.tf_constants import slices
from converter.structures.tf_maps import Found, Maps, Network, Reader, op_of


def _concat(network: Network, step: Step, maps: Maps) -> Found:
    at = 0 if step.node.op == "Concat" else len(step.x) - 1
    axis, data = network.constants.ints(step, at), step.x[:at] or step.x[1:]
    each = [network.maps.get(name) for name in data]
    if axis is None or len(axis) != 1 or axis[0] is None or axis[0] % maps.rank != maps.axis:
        return None
    if any(one is None or (one.rank, one.last) != (maps.rank, maps.last) for one in each):
        return None
    widths = [one.channels for one in each if one is not None]
    channels = None if None in widths else sum(n for n in widths if n is not None)
    pooled = all(one.pooled for one in each if one is not None)
    return Op("concat", data, step.y, str(step)), replace(maps.resized(maps.sizes, channels), pooled=pooled)


def _flattened(step: Step, maps: Maps, after: Maps) -> Found:
    """Axes of one position come or go; of maps of one position that nothing has pooled, their mean is taken."""
    if maps.pooled:
        return op_of("flatten", step, step.x[0]), replace(after, pooled=True)
    if set(maps.sizes) == {1}:
        return op_of("global_avg", step, step.x[0]), replace(after, pooled=True)
    return None


def _reshape(network: Network, step: Step, maps: Maps) -> Found:
    target = network.constants.ints(step, 1)
    if target is None or maps.shape is None or not target:
        return None
    if len(target) == maps.rank and all(a in (b, -1) or a == b for a, b in zip(target, maps.shape)):
        return op_of("flatten", step, step.x[0]), maps
    width = maps.channels
    inner = (*maps.sizes, 1) if not maps.last else (1, *maps.sizes)
    if width == 1 and not maps.pooled and None not in inner and tuple(target[1:]) == inner:  # a turn of one channel
        turned = (maps.shape[0], *inner)
        return op_of("skip", step, step.x[0]), replace(maps, shape=turned, last=not maps.last)
    if len(target) == 2 and target[1] in (width, -1, None) and maps.rank > 2:
        if target[1] != width and target[0] == -1:
            return None
        return _flattened(step, maps, Maps((maps.shape[0], width)))
    ones = [n for n in target[1:] if n == 1]
    if (
        len(ones) >= len(target) - 2
        and maps.pooled
        and len(target) > 2
        and (target[-1] in (width, -1) or target[1] in (width, -1))
    ):
        last = target[-1] in (width, -1) and target[1] in (1, width)
        return _flattened(
            step, maps, Maps((None, *ones[: len(target) - 2], width) if last else (None, width, *ones), last)
        )
    return None


def _squeeze(network: Network, step: Step, maps: Maps) -> Found:
    axes = {axis % maps.rank for axis in step.node.ints("squeeze_dims")} or set(maps.spatial)
    if not axes <= set(maps.spatial) or maps.shape is None:
        return None
    kept = tuple(n for i, n in enumerate(maps.shape) if i not in axes)
    return _flattened(step, maps, Maps(kept, maps.last or len(kept) == 2))


def _expand(network: Network, step: Step, maps: Maps) -> Found:
    axis = network.constants.ints(step, 1)
    if not axis or axis[0] is None or not maps.pooled or maps.shape is None:
        return None
    at = axis[0] % (maps.rank + 1)
    shape = (*maps.shape[:at], 1, *maps.shape[at:])
    channels = maps.axis + (at <= maps.axis)
    if at == 0 or channels not in (1, len(shape) - 1):
        return None
    return _flattened(step, maps, Maps(shape, channels == len(shape) - 1))


def _transpose(network: Network, step: Step, maps: Maps) -> Found:
    order = network.constants.ints(step, 1)
    if order is None or sorted(n for n in order if n is not None) != list(range(maps.rank)) or order[0] != 0:
        return None
    inner = [n for n in order if n not in (0, maps.axis)]
    at = order.index(maps.axis)
    if inner != sorted(n for n in inner if n is not None) or at not in (1, maps.rank - 1):
        return None
    shape = None if maps.shape is None else tuple(maps.shape[n] for n in order if n is not None)
    return op_of("skip", step, step.x[0]), replace(maps, shape=shape, last=at == maps.rank - 1)


def _flip(step: Step, maps: Maps, axis: int) -> Found:
    return op_of("flip", step, step.x[0], axis=1 if axis % maps.rank == maps.axis else 2), maps


def _reverse(network: Network, step: Step, maps: Maps) -> Found:
    axes = network.constants.ints(step, 1) or []
    return _flip(step, maps, axes[0]) if len(axes) == 1 and axes[0] is not None else None


def _gather(network: Network, step: Step, maps: Maps) -> Found:
    taken, axis = network.constants.ints(step, 1), network.constants.ints(step, 2)
    reversed_ = taken is not None and taken == list(range(len(taken)))[::-1] and len(taken) == maps.channels
    return (
        _flip(step, maps, axis[0])
        if reversed_ and axis and axis[0] is not None and axis[0] % maps.rank == maps.axis
        else None
    )


def _slice(network: Network, step: Step, maps: Maps) -> Found:
    """All of a value, one of its axes reversed."""
    bounds = [network.constants.weight(step, i) for i in (1, 2, 3)]
    arrays = [weight.tensor.read() for weight in bounds if weight is not None]
    index = slices(step.node, maps.rank, *arrays) if len(arrays) == 3 else None
    if index is None or not all(isinstance(each, slice) for each in index):
        return None
    whole = [each.start in (None, 0) and each.stop is None and each.step in (None, 1) for each in index]
    turned = [i for i, each in enumerate(index) if each.start is None and each.stop is None and each.step == -1]
    if all(whole):
        return op_of("skip", step, step.x[0]), maps
    if len(turned) == 1 and sum(whole) == len(index) - 1:
        return _flip(step, maps, turned[0])
    return None


SHAPING: Mapping[str, Reader] = {
    **dict.fromkeys(("ConcatV2", "Concat"), _concat),
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "ExpandDims": _expand,
    "Transpose": _transpose,
    "ReverseV2": _reverse,
    "GatherV2": _gather,
    "StridedSlice": _slice,
}
"""Nodes by operator; a reader returns None where the node does something a DenseNet does not."""
