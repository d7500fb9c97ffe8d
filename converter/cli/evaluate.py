"""densenet evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from converter.cli import show
from converter.cli.options import Engine, Json, ModelAddress


def command(
    model: ModelAddress,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="One subfolder of images for each class.")],
    engine: Engine = "onnxruntime",
    as_json: Json = False,
) -> None:
    """Top-1 and top-5 accuracy on a folder of images."""
    from converter.use.evaluate import evaluate, labelled_images

    images, _ = labelled_images(folder)
    with show.bar("evaluating", len(images)) as advance:
        found = evaluate(model, folder, engine=engine, progress=advance)
    result = found.to_dict()
    show.notes(found.notes)
    if as_json:
        show.print_json(result)
    else:
        show.say(f"{result['images']} images: top-1 {result['top1']:.2f} %, top-5 {result['top5']:.2f} %")
