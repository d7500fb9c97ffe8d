"""densenet push."""

from typing import TYPE_CHECKING, Annotated

import typer

from converter.cli import show
from converter.cli.options import Json, handed, reading, said_of_images, what_to_package
from converter.core.source import Source

if TYPE_CHECKING:
    from converter.core.model import Images
    from converter.publish.recipe import Recipe

FOREIGN = {
    "replace": "not as densenet push left it; the repository's history keeps it",
    "keep": "somebody edited it; nothing proves it now",
}
"""What is said of files that others have changed, by what happens to them."""


@handed(recipe=what_to_package, images=said_of_images, source=reading)
def command(
    source: Source,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository; created if it does not exist.")],
    recipe: "Recipe",
    images: "Images",
    private: Annotated[bool, typer.Option("--private", help="Create it as private.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of committing.")] = False,
    branch: Annotated[str | None, typer.Option(metavar="NAME", help="Commit to this branch.")] = None,
    tag: Annotated[str | None, typer.Option(metavar="NAME", help="Tag the commit.")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="First line of the commit.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change, file by file.")] = False,
    as_json: Json = False,
) -> None:
    """Publish a package on the Hugging Face Hub as one commit.

    Then every file is read back.

    SRC is a folder that densenet package wrote, or anything it packages.
    The token is taken from HF_TOKEN or from what hf auth login has stored.
    """
    from converter.publish.push import Commit, push

    commit = Commit(private, create_pr, branch, tag, message)
    with show.progress("pushing") as say:
        done = push(source, repo, recipe=recipe, images=images, commit=commit, dry_run=dry_run, progress=say)
    if as_json:
        show.print_json(done.to_dict())
        return
    for change in done.changes:
        if dry_run or change.action != "same":
            why = f"  ({FOREIGN[change.action]})" if change.foreign else ""
            show.say(f"{change.action:<8}{change.size:>12,}  {change.path}{why}")
    if done.weights:
        show.say(done.weights)
    if dry_run:
        show.say(f"{repo}: {'would be created; ' if done.created else ''}nothing was written")
    elif done.committed:
        show.say(f"{done.url}\nread back, every hash is as published")
    else:
        show.say(f"{repo}: nothing to change, no commit made")
