"""Text of others on its way out: names in files are anything, and terminals, browsers and parsers obey some of it."""

import json
import re
from contextlib import suppress
from typing import Any

SUSPECT = re.compile(r"[^\n -~]")
"""What may be no printable character."""
FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
"""How a cell begins that a spreadsheet computes (OWASP, CSV Injection), or one that an apostrophe marks as text."""

LONG_WORD, LONG_LINE = 200, 2000
"""Letters of a name, and of a message, that are shown whole."""


def shortened(text: str) -> str:
    """A message with what a file calls things, however long that is: names and all are cut in the middle."""
    words = re.sub(rf"\S{{{LONG_WORD + 1},}}", lambda found: _cut(found[0], LONG_WORD), text)
    return _cut(words, LONG_LINE) if len(words) > LONG_LINE else words


def _cut(text: str, most: int) -> str:
    half = (most - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def clean(text: str) -> str:
    r"""Text without control characters and lone surrogates, which become escapes like ``\x1b``; lines stay lines."""
    return SUSPECT.sub(
        lambda found: found[0] if found[0].isprintable() else found[0].encode("unicode-escape").decode(), text
    )


def one_line(text: str) -> str:
    """The same as one line, as which a name with a line break in it passes for no message of ours."""
    return clean(text).replace("\n", "\\n")


def well_formed(text: str) -> str:
    """A text that can be written: lone surrogates (a JSON escape, a file name's odd bytes) become question marks.

    Where the locale is ASCII, all letters of a name beyond it are such bytes: they are what they are elsewhere.
    """
    with suppress(UnicodeError):
        return text.encode("utf-8", "surrogateescape").decode()
    return text.encode("utf-8", "replace").decode()


def cell(text: str) -> str:
    """A text as a cell of CSV, which no spreadsheet takes for a formula: an apostrophe before says that it is text.

    A text that looks marked already gets another, so :func:`from_cell` gives every text back.
    """
    return f"'{text}" if FORMULA.match(text) else text


def from_cell(text: str) -> str:
    """The text that :func:`cell` made this of."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def path_cell(path: str) -> str:
    """A path as a cell of CSV: where a spreadsheet would compute it, another name of the same file."""
    return f"./{path}" if FORMULA.match(path) and not path.startswith("'") else path


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
