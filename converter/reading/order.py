"""In which order tensors may have been made, where a container sorts them by name, or keeps no names at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from converter.core import bounds
from converter.core.checkpoint import Tensor
from densenet.module import COUNTER, NORM_TENSORS

NUMBERED = re.compile(r"(arr_)?\d+")
"""Names of arrays that have none: places in a list, and numpy.savez's."""

FIRST = re.compile(r"^(stem|init|first|entry|input|conv0|conv_?in)")
LAST = re.compile(r"^(classifier|fc|head|output|linear|logits|last_linear|post|final|norm_final|bn_final)")
"""How what comes first and last is called."""

LISTED = re.compile(r"(?<=[A-Za-z_])\.(\d+)(?=\.)")
"""The number of a list's member, which can be read as the list's own: ``blocks.0``, ``transitions.0``."""

TRANSITION = re.compile(r"^(trans|down|reduc)")
NORM, CONV = re.compile(r"(^|_)(norm|bn|batch_?norm)"), re.compile(r"(^|_)conv")


Order = Callable[[Sequence[str]], list[str]]


def orders(keys: Sequence[str]) -> Iterator[list[str]]:
    """Orders in which keys may follow each other: the file's, by number, and sorted ones with the norms put back.

    In a layer and a transition a norm precedes its convolution, in a stem it follows.  A transition inside a numbered
    stage may come before its layers, or behind them.  Blocks and transitions in a list each alternate, too.
    """
    yield list(keys)
    yield sorted(keys, key=lambda key: [_natural(part) for part in re.split(r"(\d+)", key)])
    plain = {key: key for key in keys}
    numbered = {key: LISTED.sub(r"\1", key) for key in keys}
    for names in (plain, numbered) if numbered != plain else (plain,):
        for transition, norm_first, stem_differs in product((1, 0, 2), (True, False), (True, False)):
            yield sorted(keys, key=lambda key: _place(names[key], norm_first, stem_differs, transition))


def _natural(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdecimal() and len(part) <= bounds.NUMBER else (-1, part)


def _place(key: str, norm_first: bool, stem_differs: bool, transition: int) -> list[tuple[int, int, int, str]]:
    """Component for component: first and last by name, then by number, then norms and convolutions."""
    *modules, _ = key.split(".")
    result: list[tuple[int, int, int, str]] = []
    in_stem = in_stage = False
    for part in modules:
        word = _word(part)
        in_stem = in_stem or word.about == 0
        about = transition if in_stage and word.transition else word.about
        in_stage = in_stage or word.number is not None
        before = norm_first != (in_stem and stem_differs)
        kind = 1 - before if word.norm else before if word.conv else 1
        # norm1, conv1, norm2, conv2: the number decides, then the kind
        result.append((about, word.number or 0, int(kind), "" if word.norm or word.conv else word.name))
    return result


class _Word(NamedTuple):
    """A component of a name: whether it comes first (0) or last (2), its number, what it is, its name without that."""

    about: int
    number: int | None
    transition: bool
    norm: bool
    conv: bool
    name: str


@lru_cache(1 << 14)
def _word(part: str) -> _Word:
    name = part.rstrip("0123456789")
    digits = part[len(name) :]
    return _Word(
        0 if FIRST.match(part) else 2 if LAST.match(part) else 1,
        int(digits) if 0 < len(digits) <= bounds.NUMBER else None,
        bool(TRANSITION.match(part)),
        bool(NORM.search(part)),
        bool(CONV.search(part)),
        name,
    )


def is_list(keys: Sequence[str]) -> bool:
    """Whether names are mere places."""
    return all(NUMBERED.fullmatch(key) for key in keys)


def named(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Names, as PyTorch would give them, for the arrays of a list, by their own: told by their order and dimensions.

    A vector after a matrix is its bias; four vectors are a norm's, with a number behind them its counter.
    """
    keys = sorted(tensors, key=lambda key: int(key.removeprefix("arr_")))
    result: dict[str, str] = {}
    at = module = 0
    while at < len(keys):
        dims = [len(tensors[key].shape) for key in keys[at : at + 5]]
        if dims[0] > 1:
            leaves = ["weight", "bias"] if dims[0] == 2 and dims[1:2] == [1] else ["weight"]
        elif dims[:4] == [1] * 4:
            leaves = [*NORM_TENSORS, *([COUNTER] if dims[4:] == [0] else [])]
        else:
            return {}
        for leaf, key in zip(leaves, keys[at:]):
            result[key] = f"{module}.{leaf}"
        at += len(leaves)
        module += 1
    return result
