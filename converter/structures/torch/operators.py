"""The operators that are met while one of PyTorch's graphs is read, in order of execution.

Functions of ATen are translated by ``aten.py``; here it is kept who changes what in place, since two names may
be of one storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from converter.core import bounds
from converter.core.errors import NotADenseNet
from converter.structures.ops import Op, Weight
from converter.structures.torch import constants
from converter.structures.torch.aten import FRESH, READERS, SIGNATURES, TRAINING, Found
from converter.structures.torch.values import UNKNOWN, Data, Size, Unknown, flattened
from densenet.module import COUNTER

ABOUT_SHAPES = frozenset(("size", "sym_size", "dim", "numel", "is_floating_point"))
"""Functions whose result is no feature map."""
SEVERAL = ("concat", "add")
"""Kinds of operators that take several values."""
LIKE = ("to", "type_as")
"""Functions that take another value for its type alone."""


@dataclass
class Operators:
    """The operators met so far.

    Attributes:
        ops: in order of execution.
        replaced: values that were changed in place, and what is in their place.
    """

    ops: list[Op] = field(default_factory=list)
    replaced: dict[str, Data] = field(default_factory=dict)
    _sharing: dict[int, set[str]] = field(default_factory=dict)
    _storages: int = 0

    def image(self, name: str, rank: int | None) -> Data:
        """The value the network starts from."""
        return self._data(name, rank, self._fresh())

    def current(self, value: Data) -> Data:
        """A value as it is now."""
        while value.name in self.replaced:
            value = self.replaced[value.name]
        return value

    def call(
        self,
        function: str,
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
        *,
        name: str = "",
        y: str = "",
        signature: str | None = None,
    ) -> Any:
        """What a function of ATen makes of values.

        Args:
            function: without its namespace and overload; with the underscore of those that work in place.
            arguments: by position.
            keywords: by name.
            name: how errors call it; its own name and number if it is empty.
            y: what its result is called.
            signature: names of its parameters, where they are not ATen's.

        Raises:
            NotADenseNet: it works in training mode, or changes what cannot be followed.
        """
        inplace = function.endswith("_") and not function.startswith("__")
        base = function.rstrip("_") if inplace else function
        parameters = (SIGNATURES.get(base, "self") if signature is None else signature).split()
        given: dict[str, Any] = dict(zip(parameters, arguments)) | dict(keywords)
        extra = [*arguments[len(parameters) :]]
        arrived = {key: self._now(value) for key, value in given.items()}
        taken = tuple(value for value in flattened([*arrived.values(), self._now(extra)]) if isinstance(value, Data))
        name = name or f"torch.{base} (operator {len(self.ops) + 1})"
        if not taken:
            if inplace and arrived and base not in constants.SAME:
                raise _changed(next(iter(arrived.values())), name)
            return constants.computed(base, arrived, extra, name)
        if arrived.get("out") is not None or (inplace and not isinstance(next(iter(arrived.values())), Data)):
            raise NotADenseNet(f"{name} writes into another value, which is not followed")
        if base in ABOUT_SHAPES:
            return _about(base, taken[0], arrived.get("dim"))
        read = READERS.get(base)
        found = read(base, arrived, taken[0].rank, name) if read is not None and not extra else None
        if base in LIKE:
            taken = taken[:1]
        if found is not None and len(taken) > 1 and found.kind not in SEVERAL and "compute" not in found.more:
            found = None
        return self._made(found, taken, name, y or f"{base}:{len(self.ops)}", base, inplace=inplace)

    def other(self, taken: Sequence[Data], name: str, y: str = "", *, inplace: bool = True) -> Data:
        """Something that is not understood, and that may change what it takes."""
        now = tuple(self.current(value) for value in taken)
        result = self._made(None, now, name, y or f"{name}:{len(self.ops)}", name)
        for value in now if inplace else ():
            self._change(value, result, name)
        return result

    # -- names and storages --------------------------------------------------------

    def _made(
        self, found: Found | None, taken: tuple[Data, ...], name: str, y: str, function: str, *, inplace: bool = False
    ) -> Data:
        if len(self.ops) >= bounds.OPERATORS:
            raise NotADenseNet(f"more than {bounds.OPERATORS} operators; no DenseNet has so many")
        fresh = found is not None and function in FRESH
        storages = self._fresh() if fresh and not inplace else frozenset[int]().union(*(x.storages for x in taken))
        kind, more, rank = ("other", dict[str, Any](), None) if found is None else (found.kind, found.more, found.rank)
        self.ops.append(Op(kind, tuple(value.name for value in taken), y, name, **more))
        result = self._data(y, rank, taken[0].storages if inplace else storages)
        if inplace:
            self._change(taken[0], result, name)
        return result

    def _change(self, value: Data, result: Data, name: str) -> None:
        """A value has become another; whatever shares its memory is not known any more."""
        others = set[str]().union(*(self._sharing.get(storage, set()) for storage in value.storages))
        for other in others - {value.name, result.name}:
            if other not in self.replaced:
                y = f"{other} behind {result.name}"
                self.ops.append(Op("other", (result.name,), y, f"{name}, in place and seen by another name,"))
                self.replaced[other] = replace(result, name=y, rank=None)
        if value.name != result.name:
            self.replaced[value.name] = result

    def _data(self, name: str, rank: int | None, storages: frozenset[int]) -> Data:
        for storage in storages:
            self._sharing.setdefault(storage, set()).add(name)
        return Data(name, rank, storages)

    def _fresh(self) -> frozenset[int]:
        self._storages += 1
        return frozenset((self._storages,))

    def _now(self, value: Any) -> Any:
        if isinstance(value, Data):
            return self.current(value)
        if isinstance(value, (list, tuple)):
            return [self._now(item) for item in value]
        return value


def _about(function: str, value: Data, axis: Any) -> Any:
    """What is asked of a value's shape."""
    if function in ("size", "sym_size"):
        whole = axis is None
        if not whole and not isinstance(axis, int):
            return UNKNOWN
        at = axis if whole or axis >= 0 else axis + value.rank if value.rank is not None else None
        return UNKNOWN if at is None and not whole else Size(value.name, value.rank, at)
    if function == "dim" and value.rank is not None:
        return value.rank
    return True if function == "is_floating_point" else UNKNOWN


def _changed(value: Any, name: str) -> NotADenseNet:
    """The error for what is changed in place though it does not depend on the image, as far as is known."""
    if isinstance(value, Unknown) and value.why:
        return NotADenseNet(value.why)
    counts = isinstance(value, Weight) and value.key.endswith(COUNTER)
    return NotADenseNet(
        f"{name} {f'counts batches, {TRAINING}' if counts else 'changes a constant in place, which is not followed'}"
    )
