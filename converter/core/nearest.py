"""Which name was meant, of those there are: what an error about an unknown one ends with."""

from __future__ import annotations

from collections.abc import Iterable

CLOSE = 0.6
"""How much of two names must agree (difflib's ratio)."""


def meant(name: str, known: Iterable[str], close: float = CLOSE) -> str:
    """``; is NAME meant?`` of the known name that is nearest, whatever its case; empty where none is near."""
    from difflib import get_close_matches  # noqa: PLC0415 (for errors only)

    plain = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), plain, 1, close)
    return f"; is {plain[near[0]]} meant?" if near else ""
