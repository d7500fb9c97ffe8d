"""densenet list."""

from typing import Annotated

import typer

from converter.cli import show
from converter.cli.options import Json


def command(
    pattern: Annotated[str | None, typer.Argument(help="Only names that match, e.g. '*121*'.")] = None,
    layouts: Annotated[bool, typer.Option("--layouts", help="List the layouts instead.")] = False,
    as_json: Json = False,
) -> None:
    """List the published models, or the layouts.

    With their parameters, FLOPs and accuracy.
    """
    if layouts:
        from converter.layouts import LAYOUTS

        known = [layout.to_dict() for layout in LAYOUTS]
        if as_json:
            show.print_json(known)
        else:
            rows = [[k["name"], "read, write" if k["writable"] else "read", k["about"]] for k in known]
            show.table("", ["layout", "direction", "whose names"], rows)
        return
    from densenet.zoo import names, zoo_model

    models = [zoo_model(name) for name in names(pattern)]
    if not models:
        show.notes([f"no published model matches {pattern!r}; densenet list names them all"])
    if as_json:
        show.print_json([model.to_dict() for model in models])
        return
    rows = [
        [
            m.name,
            f"{m.config.parameters() / 1e6:.2f}",
            f"{m.config.flops() / 1e9:.2f}",
            "" if m.top1 is None else f"{m.top1:.2f}",
            "" if m.top5 is None else f"{m.top5:.2f}",
            m.accuracy_source,
        ]
        for m in models
    ]
    columns = ["model", "params (M)", "FLOPs (G)", "top-1", "top-5", "accuracy published in"]
    show.table("", columns, rows, right=columns[1:5])
