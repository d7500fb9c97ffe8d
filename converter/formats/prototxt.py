"""Protocol Buffers as text, the way Caffe's users write their networks (``*.prototxt``).

protobuf.dev/reference/protobuf/textformat-spec, as far as networks need it: fields,
messages in braces, numbers, words, quoted text and lists of them.
"""

from __future__ import annotations

import re
from pathlib import Path

from converter.core import bounds
from converter.core.errors import UnreadableFile
from converter.formats.damage import naming

TOKEN = re.compile(r"""\s+|\#[^\n]*|(?P<text>"[^"\n]*"|'[^'\n]*')|(?P<word>[\w.+-]+)|(?P<mark>[{}<>:;,\[\]])""")

Message = dict[str, list["str | Message"]]
"""Field name -> its values in order; numbers and enums stay text."""


def read_prototxt(path: Path) -> Message:
    """Parse a file.

    Raises:
        UnreadableFile: too large, or no protobuf text.
        OSError: it cannot be read.
    """
    if path.stat().st_size > bounds.PROTOTXT:
        raise UnreadableFile(f"{path}: too large for a network's description")
    with naming(path, UnicodeDecodeError):
        return parse(path.read_text("utf-8"))


def parse(text: str) -> Message:
    """Parse a message.

    Raises:
        UnreadableFile: malformed, or nested deeper than any network is.
    """
    stack: list[Message] = [{}]
    name = ""
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise UnreadableFile(f"not protobuf text at character {at}")
        at = found.end()
        mark, value = found["mark"], found["word"] or (found["text"] or "")[1:-1]
        if found.lastgroup is None or mark in (":", ";", ",", "[", "]"):
            continue
        if mark in ("{", "<"):
            if not name or len(stack) > bounds.PROTOTXT_NESTED:
                raise UnreadableFile(f"malformed protobuf text at character {at}")
            message: Message = {}
            stack[-1].setdefault(name, []).append(message)
            stack.append(message)
            name = ""
        elif mark:
            if len(stack) == 1:
                raise UnreadableFile(f"malformed protobuf text at character {at}: too many closing braces")
            stack.pop()
            name = ""
        elif found["word"] and _ends_name(text, at):
            name = value
        elif name:
            stack[-1].setdefault(name, []).append(value)
        else:
            raise UnreadableFile(f"malformed protobuf text at character {at}: a value without a name")
    if len(stack) > 1:
        raise UnreadableFile("truncated protobuf text, a message is not closed")
    return stack[0]


def _ends_name(text: str, at: int) -> bool:
    """Whether what ends here is a field's name: a colon or an opening brace follows."""
    while at < len(text) and text[at].isspace():
        at += 1
    return text[at : at + 1] in (":", "{", "<")
