"""A fingerprint of weights: the same whatever file, layout, container or element type they are in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields

import numpy as np

from converter.core.checkpoint import Array, Tensor
from densenet.module import COUNTER

DIGITS = 16


@dataclass(frozen=True)
class Fingerprint:
    """What SHA-256 makes of all weights, in the library's names and orientation, at three precisions.

    A file in float16 agrees with one in float32 where the latter's values are rounded to float16; so each precision has
    16 hexadecimal digits of its own.  Counters of batches (``num_batches_tracked``) are no weights.
    """

    float32: str
    float16: str
    bfloat16: str

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Fingerprint:
        """The fingerprint of tensors by library name; reads all of them."""
        hashes = [hashlib.sha256() for _ in fields(cls)]
        for name in sorted(tensors):
            if name.endswith(COUNTER):
                continue
            values = np.ascontiguousarray(tensors[name].read(), "<f4")
            for digest, data in zip(hashes, (values, half(values), brain(values))):
                digest.update(f"{name} {values.shape}\n".encode())
                digest.update(data.data if data.size else b"")
        return cls(*(digest.hexdigest()[:DIGITS] for digest in hashes))

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


def half(values: Array) -> Array:
    """Float32 values rounded to float16; what is too large for it becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype("<f2")


def brain(values: Array) -> Array:
    """The bits of float32 values rounded to bfloat16, ties to even."""
    bits = values.view("<u4")
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)
