"""What people see in the terminal: tables on stdout, progress on stderr."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from converter.core.text import clean, indented_json, one_line

if TYPE_CHECKING:
    from converter.core.plan import Plan


class Chatter(Enum):
    """How much is said on standard error beside a result."""

    QUIET, USUAL, VERBOSE = range(3)


_CHATTER = [Chatter.USUAL]
_PRINTED = [False]


def set_chatter(much: Chatter) -> None:
    """Choose how much is said from now on, and that nothing was printed yet."""
    _CHATTER[0], _PRINTED[0] = much, False


def chatter() -> Chatter:
    """How much is said."""
    return _CHATTER[0]


def has_printed_json() -> bool:
    """Whether standard output has its one JSON document."""
    return _PRINTED[0]


def say(text: str) -> None:
    """A line on stdout, or several, which may name files and what is in them."""
    print(clean(text))


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    _PRINTED[0] = True
    sys.stdout.write(indented_json(value, sys.stdout.encoding or "utf-8"))


NARROW = 110
"""Columns of a terminal below which a table goes without what is not needed; a pipe is as wide as need be."""
WIDE = 200


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """A table on stdout; the columns named in ``right`` are numbers, those in ``optional`` for wide terminals."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else WIDE
    kept = [i for i, column in enumerate(columns) if width >= NARROW or column not in optional]
    columns, rows = [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]
    out = Table(title=Text(clean(title)) if title else None, box=SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in columns:
        out.add_column(Text(clean(column)), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        out.add_row(*(Text(one_line(cell), style=STYLES.get(cell, "")) for cell in row))
    Console(soft_wrap=False, width=width, highlight=False).print(out)


STYLES = {"ok": "green", "pass": "bold green", "FAIL": "bold red"}


def facts(pairs: Sequence[tuple[str, Any]]) -> None:
    """Named facts on stdout, one a line, the names aligned; empty ones are left out."""
    items = [(k, v) for k, v in pairs if v not in ("", None)]
    width = max((len(name) for name, _ in items), default=0)
    for name, value in items:
        print(f"{name:<{width}}  {clean(str(value))}")


def notes(lines: Sequence[str]) -> None:
    """Things people should know, on stderr."""
    if chatter() is Chatter.QUIET:
        return
    for line in lines:
        print(f"note: {one_line(line)}", file=sys.stderr)


def failures(found: Mapping[str, str]) -> None:
    """What could not be read, and why, on stderr."""
    for name, why in found.items():
        print(f"failed: {one_line(f'{name}: {why}')}", file=sys.stderr)


def plan(said: "Plan", as_json: bool) -> NoReturn:
    """What would be done; exit status 1 if it is known that some of it would fail."""
    if as_json:
        print_json(said.to_dict())
    else:
        found = said.table()
        table(found.title, found.columns, found.rows, right=found.right)
        for line in said.lines():
            say(line)
    notes(said.notes)
    failures(said.failed)
    raise typer.Exit(1 if said.failed else 0)


def _is_animated() -> bool:
    """Whether stderr is a terminal that can redraw a line, and nobody wants it quiet."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and chatter() is not Chatter.QUIET


@contextmanager
def timed() -> Iterator[None]:
    """How long it all took, where that is to be said."""
    began = time.perf_counter()
    yield
    if chatter() is Chatter.VERBOSE:
        print(f"{time.perf_counter() - began:8.2f} s  in all", file=sys.stderr)


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done; silent where stderr is no terminal, unless asked to be verbose."""
    if chatter() is Chatter.VERBOSE:
        began = time.perf_counter()

        def step(line: str) -> None:
            print(f"{time.perf_counter() - began:8.2f} s  {clean(line)}", file=sys.stderr)

        step(what)
        yield step
        step("done")
        return
    if not _is_animated():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(what) as status:
        yield lambda line: status.update(Text(clean(line)))  # names of files are no markup


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; silent where stderr is no terminal."""
    if not _is_animated():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda n: shown.advance(task, n)
