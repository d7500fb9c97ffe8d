"""Functions of TorchScript on plain values: numbers, texts, lists, and what is asked of tensors' types."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from converter.core import bounds
from converter.core.errors import NotADenseNet
from converter.structures.ops import Weight
from converter.structures.torch.values import UNKNOWN, Data, Size, Unknown

NOTHING = object()
"""No function of this kind."""

COMPUTED: Mapping[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "neg")},
    "div": operator.truediv,
    "floordiv": operator.floordiv,
    "remainder": operator.mod,
    "__not__": operator.not_,
    "__and__": lambda x, y: x and y,
    "__or__": lambda x, y: x or y,
    "__contains__": lambda of, x: x in of,
    "__getitem__": lambda of, i: of[i],
    "Int": int,
    "Float": float,
    "Bool": bool,
    "int": int,
    "float": float,
    "bool": bool,
    "min": min,
    "max": max,
    "range": lambda *n: list(range(*n)),
    "keys": list,
    "values": lambda of: list(of.values()),
}
"""By name; each is tried on plain values only."""
SAME = frozenset("NumToTensor ScalarImplicit IntImplicit FloatImplicit Int Float Bool int float bool".split())
"""Conversions between a number and a tensor of one number."""
UNASKED = frozenset("format warn uninitialized Uninitialized str print nothing is_grad_enabled device layout".split())
"""What no operator of a DenseNet depends on."""
LISTS = frozenset("append extend _set_item list copy insert pop clear remove reverse sort Delete".split())


def plain(function: str, arguments: Sequence[Any]) -> Any:
    """What a function makes of values that are no tensors; ``NOTHING`` if it is none of these.

    Raises:
        NotADenseNet: it changes a list that is not known, or in a way that is not followed.
    """
    first = arguments[0] if arguments else None
    if function in LISTS and arguments and (isinstance(first, list | dict) or function in ("append", "extend")):
        return _list(function, first, arguments[1:])
    if function in ("__is__", "__isnot__") and len(arguments) == 2:
        if any(isinstance(value, Unknown) for value in arguments):
            return UNKNOWN
        return (first is arguments[1]) == (function == "__is__")
    if function == "len" and not isinstance(first, Data | Weight):
        rank = first.rank if isinstance(first, Size) and first.axis is None else None
        return len(first) if isinstance(first, (list, tuple, dict, str)) else UNKNOWN if rank is None else rank
    if function == "dtype":
        return 4 if isinstance(first, Weight) and first.tensor.dtype.kind not in "fV" else 6
    if function == "requires_grad":
        return False
    if function == "data" and isinstance(first, Data | Weight):
        return first
    if function in UNASKED:
        return UNKNOWN
    return _computed(function, arguments)


def _computed(function: str, arguments: Sequence[Any]) -> Any:
    """A function of plain values; of sizes as they are."""
    if function in SAME and len(arguments) == 1 and isinstance(arguments[0], Size | Unknown):
        return arguments[0]
    compute = COMPUTED.get(function)
    if compute is None or any(isinstance(value, Data | Weight) for value in arguments):
        return NOTHING
    if not all(_is_plain(value) for value in arguments) or not arguments:
        return next((value for value in arguments if isinstance(value, Unknown) and value.why), UNKNOWN)
    try:
        if function == "range" and len(range(*arguments)) > bounds.SCRIPT_LIST:
            return UNKNOWN
        result = compute(*arguments)
    except (TypeError, ValueError, ArithmeticError, IndexError, KeyError, AttributeError):
        return UNKNOWN
    long = isinstance(result, (list, str)) and len(result) > bounds.SCRIPT_LIST
    return UNKNOWN if long or (isinstance(result, int) and result.bit_length() > 64) else result


def _is_plain(value: Any) -> bool:
    return isinstance(value, (int, float, str, type(None), list, tuple, dict))


def _list(function: str, of: Any, arguments: Sequence[Any]) -> Any:
    """What is done to a list, in place."""
    if function == "append" and isinstance(of, list) and len(arguments) == 1:
        of.append(arguments[0])
    elif function == "extend" and isinstance(of, list) and isinstance(arguments[0], list):
        of.extend(arguments[0])
    elif function in ("list", "copy") and not arguments:
        return of.copy()
    elif function == "_set_item" and isinstance(of, list) and isinstance(arguments[0], int):
        if not -len(of) <= arguments[0] < len(of):
            raise NotADenseNet("its code assigns to an item that a list does not have")
        of[arguments[0]] = arguments[1]
    elif function == "_set_item" and isinstance(of, dict) and isinstance(arguments[0], (str, int)):
        of[arguments[0]] = arguments[1]
    else:
        raise NotADenseNet(f"its code changes a list by {function}, which is not followed")
    if isinstance(of, list) and len(of) > bounds.SCRIPT_LIST:
        raise NotADenseNet(f"its code makes a list of {len(of)} values")
    return of
