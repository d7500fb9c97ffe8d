"""densenet evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from converter.cli import show
from converter.cli.options import (
    Device,
    Engine,
    Head,
    Json,
    ModelAddress,
    Overwrite,
    Planned,
    Ray,
    Shard,
    check_plan,
    handed,
    said_of_images,
)
from converter.core.errors import ConverterError

if TYPE_CHECKING:
    from converter.core.model import Images
    from converter.use.evaluate import Asked
    from converter.use.evaluation.exam import Marks
    from converter.use.evaluation.result import Evaluation


@handed(said=said_of_images)
def command(
    model: ModelAddress,
    truths: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder with one subfolder of images for each class; a list, PATH LABEL a line; or a .csv with a "
            "column of paths and one of classes, or one for each label (1, 0; blank and -1 are unknown); tars "
            "(WebDataset) or Parquet files with classes, a pattern or folder of them, hf://datasets/OWNER/NAME.",
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
    shard: Shard = None,
    plan: Planned = False,
    ray: Ray = None,
    head: Head = None,
    engine: Engine = "onnxruntime",
    device: Device = "cpu",
    force: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure how right a network is about images. Exit status 1 if some cannot be read.

    One class each: top-1 and top-5 accuracy with 95 % intervals (Wilson), every class, the confusion matrix, the
    expected calibration error (15 bins). Labels that do not exclude each other, or a single output: AUROC, average
    precision and F1, each label and the mean; they need pip install 'densenet-converter[metrics]'.
    """
    from converter.engines.devices import engine_on
    from converter.use.evaluate import Asked, examined
    from converter.use.evaluation.dataset import Dataset, read_truths
    from converter.use.evaluation.report import REPORTS
    from converter.use.kept import over
    from converter.use.rows import Start, session
    from converter.use.share import Share

    check_plan(plan, ray)
    REPORTS.check(report or (), force=force)
    computing = engine_on(engine, device)
    if shard is not None and not report:
        raise ConverterError("--shard leaves its results beside a report: say --report FILE")
    data = Dataset(truths, images, path_column, dataset)
    read = read_truths(data)
    target = report[0] if report else None
    share = None if shard is None else Share.parse(shard)
    asked = Asked.of(model, data, engine=computing, images=said, head=head or "", truths=read)
    if plan:
        from converter.use.plan import plan_evaluation

        with show.progress("measuring"):
            planned = plan_evaluation(asked, report or (), share)
        show.plan(planned, as_json)
    start: Start = session
    if ray is not None:
        from converter.fleet.cluster_images import Cluster

        start = Cluster(ray, model, engine=computing, images=said, head=head or "")
    with show.bar("evaluating", len(read.images)) as advance:
        done = examined(asked, target=target, share=share, start=start, progress=advance)
    show.notes(done.notes)
    if share is not None and target is not None:
        _shown_of_shard(asked, done, f"{share.beside(target)}", as_json)
        if not as_json:
            show.say(f"densenet merge {target} joins the results of all {share.count} shards")
        raise typer.Exit(1 if done.failed or asked.exam.missing else 0)
    found = done.evaluation()
    REPORTS.write(report or (), found, force=force)
    if target is not None:
        over(target)
    shown(found, as_json)


def _shown_of_shard(asked: "Asked", done: "Marks", where: str, as_json: bool) -> None:
    """Show how many images of a shard are answered."""
    answered = done.images - len(done.failed)
    if as_json:
        failed = [{"image": name, "why": why} for name, why in done.failed.items()]
        show.print_json({"images": done.images, "answered": answered, "failed": failed, "notes": done.notes})
    else:
        show.say(f"{where}: {answered} of {done.images} images")
    show.failures({**dict(asked.exam.missing), **done.failed})


def shown(found: "Evaluation", as_json: bool) -> NoReturn:
    """Show what came of it; exit status 1 if some images could not be read."""
    from converter.use.evaluation.report import DETAILS, tables

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
