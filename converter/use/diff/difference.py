"""What differs between two networks: the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from converter.core.metadata import TOOL

Status = Literal["identical", "rounded", "scaled", "moved", "permuted", "changed", "reshaped", "only in A", "only in B"]
Relation = Literal["identical", "rounded", "other head", "related", "unrelated"]
RELATED = 0.5
"""Cosine of two networks' convolutions from which on one comes of the other: of independent ones it is about 0."""


@dataclass(frozen=True)
class TensorDifference:
    """One tensor of A against that of the same library name in B.

    Attributes:
        name: in the library layout.
        status: ``identical``: every value; ``rounded``: every value at the precision ``detail`` names; ``scaled``: by
            the factor in ``detail``; ``moved``: it is the tensor of A that ``detail`` names; ``permuted``: the same
            values in another order; ``reshaped``: not of the same shape; ``changed``: anything else.
        detail: what the status says that, empty for most.
        distance: the Euclidean norm of the difference in units of A's own; 0 if identical, None if of other shapes.
    """

    name: str
    status: Status
    detail: str = ""
    distance: float | None = None

    @property
    def same(self) -> bool:
        """Whether it is the same but for rounding."""
        return self.status in ("identical", "rounded")


@dataclass(frozen=True)
class Difference:
    """Two networks, tensor by tensor.

    Attributes:
        a, b: what was compared.
        tensors: in the order of the network.
        settings: config fields that differ, both values.
        said: what is said of images and classes where both say something and it differs, both values.
        cosine: of all convolutions' weights of the same name and shape, taken as one vector; None where there are none.
        classes: of A and of B.
        fingerprints: of A and of B.
    """

    a: str
    b: str
    tensors: tuple[TensorDifference, ...]
    settings: Mapping[str, tuple[Any, Any]]
    said: Mapping[str, tuple[Any, Any]]
    cosine: float | None
    classes: tuple[int, int]
    fingerprints: tuple[str, str]

    @property
    def relation(self) -> Relation:
        """What they are to each other."""
        other = [tensor for tensor in self.tensors if not tensor.same]
        if not other:
            return "identical" if all(tensor.status == "identical" for tensor in self.tensors) else "rounded"
        if all(is_head(tensor.name) for tensor in other):
            return "other head"
        return "related" if self.cosine is not None and self.cosine >= RELATED else "unrelated"

    @property
    def same(self) -> bool:
        """Whether they are the same network, but for rounding."""
        return self.relation in ("identical", "rounded") and not self.settings

    def line(self) -> str:
        """The answer in a line."""
        other = [tensor for tensor in self.tensors if not tensor.same]
        counts = f"{len(other)} of {len(self.tensors)} tensors differ"
        if self.relation == "identical":
            text = "the same weights, bit for bit"
        elif self.relation == "rounded":
            to = sorted({tensor.detail for tensor in self.tensors if tensor.detail})
            text = f"the same weights, rounded to {' and '.join(to)}"
        elif self.relation == "other head":
            classes = " and ".join(map(str, dict.fromkeys(self.classes)))
            text = f"the same trunk with another head ({classes} classes): {counts}"
        elif self.relation == "related":
            text = f"one comes of the other: {counts}, cosine of the convolutions {self.cosine:.4f}"
        else:
            cosine = f", cosine of the convolutions {self.cosine:.4f}" if self.cosine is not None else ""
            text = f"not the same weights: {counts}{cosine}"
        return text + (f"; {len(self.settings)} settings differ" if self.settings else "")

    def __repr__(self) -> str:
        return f"Difference({self.a!r}, {self.b!r}: {self.line()})"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; an infinite distance is null."""
        values = asdict(self)
        for tensor in values["tensors"]:
            if tensor["distance"] == float("inf"):
                tensor["distance"] = None
        return {**values, "relation": self.relation, "same": self.same, "line": self.line(), "tool": TOOL}


def is_head(name: str) -> bool:
    """Whether a tensor stands behind the pooled features."""
    return name.startswith(("classifier.", "head.", "heads."))


def place_of(name: str) -> str:
    """Where in the network a tensor is: ``stem``, ``blocks.0``, ``transitions.1``, ``norm``, ``classifier``."""
    first, second = [*name.split("."), ""][:2]
    return f"{first}.{second}" if first in ("blocks", "transitions", "heads") else first
