"""densenet predict."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from converter.cli.trunk import for_features
from converter.core.errors import ConverterError
from converter.core.source import shown
from converter.core.text import one_line

if TYPE_CHECKING:
    from converter.core.model import Images


@handed(said=said_of_images)
def command(
    model: ModelAddress,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Image files, folders of them, or patterns such as 'scans/**/*.png'; lists and tables of paths; tars "
            "(WebDataset) and Parquet files, also as hf://datasets/OWNER/NAME.",
        ),
    ],
    said: "Images",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write a table: .csv, .jsonl or .parquet, every class."),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npy", help="Write the pooled features, a row an image; which, is said beside it."),
    ] = None,
    cam: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Draw what speaks for the best class, with a page of all pictures."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first image that cannot be read.")
    ] = False,
    shard: Shard = None,
    plan: Planned = False,
    ray: Ray = None,
    head: Head = None,
    engine: Engine = "onnxruntime",
    device: Device = "cpu",
    force: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Classify images. Those that cannot be read are listed, and the status is 1."""
    from converter.engines.devices import engine_on
    from converter.use.folder import Targets, classify
    from converter.use.named import named_images
    from converter.use.predict import predictor
    from converter.use.rows import Start, session
    from converter.use.share import Share

    check_plan(plan, ray)
    targets = Targets(output, features, cam, None if shard is None else Share.parse(shard), force)
    with for_features(
        shlex.join(["densenet", "convert", shown(model), "trunk.safetensors"]), asked=targets.features_alone
    ):
        computing = engine_on(engine, device)
        loaded = predictor(model, engine=computing, images=said, features=targets.features_alone, head=head or "")
    found = named_images(images, volumes=loaded.preprocess.of_volumes)
    if plan:
        from converter.use.plan import plan_prediction

        with show.progress("measuring"):
            planned = plan_prediction(loaded, found, targets)
        show.plan(planned, as_json)
    ranks = output is None and (loaded.network.config.num_classes > 0 or bool(loaded.heads))
    start: Start = session
    if ray is not None:
        from converter.fleet.cluster_images import Cluster

        start = Cluster(ray, model, engine=computing, images=said, head=head or "")
    if ray is not None and cam is not None:
        raise ConverterError("--cam is drawn on this machine; leave out --ray")
    with show.bar("predicting", len(found)) as advance:
        done = classify(
            loaded,
            found,
            targets,
            top=top,
            fail_fast=fail_fast,
            title=Path(model).name,
            start=start,
            progress=advance,
        )
    show.notes([*loaded.notes, *done.notes])
    for line in done.failed:
        print(f"failed: {one_line(line)}", file=sys.stderr)
    if as_json:
        show.print_json(done.ranked if ranks else done.to_dict())
    for name, one in loaded.by_head.items() if ranks and not as_json else ():
        own = [{"image": each["image"], **each[name]} if name else each for each in done.ranked]
        _table(name, own, bool(one.thresholds))
    if not as_json:
        for path in targets.written():
            show.say(f"{path}: {done.answered} of {done.images} images")
        if targets.share is not None:
            show.say(f"densenet merge {targets.first} joins the results of all {targets.share.count} shards")
    if done.failed:
        raise typer.Exit(1)


def _table(title: str, ranked: list[dict[str, Any]], thresholds: bool) -> None:
    rows = [
        [str(result["image"]) if place == 0 else "", f"{t['score']:.4f}", str(t["label"]), _named(t)]
        + ([_threshold(t["threshold"])] if thresholds else [])
        for result in ranked
        for place, t in enumerate(result["top"])
    ]
    columns = ["image", "score", "label", "class", *(["threshold"] if thresholds else [])]
    show.table(title, columns, rows, right=("score", "label", "threshold"))


def _named(ranked: dict[str, Any]) -> str:
    """A class with what its name means."""
    name, meaning = str(ranked["class"]), str(ranked.get("description", ""))
    return f"{name}: {meaning}" if meaning not in ("", name) else name


def _threshold(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
