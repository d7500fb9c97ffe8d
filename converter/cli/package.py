"""densenet package."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from converter.cli import show
from converter.cli.many import Many, Reports, many_of
from converter.cli.options import Json, Overwrite, handed, reading_each, said_of_images, what_to_package
from converter.core.source import Source

if TYPE_CHECKING:
    from converter.core.model import Images
    from converter.publish.recipe import Recipe

TRUST = "transformers loads it with trust_remote_code=True, and then runs the code in the package, as the card says"


@handed(recipe=what_to_package, images=said_of_images, sources=reading_each, many=many_of)
def command(
    sources: list[Source],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder to write; of many SRC, that of their folders.")
    ],
    recipe: "Recipe",
    images: "Images",
    many: Many,
    repo: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="The repository's name, for the card; push fills it in.")
    ] = None,
    report: Reports = None,
    force: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a checkpoint's Hugging Face repository as a folder.

    Weights, ONNX files, model card, and the proof that they are the same network.
    """
    words = [str(source.address) for source in sources]
    if many.are_meant(words, bool(report)):
        from converter.cli.many import for_one, run

        for_one(repo=repo)
        options = {"recipe": recipe, "images": images}
        told: dict[str, Any] = {"force": force, "report": report or (), "as_json": as_json}
        run("package", sources, many, options, folder=folder, one=many.plan_one(words, bool(report)), **told)
    from converter.publish.package import package

    (source,) = sources
    with show.progress("packaging") as say:
        done = package(source, folder, recipe=recipe, images=images, repo=repo, force=force, progress=say)
    if as_json:
        show.print_json(done.to_dict())
        return
    show.say(f"{done.folder}: {done.model.config.name}, {done.layout} layout, float32 error {done.proof.worst():.1e}")
    show.say(f"The proof rests on {done.proof.rests_on}.")
    rows = [[name, f"{size:,}", str(done.compared(name))] for name, size in done.files.items()]
    show.table("", ["file", "bytes", "compared with float32"], rows, right=("bytes",))
    if done.why_not_timm:
        show.notes([f"not for timm: {done.why_not_timm}"])
        show.notes([f"not for transformers: {done.why_not_transformers}" if done.why_not_transformers else TRUST])
    show.notes([f"{name} is left out: {why}" for name, why in done.left_out.items()])
    show.notes(done.model.notes)
    show.notes([note for result in done.results for note in result.notes])
    show.say(f"Publish it:  densenet push {done.folder} {repo or recipe.repo}")
