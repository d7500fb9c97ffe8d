"""ONNX nodes that together do one thing: channels reversed piece by piece, a mean over positions in two steps."""

from __future__ import annotations

import numpy as np

from converter.core.checkpoint import Tensor
from converter.structures.onnx_constants import Constants, Node

Axis = int
DEEP = 12
"""Nodes one behind the other that indices are made by, at most."""


def flipped_axis(constants: Constants, node: Node) -> Axis | None:
    """The axis that a Gather or Slice reverses, if it does nothing else."""
    attributes = node["attributes"]
    if node["op"] == "Gather":
        weight = constants.values.get(node["inputs"][1])
        indices = None if weight is None else weight.tensor.read()
        if indices is None or indices.ndim != 1 or len(indices) < 2 or len(indices) > len(set(indices.tolist())):
            return None
        size = len(indices)
        whole = [int(i) % size if i >= -size else -1 for i in indices] == list(reversed(range(size)))
        return int(attributes.get("axis", 0)) if whole and _may_be_all(constants, size) else None
    starts, ends, axes, steps = (_numbers(constants, node, i) for i in range(1, 5))
    if not axes or not steps or not starts or not ends or not len(axes) == len(steps) == len(starts) == len(ends):
        return None
    far = 1 << 29  # further than any image is large
    plain = [
        (step == 1 and start == 0 and end >= far) or (step == -1 and (start == -1 or start >= far) and end <= -far)
        for start, end, step in zip(starts, ends, steps)
    ]
    reversed_axes = [axis for axis, step in zip(axes, steps) if step == -1]
    return reversed_axes[0] if all(plain) and len(reversed_axes) == 1 else None


def reversed_channels(constants: Constants, node: Node, data: tuple[str, ...]) -> str | None:
    """What a Concat is the reverse of, if it joins all its single channels from the last to the first."""
    axis = node["attributes"].get("axis")
    pieces = [_piece(constants, name, axis) for name in data]
    found = [piece for piece in pieces if piece is not None]
    if len(found) < max(len(data), 2) or len({source for source, _ in found}) > 1:
        return None
    whole = [at for _, at in found] == list(reversed(range(len(found))))
    return found[0][0] if whole and _may_be_all(constants, len(found)) else None


def repeated(constants: Constants, node: Node) -> int | None:
    """How often a Tile repeats the channels alone; 1 of an Expand to the size a value has."""
    by = constants.ints(node, "repeats", 1) or [0]
    if node["op"] == "Expand":
        return 1 if {*by} == {1} else None
    return by[1] if len(by) > 2 and {by[0], *by[2:]} == {1} else None


def reversed_between_turns(constants: Constants, node: Node) -> str | None:
    """What a Transpose gives back with its channels reversed: they are picked as rows between two Transposes.

    So torch's dynamo exporter writes ``x[:, [2, 1, 0]]``.
    """
    picked = constants.makers.get(node["inputs"][0])
    if picked is None or picked["op"] != "GatherND" or picked["attributes"].get("batch_dims"):
        return None
    before, weight = constants.makers.get(picked["inputs"][0]), constants.values.get(picked["inputs"][1])
    swap = [1, 0, 2, 3]
    if before is None or before["op"] != "Transpose" or weight is None or weight.tensor.shape[1:] != (1,):
        return None
    size = weight.tensor.shape[0]
    whole = weight.tensor.read()[:, 0].tolist() == list(reversed(range(size))) and _may_be_all(constants, size)
    swapped = swap == before["attributes"].get("perm") == node["attributes"].get("perm")
    return str(before["inputs"][0]) if whole and swapped else None


def takes_all(constants: Constants, node: Node) -> bool:
    """Whether a Gather takes all numbers of a flattened value in their order, a vector (C, 1, 1) for each image.

    So torch's dynamo exporter writes ``as_strided``, to which the pooling of maps in channels-last memory comes.
    """
    before = constants.makers.get(node["inputs"][0])
    if before is None or before["op"] != "Reshape" or node["op"] != "Gather" or node["attributes"].get("axis", 0):
        return False
    shape = constants.values.get("".join(before["inputs"][1:2]))
    if shape is None or shape.tensor.read().reshape(-1).tolist() != [-1]:
        return False
    fixed = constants.image[0] if constants.image else None
    for images in (2, 3) if fixed is None else (fixed,):
        found = _for_images(constants, node["inputs"][1], images, depth=0)
        indices = None if found is None else found.read()
        if indices is None or indices.ndim != 4 or indices.shape[::2] != (images, 1) or indices.shape[3] != 1:
            return False
        if indices.reshape(-1).tolist() != list(range(indices.size)):
            return False
    return True


