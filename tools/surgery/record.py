"""What a kind of surgery is: data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

TORCH = ("torchvision", "timm", "monai")


@dataclass(frozen=True)
class Surgery:
    """A kind of surgery.

    Attributes:
        name: ``AREA-WHAT``.
        operate: changes a patient (``patient.Patient``, or ``keras_patient.KerasPatient``).
        note: what a note says that names the cause, where the logits are others: a regular expression.
        frameworks: whose networks it is made on.
        late: whether it comes after the weights are in place.
        mend: the settings that a state dict needs to be read right.
    """

    name: str
    operate: Callable[[Any], None]
    note: str
    frameworks: tuple[str, ...] = TORCH
    late: bool = False
    mend: Mapping[str, Any] = field(default_factory=dict)

    @property
    def area(self) -> str:
        """Where it cuts."""
        return self.name.partition("-")[0]
