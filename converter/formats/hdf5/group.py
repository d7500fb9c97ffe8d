"""What a file becomes."""

from __future__ import annotations

from typing import Any

MAGIC = b"\x89HDF\r\n\x1a\n"
"""How a file begins (II)."""


class H5Group(dict[str, Any]):
    """A group's members by name: groups, Tensors, or None for what is no array of numbers."""

    __slots__ = ("attributes",)

    def __init__(self, members: Any = (), attributes: dict[str, Any] | None = None) -> None:
        super().__init__(members)
        self.attributes: dict[str, Any] = attributes or {}
