"""densenet inspect."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from converter.cli import show
from converter.cli.many import Many, Reports, many_of
from converter.cli.options import Json, Overwrite, handed, reading_each
from converter.core.metadata import FINGERPRINT_KEY
from converter.core.source import Source

if TYPE_CHECKING:
    from converter.core.model import Images
    from converter.reading.recognise import Unrecognised
    from densenet.head import Head

FEW, TOLD = 3, 8
"""Members of a list that are shown, and of what else is in a file."""
TELLING = r"epoch|step|iter|best|acc|loss|auc|score|optim"


@handed(sources=reading_each, many=many_of)
def command(
    sources: list[Source],
    many: Many,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor with its name in the file.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="List the layouts tried and what spoke against them.")
    ] = False,
    fingerprint: Annotated[
        bool, typer.Option("--fingerprint", help="Hash the weights, whatever they are stored in; reads all of them.")
    ] = False,
    save_layout: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Save the layout's table, to be edited and passed as --layout."),
    ] = None,
    report: Reports = None,
    force: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say what a file is, without executing anything in it.

    Its format, layout, wrappers, architecture, activation, classes and preprocessing, and its tensors.
    """
    if many.are_meant([str(source.address) for source in sources], bool(report)):
        from converter.cli.many import for_one, run

        for_one(tensors=tensors, explain=explain, save_layout=save_layout)
        one = many.plan_one([str(source.address) for source in sources], bool(report))
        told: dict[str, Any] = {"force": force, "report": report or (), "as_json": as_json, "one": one}
        run("inspect", sources, many, {"fingerprint": fingerprint}, **told)
    from converter.reading.load import inspect
    from converter.reading.recognise import Unrecognised

    (source,) = sources
    try:
        found = inspect(source)
    except Unrecognised as error:
        if not as_json:
            _what_there_is(error, explain=explain, tensors=tensors)
        raise
    if save_layout is not None:
        from converter.layouts import custom

        custom.save_layout(save_layout, found.chosen.layout, force=force)
    facts = found.to_dict()
    if fingerprint:
        from converter.core.fingerprint import Fingerprint

        facts["fingerprint"] = str(Fingerprint.of(found.model.tensors))
    if as_json:
        show.print_json(facts)
        return
    config, inert = found.model.config, ", ".join(_first(facts["inert"]))
    size, dtypes = "x".join(dict.fromkeys(map(str, found.size()))), facts["dtypes"].items()
    show.facts(
        [
            ("source", facts["source"]),
            ("sha256", facts["sha256"]),
            ("fingerprint", facts.get("fingerprint", "")),
            ("made of", found.model.stated.get(FINGERPRINT_KEY, "")),
            ("format", facts["format"]),
            ("layout", facts["layout"]),
            ("inside", facts["inside"]),
            ("prefix", facts["prefix"]),
            ("network", config.name),
            ("", ", ".join(f"{k} {v}" for k, v in config.telling().items() if k != "heads")),
            *((f"head {head.name}", _of_head(head, found.model.images.of(head.name))) for head in config.heads),
            ("parameters", f"{config.parameters():,}"),
            ("FLOPs", f"{facts['flops']:,} at {size} px" if facts["flops"] else ""),
            ("tensors", f"{len(found.model.tensors)} ({', '.join(f'{v:,} x {k}' for k, v in dtypes)})"),
            ("left out", "; ".join(f"{k}: {v}" for k, v in _first(facts["dropped"].items()))),
            ("images", ", ".join(f"{k} {v}" for k, v in (facts["preprocess"] or {}).items())),
            ("activation", facts["activation"] or ""),
            ("classes", ", ".join(_first(facts["labels"] or ())) + _more(facts["labels"])),
            ("thresholds", ", ".join(_first(map(_short, facts["thresholds"] or ()))) + _more(facts["thresholds"])),
            ("also there", ", ".join(f"{k} {_short(v)}" for k, v in _telling(facts["contents"]))),
            ("inert", f"{inert} (named, not loaded)" if inert else ""),
        ]
    )
    if tensors:
        rows = [[n, ", ".join(t["keys"]), t["dtype"], str(t["shape"])] for n, t in facts["tensors"].items()]
        show.table("", ["library name", "in the file", "type", "shape"], rows)
    if explain:
        _explained(facts["tried"])
    show.notes(facts["notes"])


def _explained(tried: Iterable[Mapping[str, Any]]) -> None:
    """The readings that were tried."""
    rows = [
        [t["layout"], t["inside"], t["prefix"], f"{t['accounted']} of {t['of']}", t["against"] or "ok"] for t in tried
    ]
    show.table("", ["layout tried", "inside", "prefix", "keys explained", "against it"], rows)


def _what_there_is(error: "Unrecognised", *, explain: bool, tensors: bool) -> None:
    """What was tried, and what the file holds, where it is no network that is known."""
    if explain and error.tried:
        _explained(candidate.to_dict() for candidate in error.tried)
    elif explain:
        show.say("no layout has a name in common with this file; --tensors lists what there is")
    if tensors:
        rows = [[name, str(tensor.dtype), str(list(tensor.shape))] for name, tensor in error.tensors.items()]
        show.table("", ["in the file", "type", "shape"], rows)


def _of_head(head: "Head", said: "Images") -> str:
    """One of several heads in a line."""
    labels = ", ".join(_first(said.labels)) + _more(said.labels)
    parts = [",".join(head.layers), f"{head.num_classes} classes", said.activation, labels]
    return ", ".join(filter(None, parts))


def _first(items: Iterable[Any]) -> list[Any]:
    return list(islice(items, FEW))


def _more(items: Sequence[Any] | None) -> str:
    return " ..." if items and len(items) > FEW else ""


def _short(value: Any) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _telling(contents: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What people ask first, then the rest in the file's order, no more than a line holds."""
    ranked = sorted(contents.items(), key=lambda item: not re.search(TELLING, item[0].lower()))
    return ranked[:TOLD]
