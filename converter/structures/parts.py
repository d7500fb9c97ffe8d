"""What a layout without usable names hands over: its weighted modules in order of execution.

A Lua module tree, an ONNX graph, numbered Keras variables: a reader in this folder
turns each into a ``Structure``; ``converter/reading/arrange.py`` lays it along the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.front import Front
from densenet.module import NORM_TENSORS


@dataclass(frozen=True)
class Part:
    """One module with weights, in the library's orientation.

    Attributes:
        kind: what it does.
        tensors: by the library's leaf name (``weight``, ``bias``, ``running_mean`` ...).
        keys: by the same leaf names, what the source calls them.
        eps: of a norm, where the source says it.
        made_for: the eps of a norm that is made of what only scales and shifts, whatever the network's is.
    """

    kind: Literal["conv", "norm", "linear"]
    tensors: Mapping[str, Tensor]
    keys: Mapping[str, str]
    eps: float | None = None
    made_for: float | None = None


@dataclass(frozen=True)
class Structure:
    """A whole network read off its structure.

    Attributes:
        layout: name of the source's conventions, for reports.
        parts: every weighted module, in order of execution.
        settings: config fields the source states (``stem_ceil``, ``padding`` ...).
        dropped: keys that are no part of the network, and why.
        notes: what people should know.
        front: what is done to images before the first part.
        activation: what comes behind the logits: ``softmax``, ``sigmoid``, something else, or nothing.
        named: whether keys are the names of the file's tensors, by which a layout may know them.
        head: which of several heads this is; empty where there are not several.
    """

    layout: str
    parts: Sequence[Part]
    settings: Mapping[str, Any] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    front: Front = field(default_factory=Front)
    activation: str = ""
    named: bool = False
    head: str = ""


StructureReader = Callable[[Checkpoint], Structure | None]
"""Reads a checkpoint's tree if it is of the reader's kind, else returns None."""


def part_of(
    tensors: Mapping[str, Tensor],
    keys: Mapping[str, str],
    eps: float | None = None,
    made_for: float | None = None,
) -> Part:
    """A module by the shape of its weight: one dimension for each feature map it has, two or more for a kernel.

    Raises:
        NotADenseNet: a norm that lacks one of its tensors.
    """
    dims = len(tensors["weight"].shape) if "weight" in tensors else 1
    if dims == 1:
        return replace(norm_part(tensors, keys, eps), made_for=made_for)
    return Part("linear" if dims == 2 else "conv", tensors, keys)


def norm_part(tensors: Mapping[str, Tensor], keys: Mapping[str, str], eps: float | None = None) -> Part:
    """A norm from its four tensors.

    Raises:
        NotADenseNet: one is missing.
    """
    missing = [leaf for leaf in NORM_TENSORS if leaf not in tensors]
    if missing:
        raise NotADenseNet(f"a norm without {', '.join(missing)} ({next(iter(keys.values()), '?')})")
    return Part("norm", tensors, keys, eps)
