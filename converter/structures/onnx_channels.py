"""ONNX nodes that together do one thing: channels reversed piece by piece, a mean over positions in two steps."""

from __future__ import annotations

from converter.structures.onnx_constants import Constants, Node

Axis = int


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
    if not axes or len(axes) != 1 or steps != [-1] or not starts or not ends:
        return None
    from_last = starts[0] == -1 or starts[0] >= 1 << 30
    return axes[0] if from_last and ends[0] <= -(1 << 30) else None


def reversed_channels(constants: Constants, node: Node, data: tuple[str, ...]) -> str | None:
    """What a Concat is the reverse of, if it joins all its single channels from the last to the first."""
    axis = node["attributes"].get("axis")
    pieces = [_piece(constants, name, axis) for name in data]
    found = [piece for piece in pieces if piece is not None]
    if len(found) < max(len(data), 2) or len({source for source, _ in found}) > 1:
        return None
    whole = [at for _, at in found] == list(reversed(range(len(found))))
    return found[0][0] if whole and _may_be_all(constants, len(found)) else None


def positions(
    constants: Constants, node: Node, axes: list[int], data: tuple[str, ...]
) -> tuple[list[int], tuple[str, ...]]:
    """The axes of NCHW maps that a reduction goes over, and the maps: also flattened before, or in two steps."""
    before = constants.makers.get(data[0]) if len(data) == 1 else None
    if before is None or len(axes) != 1:
        return axes, data
    taken = constants.data(before)
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
        return (taken[0], node["outputs"].index(name)) if set(sizes) == {1} else None
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


def _may_be_all(constants: Constants, size: int) -> bool:
    """Whether the image may have so many channels."""
    return not constants.image or None in constants.image or size in constants.image
