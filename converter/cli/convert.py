"""densenet convert."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converter.cli import show
from converter.cli.options import Force, Json, handed, reading, said_of_images
from converter.core.source import Source

if TYPE_CHECKING:
    from converter.core.model import Images


@handed(source=reading, images=said_of_images)
def command(
    source: Source,
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="A .safetensors, .pth, .pt, .bin or .npz file, or .h5 for Keras.")
    ],
    images: "Images",
    to: Annotated[
        str, typer.Option(metavar="LAYOUT", help="Whose names to write: library, torchvision, timm ...")
    ] = "library",
    dtype: Annotated[str | None, typer.Option(help="fp32, fp16, bf16 or fp64; default: as stored.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Convert a checkpoint to the library's layout, or another one."""
    from converter.writing.convert import convert

    done = convert(source, target, to=to, dtype=dtype, images=images, force=force)
    if as_json:
        show.print_json(done.to_dict())
        return
    model = done.model
    show.say(
        f"{done.path}: {model.config.name}, {done.tensors} tensors, "
        f"{model.origin.layout} ({model.origin.format}) -> {done.layout}"
    )
    show.notes(done.notes)
