"""Tables for notebooks."""

from collections.abc import Iterable, Sequence

from converter.core.text import clean


def html_table(
    title: str, rows: Iterable[Sequence[str]], columns: Sequence[str] = (), notes: Iterable[str] = ()
) -> str:
    """A table as HTML; rows whose last cell is empty are left out, and notes follow it."""
    head = f"<tr>{''.join(f'<th>{_cell(name)}</th>' for name in columns)}</tr>" if columns else ""
    body = "".join(f"<tr>{''.join(map(_row_cell, row))}</tr>" for row in rows if row[-1] != "")
    said = "".join(f"<li>{_cell(note)}</li>" for note in notes)
    return f"<table><caption>{_cell(title)}</caption>{head}{body}</table>" + (f"<ul>{said}</ul>" if said else "")


def _row_cell(text: str) -> str:
    return f'<td style="text-align:left">{_cell(text)}</td>'


def _cell(text: str) -> str:
    from html import escape  # noqa: PLC0415 (what every command imports has no notebook yet)

    return escape(clean(text))
