"""What a Core ML model computes, whichever way it says it: operations by the names that MIL has for them.

MIL is documented operation for operation in coremltools (converters/mil/mil/ops/defs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from converter.core.checkpoint import Tensor

Constant = Tensor | bool | tuple[str, ...]
"""A constant: numbers, a truth value, or texts, be it one."""


@dataclass(frozen=True)
class Operation:
    """One operation: what it takes by the parameters' names, each the names of values or constants themselves."""

    kind: str
    name: str
    inputs: Mapping[str, Sequence[str | Constant]]
    outputs: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    """Of constants that have a name, by parameter."""


@dataclass(frozen=True)
class Program:
    """A model.

    Attributes:
        inputs: their names and shapes.
        operations: in order.
        outputs: names of results.
        notes: what people should know.
        order: ``rgb`` or ``bgr`` where the input is an image, of 0 to 255; else empty.
    """

    inputs: Mapping[str, tuple[int, ...]]
    operations: Sequence[Operation]
    outputs: Sequence[str]
    notes: tuple[str, ...] = ()
    order: str = ""
