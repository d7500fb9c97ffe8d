"""densenet predict."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converter.cli import show
from converter.cli.options import Engine, Json, ModelAddress, handed, said_of_images

if TYPE_CHECKING:
    from converter.core.model import Images


@handed(said=said_of_images)
def command(
    model: ModelAddress,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    said: "Images",
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    engine: Engine = "onnxruntime",
    as_json: Json = False,
) -> None:
    """Classify images."""
    from converter.use.predict import predictor

    loaded = predictor(model, engine=engine, images=said)
    results = loaded.ranked(images, top)
    show.notes(loaded.notes)
    if as_json:
        show.print_json(results)
        return
    rows = [
        [str(result["image"]) if place == 0 else "", f"{t['score']:.4f}", str(t["label"]), str(t["class"])]
        + ([_threshold(t["threshold"])] if loaded.thresholds else [])
        for result in results
        for place, t in enumerate(result["top"])
    ]
    columns = ["image", "score", "label", "class", *(["threshold"] if loaded.thresholds else [])]
    show.table("", columns, rows, right=("score", "label", "threshold"))


def _threshold(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
