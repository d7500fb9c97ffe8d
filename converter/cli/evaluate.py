"""densenet evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converter.cli import show
from converter.cli.options import Engine, Head, Json, ModelAddress, Overwrite, handed, said_of_images

if TYPE_CHECKING:
    from converter.core.model import Images


@handed(said=said_of_images)
def command(
    model: ModelAddress,
    truths: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder with one subfolder of images for each class; a list, PATH LABEL a line; or a .csv with a "
            "column of paths and one of classes, or one for each label (1, 0; blank and -1 are unknown).",
        ),
    ],
    said: "Images",
    images: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the paths of a list or .csv begin; default: where it lies."),
    ] = None,
    path_column: Annotated[
        str, typer.Option(metavar="NAME", help="The .csv's column of paths; default: the one whose values are files.")
    ] = "",
    dataset: Annotated[str, typer.Option(metavar="NAME", help="What the images are called, if not DATA's name.")] = "",
    report: Annotated[
        list[Path] | None,
        typer.Option("--report", "-o", metavar="FILE", help="Write a report: .json, .csv or .html. Repeatable."),
    ] = None,
    head: Head = None,
    engine: Engine = "onnxruntime",
    force: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure how right a network is about images. Exit status 1 if some cannot be read.

    One class each: top-1 and top-5 accuracy with 95 % intervals (Wilson), every class, the confusion matrix, the
    expected calibration error (15 bins). Labels that do not exclude each other, or a single output: AUROC, average
    precision and F1, each label and the mean; they need pip install 'densenet-converter[metrics]'.
    """
    from converter.use.evaluate import evaluate
    from converter.use.evaluation.dataset import Dataset, read_truths
    from converter.use.evaluation.report import DETAILS, REPORTS, tables

    REPORTS.check(report or (), force=force)
    data = Dataset(truths, images, path_column, dataset)
    read = read_truths(data)
    with show.bar("evaluating", len(read.images)) as advance:
        found = evaluate(model, data, engine=engine, images=said, head=head or "", truths=read, progress=advance)
    REPORTS.write(report or (), found, force=force)
    if as_json:
        show.print_json(found.to_dict())
    else:
        for table in tables(found):
            show.table(table.title, table.columns, table.rows, right=table.right, optional=DETAILS)
        show.say(found.line())
        show.say(f"{found.how}; activation {found.activation}")
    show.notes(found.notes)
    show.failures(found.failed)
    raise typer.Exit(1 if found.failed else 0)
