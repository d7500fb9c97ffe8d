"""Convolutions that are stored with their channels last, (out, height, width, in), under PyTorch's names: MLX'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from converter.core.checkpoint import Tensor
from converter.reading.wrappers import Group

QUANTISED = "{} is quantised (MLX keeps integers and {} of it), which is not read; save it before quantising"


def channels_first(group: Group) -> Group:
    """The group with all its convolutions (out, in, height, width).

    In each the axes in the middle are its window, and in not all the last ones are; a window is as high as wide.
    """
    scales = [key for key in group.tensors if key.endswith(".scales")]
    packed = next((k for s in scales if _is_packed(group.tensors.get(k := f"{s.removesuffix('.scales')}.weight"))), "")
    if packed:
        return replace(group, problem=QUANTISED.format(packed, "scales"))
    convs = {k: t for k, t in group.tensors.items() if k.endswith("weight") and len(t.shape) in (4, 5)}
    shapes = [tensor.shape for tensor in convs.values()]
    if not shapes or all(_is_window(shape[2:]) for shape in shapes):
        return group
    if not all(_is_window(shape[1:-1]) for shape in shapes):
        return group
    turned = {key: _turned(tensor) for key, tensor in convs.items()}
    return replace(group, tensors={**group.tensors, **turned})


def _is_window(shape: Sequence[int]) -> bool:
    return len(set(shape)) == 1


def _is_packed(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.dtype.kind == "u"


def _turned(tensor: Tensor) -> Tensor:
    from converter.structures.weights import lazily  # noqa: PLC0415 (for few)

    order = (0, len(tensor.shape) - 1, *range(1, len(tensor.shape) - 1))
    return lazily(tensor, lambda array: array.transpose(order))
