"""densenet predict."""

from pathlib import Path
from typing import Annotated

import typer

from converter.cli import show
from converter.cli.options import Engine, Json, ModelAddress


def command(
    model: ModelAddress,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    engine: Engine = "onnxruntime",
    as_json: Json = False,
) -> None:
    """Classify images."""
    from converter.use.predict import predictor

    loaded = predictor(model, engine=engine)
    results = loaded.ranked(images, top)
    show.notes(loaded.notes)
    if as_json:
        show.print_json(results)
        return
    rows = [
        [str(result["image"]) if place == 0 else "", f"{t['score']:.4f}", str(t["label"]), str(t["class"])]
        for result in results
        for place, t in enumerate(result["top"])
    ]
    show.table("", ["image", "score", "label", "class"], rows, right=("score", "label"))
