"""densenet demo."""

from pathlib import Path
from typing import Annotated

import typer

from converter.cli import show
from converter.cli.options import Json


def command(
    folder: Annotated[Path, typer.Argument(help="Where to leave the results.")] = Path("densenet-demo"),
    as_json: Json = False,
) -> None:
    """Do all of it, offline, on a small trained model within."""
    from converter.demo.demo import demo

    with show.progress("demo") as say:
        done = demo(folder, say)
    if as_json:
        show.print_json(done.to_dict())
        return
    rows = [[verb, result, f"{seconds:.2f}"] for verb, result, seconds in done.steps]
    rows += [[verb, f"skipped: {why}", ""] for verb, why in done.skipped]
    show.table("A DenseNet trained on handwritten digits", ["step", "result", "seconds"], rows, right=("seconds",))
    show.say(f"{done.folder} has all of it, and is ignored by git. Go on there:\n")
    for line in done.commands:
        show.say(f"  {line}")
    show.say("\nWith a file of your own: densenet convert --help, then export, verify, package and push.")
