"""TensorFlow Lite's models as the format describes them (``converter/formats/tflite.py``)."""

from __future__ import annotations

from typing import Any, Protocol

from converter.core.checkpoint import Tensor


class Options(Protocol):
    """A table of attributes; its fields by their numbers in the schema."""

    def number(self, field: int, form: str = "<i", default: float = 0) -> Any:
        """A number of the type that ``struct`` calls ``form``."""

    def numbers(self, field: int, kind: str = "<i4") -> list[Any]:
        """The numbers of a vector, of the type that numpy calls ``kind``."""


class Value(Protocol):
    """What operators take and make: a constant, or a feature map."""

    @property
    def name(self) -> str:
        """Unique."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Unknown sizes as None."""

    @property
    def constant(self) -> Tensor | None:
        """Its values, where it is one."""

    @property
    def kind(self) -> int:
        """TensorType."""

    @property
    def quantised(self) -> bool:
        """Whether it stands for other numbers, by a scale."""

    @property
    def sparse(self) -> bool:
        """Whether its zeros are left out."""


class Operator(Protocol):
    """One operator; values by their numbers, -1 where it takes nothing."""

    @property
    def code(self) -> int:
        """BuiltinOperator."""

    @property
    def custom(self) -> str:
        """Its name, where it is none of those."""

    @property
    def inputs(self) -> list[int]:
        """What it takes."""

    @property
    def outputs(self) -> list[int]:
        """What it makes."""

    @property
    def options(self) -> Options | None:
        """Its attributes."""


class Description(Protocol):
    """The first graph of a model."""

    @property
    def values(self) -> list[Value]:
        """By their numbers."""

    @property
    def operators(self) -> list[Operator]:
        """In order."""

    @property
    def inputs(self) -> list[int]:
        """The images."""

    @property
    def outputs(self) -> list[int]:
        """The results."""
