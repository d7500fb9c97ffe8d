"""densenet diff."""

from pathlib import Path
from typing import Annotated

import typer

from converter.cli import complete, show
from converter.cli.options import Json, Overwrite


def command(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A checkpoint file, an https:// URL, or a name of the zoo.",
            autocompletion=complete.sources,
        ),
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", help="Another, of any format and layout.", autocompletion=complete.sources)
    ],
    report: Annotated[
        list[Path] | None,
        typer.Option("--report", "-o", metavar="FILE", help="Write a report: .json or .html. Repeatable."),
    ] = None,
    force: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say whether two checkpoints have the same weights. Exit status 1 if not.

    Tensor by tensor in the library's names, whatever formats and layouts they are in: identical, rounded (float16 of
    float32), scaled, moved, permuted, or changed, and how far. What is the same but for rounding counts as the same.
    """
    from converter.use.diff.compare import diff
    from converter.use.diff.report import REPORTS, tables

    REPORTS.check(report or (), force=force)
    with show.progress("comparing") as say:
        found = diff(a, b, progress=say)
    REPORTS.write(report or (), found, force=force)
    if as_json:
        show.print_json(found.to_dict())
    else:
        for table in tables(found):
            show.table(table.title, table.columns, table.rows, right=table.right)
        show.say(found.line())
    raise typer.Exit(0 if found.same else 1)
