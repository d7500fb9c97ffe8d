"""Reference pages made from docstrings: ``python -m tools.reference`` writes them, and a test says if they are old.

docs/reference/api.md: every name of ``converter``, as its docstring has it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import converter

PAGES = Path(__file__).parents[1] / "docs" / "reference"
VERBS = (
    "load inspect convert export_onnx export_runtime verify verify_against diff predict evaluate merge package push "
    "get_model inference_model list_models"
).split()
"""The functions, in the order in which people need them."""
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Example):$")
ROLE = re.compile(r":\w+:`~?(?:converter\.)?([\w.]+)`")
CODE = re.compile(r"``(.+?)``", re.DOTALL)


def pages() -> dict[str, str]:
    """Every page by its name in ``docs/reference``."""
    return {"api.md": api()}


def api() -> str:
    """The Python API as Markdown."""
    records = [name for name in converter.__all__ if name not in VERBS and isinstance(getattr(converter, name), type)]
    parts = [
        "# Python API\n",
        "Made from the docstrings by `python -m tools.reference`.  Examples run in the tests, in a folder with the digits "
        "that ship with the package: `digits.pth`, and their `images` in a folder for each class.\n",
        "```python\nfrom converter import " + ", ".join(VERBS[:6]) + ", ...\n```\n",
        "`converter.__version__` is the version.  `python -m converter` is the command line, `densenet`.\n",
        "## Functions\n",
        *(_entry(name) for name in VERBS),
        "## Records\n",
        *(_entry(name) for name in records),
    ]
    return "\n".join(parts)


def _entry(name: str) -> str:
    thing = getattr(converter, name)
    lines = [f"### {name}\n"]
    if not isinstance(thing, type) or (dataclasses.is_dataclass(thing) and _is_made_by_users(thing)):
        lines.append(f"```python\n{_signature(name, thing)}\n```\n")
    lines.append(_markdown(thing.__doc__))
    for member, function in _methods(thing) if isinstance(thing, type) else ():
        lines.append(f"#### {name}.{member}\n")
        if callable(function):
            lines.append(f"```python\n{_signature(member, function)}\n```\n")
        lines.append(_markdown(function.__doc__))
    return "\n".join(lines)


def _is_made_by_users(cls: type) -> bool:
    """Whether a record is one that functions take, and not what they give."""
    return ">>>" in (cls.__doc__ or "") and cls.__name__ != "Model"


def _methods(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties with a docstring of their own."""
    for name, value in vars(cls).items():
        plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        documented = inspect.isfunction(plain) or isinstance(plain, property)
        if documented and not name.startswith("_") and plain.__doc__:
            yield name, plain


def _signature(name: str, thing: Any) -> str:
    signature = inspect.signature(thing)
    parameters: list[str] = []
    keyword = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword:
            parameters.append("*")
            keyword = True
        default = parameter.default
        shown = parameter.name
        if parameter.kind is parameter.VAR_KEYWORD:
            shown = f"**{shown}"
        elif parameter.kind is parameter.VAR_POSITIONAL:
            shown, keyword = f"*{shown}", True
        if default is not parameter.empty:
            plain = isinstance(default, str | int | float | bool | tuple | None)
            shown += f"={default!r}" if plain else "=..."
        parameters.append(shown)
    text = f"{name}({', '.join(parameters)})"
    if len(text) > 100:
        text = f"{name}(\n    " + ",\n    ".join(parameters) + ",\n)"
    return text


def _markdown(docstring: str | None) -> str:
    """A docstring of Google's style as Markdown."""
    result: list[str] = []
    section, block = "", list[str]()

    def close() -> None:
        if section and block:
            result.append(_section(section, textwrap.dedent("\n".join(block)).strip("\n")))

    for line in inspect.cleandoc(docstring or "").splitlines():
        if found := SECTION.match(line):
            close()
            section, block = found[1], []
        elif section and (line.startswith(" ") or not line.strip()):
            block.append(line)
        else:
            close()
            section, block = "", []
            result.append(_inline(line))
    close()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(result)).strip("\n") + "\n"


def _section(name: str, text: str) -> str:
    if name == "Example":
        return f"```pycon\n{text}\n```"
    if name == "Returns":
        return f"**Returns** {_inline(text)}"
    items = re.split(r"\n(?=\S)", text)
    lines = []
    for item in items:
        what, _, about = " ".join(item.split()).partition(": ")
        lines.append(f"- `{what}`: {_inline(about)}" if about else f"- {_inline(what)}")
    return f"**{name}**\n\n" + "\n".join(lines) + "\n"


def _inline(text: str) -> str:
    return CODE.sub(r"`\1`", ROLE.sub(r"`\1`", text))


def main() -> None:
    """Write every page."""
    PAGES.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text, "utf-8")
        print(PAGES / name)


if __name__ == "__main__":
    main()