def turns_one_channel(constants: Constants, node: Node) -> bool:
    """Whether a Reshape makes (N, 1, height, width) of images (N, height, width, 1)."""
    weight, image = constants.values.get("".join(node["inputs"][1:2])), constants.image  # of old an attribute
    if node["inputs"][0] != constants.start or weight is None or weight.tensor.shape != (4,) or len(image) != 4:
        return False
    sizes = weight.tensor.read().tolist()[1:]
    return image[3] == 1 and image[1:3] != [1, 1] and sizes == [1, *image[1:3]]


def _for_images(constants: Constants, name: str, images: int, depth: int) -> Tensor | None:
    """A value that depends on nothing but how many images there are."""
    if name in constants.values:
        return constants.values[name].tensor
    node = constants.makers.get(name)
    if node is None or depth > DEEP:
        return None
    if node["op"] == "Shape":
        first = (node["attributes"].get("start", 0), node["attributes"].get("end")) == (0, 1)
        return Tensor.of(np.array([images])) if first and node["inputs"] == [constants.start] else None
    taken = [_for_images(constants, each, images, depth + 1) for each in node["inputs"] if each]
    known = [each for each in taken if each is not None]
    return constants.evaluated(node, known) if len(known) == len(taken) else None


def positions(
    constants: Constants, node: Node, axes: list[int], data: tuple[str, ...]
) -> tuple[list[int], tuple[str, ...]]:
    """The axes of NCHW maps that a reduction goes over, and the maps: also flattened before, or in two steps."""
    before = constants.makers.get(data[0]) if len(data) == 1 else None
    if before is None:
        return axes, data
    taken = constants.data(before)
    if before["op"] == "Transpose" and before["attributes"].get("perm") == [0, 2, 3, 1] and len(axes) == 2:
        return [(0, 2, 3, 1)[axis] for axis in axes if -4 <= axis < 4], taken
    if len(axes) != 1:
        return axes, data
    if before["op"] == "Reshape" and axes[0] in (2, -1) and len(taken) == 1:
        weight = constants.values.get(before["inputs"][1])
        shape = [] if weight is None else weight.tensor.read().reshape(-1).tolist()
        return ([2, 3], taken) if len(shape) == 3 and shape[2] == -1 else (axes, data)
    if before["op"] == node["op"] and len(constants.image) == 4 and len(taken) == 1:
        first = constants.ints(before, "axes", 1) or []
        rank = 4 if before["attributes"].get("keepdims", 1) else 3
        left = [axis % 4 for axis in first] if all(-4 <= axis < 4 for axis in first) else []
        if left in ([2], [3]) and -rank <= axes[0] < rank:
            second = axes[0] % rank if rank == 4 else {2: 5 - left[0]}.get(axes[0] % 3)
            return ([2, 3], taken) if {*left, second} == {2, 3} else (axes, data)
    return axes, data


def _piece(constants: Constants, name: str, axis: Axis | None) -> tuple[str, int] | None:
    """Where a single channel comes from, and which it is."""
    node = constants.makers.get(name)
    taken = constants.data(node) if node is not None else ()
    if node is None or len(taken) != 1 or node["inputs"][0] != taken[0]:
        return None
    if node["op"] == "Split" and node["attributes"].get("axis", 0) == axis:
        sizes = constants.ints(node, "split", 1) or []
        count = len(node["outputs"])
        ones = set(sizes) == {1} or (not sizes and _sizes_along(constants, axis) == count)
        return (taken[0], node["outputs"].index(name)) if ones else None
    if node["op"] == "Slice":
        starts, ends, axes, steps = (_numbers(constants, node, i) for i in range(1, 5))
        if axes == [axis] and steps in (None, [1]) and starts and ends and ends[0] == starts[0] + 1:
            return taken[0], starts[0]
    if node["op"] == "Gather" and node["attributes"].get("axis", 0) == axis:
        weight = constants.values.get(node["inputs"][1])
        if weight is not None and weight.tensor.shape == (1,):
            return taken[0], int(weight.tensor.read()[0])
    return None


def _numbers(constants: Constants, node: Node, i: int) -> list[int] | None:
    """Starts, ends, axes or steps (1 to 4) of a Slice: attributes before opset 10, then inputs."""
    name = ("", "starts", "ends", "axes", "steps")[i]
    known = name in node["attributes"] or "".join(node["inputs"][i : i + 1]) in constants.values
    return constants.ints(node, name, i) if known else None


def _sizes_along(constants: Constants, axis: Axis | None) -> int | None:
    """The image's size along an axis, if the file says it."""
    known = axis is not None and -len(constants.image) <= axis < len(constants.image)
    return constants.image[axis] if known and axis is not None else None


def _may_be_all(constants: Constants, size: int) -> bool:
    """Whether the image may have so many channels."""
    return not constants.image or None in constants.image or size in constants.image
