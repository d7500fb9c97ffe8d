"""densenet convert."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converter.cli import complete, show
from converter.cli.many import Ending, Many, Reports, many_of
from converter.cli.options import Force, Json, handed, reading_each, said_of_images
from converter.core.source import Source
from converter.fetch.storage import stored

if TYPE_CHECKING:
    from converter.core.model import Images


@handed(sources=reading_each, images=said_of_images, many=many_of)
def command(
    sources: list[Source],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DST", help="A .safetensors, .pth, .pt, .bin or .npz file, or .h5 for Keras; of many SRC a folder."
        ),
    ],
    images: "Images",
    many: Many,
    to: Annotated[
        str,
        typer.Option(
            metavar="LAYOUT",
            help="Whose names to write: library, torchvision, timm ...",
            autocompletion=complete.written_layouts,
        ),
    ] = "library",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="fp32, fp16, bf16 or fp64; default: as stored.",
            autocompletion=complete.words("fp32", "fp16", "bf16", "fp64"),
        ),
    ] = None,
    ending: Ending = None,
    report: Reports = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Convert a checkpoint to the library's layout, or another one; or many, as a tree like theirs."""
    words, more = [str(source.address) for source in sources], bool(report or ending or stored(target))
    if many.are_meant(words, more):
        from converter.cli.many import run
        from converter.writing.convert import check

        ending = ending or ".safetensors"
        one = many.plan_one(words, more)
        check(target if one else Path(f"of-many{ending}"), to, dtype)
        options = {"to": to, "dtype": dtype, "images": images}
        run(
            *("convert", sources, many, options),
            folder=target,
            ending=ending,
            force=force,
            report=report or (),
            as_json=as_json,
            one=one,
        )
    from converter.writing.convert import convert

    (source,) = sources
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
