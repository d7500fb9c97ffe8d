"""densenet merge."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from converter.cli import show
from converter.cli.options import Json, Overwrite
from converter.core.text import one_line


def command(
    target: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="What was said with --output or --report of every shard, results.csv say."),
    ],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write this instead: tables, or reports, of any kind. Repeatable."
        ),
    ] = None,
    force: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Join what predict --shard or evaluate --shard left, as if one run had done it all. Exit status as theirs."""
    from converter.cli.evaluate import shown
    from converter.use.evaluation.result import Evaluation
    from converter.use.merge import merge

    done = merge(target, output or (), force=force)
    if isinstance(done, Evaluation):
        shown(done, as_json)
    show.notes(done.notes)
    for line in done.failed:
        print(f"failed: {one_line(line)}", file=sys.stderr)
    if as_json:
        show.print_json(done.to_dict())
    else:
        for path in output or [target]:
            show.say(f"{path}: {done.answered} of {done.images} images")
    if done.failed:
        raise typer.Exit(1)
