"""Text of others on its way out: names in files are anything, and terminals, browsers and parsers obey some of it."""

import json
import re
from contextlib import suppress
from typing import Any

SUSPECT = re.compile(r"[^\n -~]")
"""What may be no printable character."""


def clean(text: str) -> str:
    r"""Text without control characters and lone surrogates, which become escapes like ``\x1b``; lines stay lines."""
    return SUSPECT.sub(
        lambda found: found[0] if found[0].isprintable() else found[0].encode("unicode-escape").decode(), text
    )


def well_formed(text: str) -> str:
    """A text that can be written: lone surrogates (a JSON escape, a file name's odd bytes) become question marks.

    Where the locale is ASCII, all letters of a name beyond it are such bytes: they are what they are elsewhere.
    """
    with suppress(UnicodeError):
        return text.encode("utf-8", "surrogateescape").decode()
    return text.encode("utf-8", "replace").decode()


def indented_json(value: Any, encoding: str = "utf-8") -> str:
    """JSON for people, indented, one final newline; the same text for the same value.

    Control characters and what the encoding lacks are escaped as JSON does it.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = well_formed(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))

    def written(found: re.Match[str]) -> str:
        plain = found[0].isprintable() and found[0].encode(encoding, "ignore")
        return found[0] if plain else json.dumps(found[0])[1:-1]

    return SUSPECT.sub(written, text) + "\n"
