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
    from converter.demo.demo import CHECKPOINT, IMAGES, demo

    with show.progress("demo") as say:
        done = demo(folder, say)
    if as_json:
        show.print_json(done.to_dict())
        return
    rows = [[verb, result, f"{seconds:.2f}"] for verb, result, seconds in done.steps]
    show.table("A DenseNet trained on handwritten digits", ["step", "result", "seconds"], rows, right=("seconds",))
    show.say(f"The results are in {done.folder}. The same with a file of your own:\n")
    image = next(iter(sorted(IMAGES.glob("*/*.png"))))
    show.say("  densenet convert CHECKPOINT model.safetensors")
    show.say("  densenet export  model.safetensors model.onnx")
    show.say("  densenet verify  model.safetensors model.onnx")
    show.say("  densenet package CHECKPOINT repository\n")
    show.say(f"{done.folder / 'repository'} is ready for the Hugging Face Hub (log in first: hf auth login):\n")
    show.say(f"  densenet push    {done.folder / 'repository'} OWNER/NAME --dry-run\n")
    show.say(f"This demo's own checkpoint is {CHECKPOINT};\none of its images, {image}.")
