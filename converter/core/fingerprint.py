"""A fingerprint of weights: the same whatever file, layout, container or element type they are in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from functools import partial

import numpy as np

from converter.core.checkpoint import Array, Tensor
from densenet.module import COUNTER

DIGITS = 16


@dataclass(frozen=True)
class Fingerprint:
    """What SHA-256 makes of all weights, in the library's names and orientation, at three precisions.

    A file in float16 agrees with one in float32 where the latter's values are rounded to float16; so each precision has
    16 hexadecimal digits of its own, of which files record the first (:class:`Watch`).  Counters of batches
    (``num_batches_tracked``) are no weights.
    """

    float32: str
    float16: str
    bfloat16: str

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Fingerprint:
        """The fingerprint of tensors by library name; reads all of them."""
        found: list[dict[str, bytes]] = [{}, {}, {}]
        for name, tensor in weights(tensors).items():
            values = _values(tensor.read())
            for digests, rounded in zip(found, (values, half(values), brain(values))):
                digests[name] = _digest(rounded)
        return cls(*map(_combined, found))

    @classmethod
    def parse(cls, text: str) -> Fingerprint | None:
        """What :meth:`__str__` wrote; None if it is no such text."""
        parts = text.split("-")
        good = len(parts) == len(fields(cls)) and all(
            len(p) == DIGITS and set(p) <= set("0123456789abcdef") for p in parts
        )
        return cls(*parts) if good else None

    def same(self, other: Fingerprint) -> str:
        """The finest precision in which the weights are the same, ``float32`` say; empty if in none."""
        return next((f.name for f in fields(self) if getattr(self, f.name) == getattr(other, f.name)), "")

    def __str__(self) -> str:
        return "-".join(astuple(self))


class Watch:
    """Tensors of which digests are taken when they are read: those that are written anyway need no second reading.

    Attributes:
        tensors: the same, by the same names.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._digests: dict[str, bytes] = {}
        self.tensors = {
            name: Tensor(tensor.shape, tensor.dtype, partial(self._read, name, tensor))
            for name, tensor in tensors.items()
        }

    def _read(self, name: str, tensor: Tensor) -> Array:
        values = tensor.read()
        if name not in self._digests:
            self._digests[name] = _digest(_values(values))
        return values

    def fingerprint(self) -> str:
        """The digits for float32, which are what files record; reads what was not read."""
        wanted = weights(self.tensors)
        for name, tensor in wanted.items():
            if name not in self._digests:
                tensor.read()
        return _combined({name: self._digests[name] for name in wanted})


def exact(tensors: Mapping[str, Tensor]) -> str:
    """The digits for float32 alone, a fifth of the work; reads all tensors, one at a time."""
    return Watch(tensors).fingerprint()


def weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without counters of batches."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}


def _values(array: Array) -> Array:
    with np.errstate(over="ignore"):  # float64's largest are infinite in float32
        return np.asarray(array, "<f4", order="C")


def _digest(values: Array) -> bytes:
    digest = hashlib.sha256(f"{values.shape}\n".encode())
    digest.update(values.data if values.size else b"")
    return digest.digest()


def _combined(digests: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(digests):
        whole.update(f"{name}\n".encode() + digests[name])
    return whole.hexdigest()[:DIGITS]


def half(values: Array) -> Array:
    """Float32 values rounded to float16; what is too large for it becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype("<f2")


def brain(values: Array) -> Array:
    """The bits of float32 values rounded to bfloat16, ties to even."""
    bits = values.view("<u4")
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)
