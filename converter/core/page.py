"""What reports are made of: tables, and pages that need nothing else, filled into templates."""

from dataclasses import dataclass
from typing import Any

from converter.core.text import clean


@dataclass(frozen=True)
class Table:
    """A table of a report; columns named in ``right`` are numbers, narrow screens go without those in ``optional``."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    right: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def render(room: str, template: str, **values: Any) -> str:
    """A template of a room (``converter.parity``), which may use the macros of ``page.j2`` beside this module."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (only for reports)

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(room, "templates"), PackageLoader("converter.core", "templates")]),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    page: str = environment.get_template(template).render(values)
    return clean(page)


def cell(text: str) -> str:
    """Text of others in Markdown, in one line: what fits into a cell of a table, and stays text."""
    escaped = "".join(f"\\{c}" if c in "\\|`*_<[" else c for c in text)
    return " ".join(escaped.split())
