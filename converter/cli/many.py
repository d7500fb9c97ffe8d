"""A verb on many sources: its options, and what people see of it."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from converter.cli import show
from converter.cli.options import PLAN, Ray, check_plan
from converter.core.errors import ConverterError
from converter.core.source import Source
from converter.core.text import clean
from converter.fetch.storage import stored

if TYPE_CHECKING:
    from converter.fleet.run import Order
    from converter.fleet.summary import Summary

MANY = "Many sources: several, 'models/**/*.pth', @list with one a line, folders"
"""The panel of the help."""
ON_RAY = ("inspect", "convert", "export")
"""Verbs that Ray may do."""
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}

Reports = Annotated[
    list[Path] | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Write what became of all: .json, .md or .xml (JUnit). Repeatable.",
        rich_help_panel=MANY,
    ),
]
Ending = Annotated[
    str | None,
    typer.Option("--suffix", metavar=".EXT", help="What names of results end in.", rich_help_panel=MANY),
]


@dataclass(frozen=True)
class Many:
    """What the options say of many sources.

    Attributes:
        recursive: whether folders are gone through.
        jobs: how many at once; None for as many as keep the cores busy.
        seconds, memory: what each may take; None for what is usual.
        plan: whether it is only said what would be done.
        ray: the address of a Ray cluster that does it, empty for the one that is there; None for this machine.
    """

    recursive: bool = False
    jobs: int | None = None
    seconds: float | None = None
    memory: int | None = None
    plan: bool = False
    ray: str | None = None

    def are_meant(self, words: Sequence[str], more: bool = False) -> bool:
        """Whether the words of a command line are many sources, or something is asked that only makes sense of many.

        Args:
            words: the sources.
            more: whether an option says so.
        """
        asked = self.recursive or self.plan or self.ray is not None or more or len(words) > 1
        if not asked and not any(set(word) & set("*?[@") or "://" in word for word in words):
            return False
        from converter.fleet.sources import means_many

        return asked or any(map(means_many, words))

    def plan_one(self, words: Sequence[str], more: bool = False) -> bool:
        """Whether a plan is all that is asked of what is one source otherwise; arguments as before."""
        return self.plan and not replace(self, plan=False).are_meant(words, more)


def many_of(
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Go through folders.", rich_help_panel=MANY)
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            metavar="N",
            help="How many at once; default: as many as keep the cores busy.",
            rich_help_panel=MANY,
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit", min=0.001, metavar="SECONDS", help="What each may take; default: 600.", rich_help_panel=MANY
        ),
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            "--memory-limit",
            metavar="SIZE",
            help="What each may allocate, 4GB say; default: an even share of the machine's (Linux).",
            rich_help_panel=MANY,
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help=PLAN, rich_help_panel=MANY)] = False,
    ray: Ray = None,
) -> Many:
    """What is said of many sources."""
    if time_limit is not None and isnan(time_limit):
        raise ConverterError("--time-limit nan: is no number of seconds")
    check_plan(plan, ray)
    if ray is not None and jobs:
        raise ConverterError("--jobs counts processes of this machine; leave out --ray")
    return Many(recursive, jobs, time_limit, None if memory_limit is None else _bytes(memory_limit), plan, ray)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)i?b?", text.strip().lower())
    if found is None or not float(found[1]):
        raise ConverterError(f"--memory-limit {text}: a size is 500MB, 4GB or a number of bytes")
    return int(float(found[1]) * UNITS[found[2]])


def for_one(**given: Any) -> None:
    """Refuse options that make sense of one source alone.

    Raises:
        ConverterError: one is given.
    """
    for name, value in given.items():
        if value not in (None, False, [], ()):
            raise ConverterError(f"--{name.replace('_', '-')} is for one source, and goes without what is for many")


def run(
    verb: str,
    sources: Sequence[Source],
    many: Many,
    options: Mapping[str, Any],
    *,
    folder: Path | None = None,
    ending: str = "",
    force: bool = False,
    report: Sequence[Path] = (),
    as_json: bool = False,
    one: bool = False,
) -> NoReturn:
    """Do it with all, tell what became of each, and leave with status 1 if any failed.

    Of ``one``, which is planned alone, ``folder`` is the name of the result.
    """
    from converter.fleet.pool import Limits
    from converter.fleet.run import USUAL, Order, jobs_of
    from converter.fleet.summary import REPORTS, Summary
    from converter.fleet.work import WRITTEN

    REPORTS.check(report, force=force)
    if folder is not None and not one and (place := stored(folder)) and folder.suffix in WRITTEN:
        raise ConverterError(f"{place}: results in storage go into a folder, under the names of their sources; name it")
    if many.ray is not None and verb not in ON_RAY:
        raise ConverterError(f"--ray is for {', '.join(ON_RAY)}; {verb} computes, and its results are of one machine")
    limits = Limits(many.seconds or USUAL.seconds, many.memory or USUAL.memory)
    order = Order(verb, sources[0], folder, ending, options, force, many.jobs or 0, limits, many.ray, one)
    found = order.sources([str(source.address) for source in sources], recursive=many.recursive)
    jobs = jobs_of(order, found.items)
    if many.plan:
        from converter.fleet.plan import plan

        with show.progress("measuring"):
            said = plan(order, jobs, len(found.parts))
        show.plan(said, as_json)
    summary = Summary(verb)
    summary.count["part of another"] += len(found.parts)
    _each(order, jobs, summary, as_json)
    REPORTS.write(report, summary, force=force)
    if not as_json:
        _tables(summary)
    show.notes(summary.notes() if not as_json else ())
    show.failures({one.source: one.outcome.why for one in summary.failed})
    (show.say if not as_json else _aside)(f"{verb}: {summary.line()}")
    raise typer.Exit(1 if summary.failed else 0)


def _aside(line: str) -> None:
    print(clean(line), file=sys.stderr)


def _each(order: "Order", jobs: Sequence[Any], summary: "Summary", as_json: bool) -> None:
    """Do all jobs; as JSON, each is a line as soon as those before it are done."""
    from converter.core.text import well_formed
    from converter.fleet.outcome import FOREIGN, PART
    from converter.fleet.run import run as done

    with show.bar(order.verb, len(jobs)) as advance, closing(done(order, jobs, advance)) as all_told:
        for one in all_told:
            summary.add(one)
            if as_json and one.outcome.status not in (FOREIGN, PART):
                sys.stdout.write(well_formed(json.dumps(one.to_dict(), allow_nan=False)) + "\n")
                sys.stdout.flush()


def _tables(summary: "Summary") -> None:
    from converter.fleet.summary import tables

    for table in tables(summary):
        kept = [i for i, _ in enumerate(table.columns) if any(row[i] for row in table.rows)]
        columns, rows = [table.columns[i] for i in kept], [[row[i] for i in kept] for row in table.rows]
        if rows:
            show.table(table.title, columns, rows, right=table.right)
