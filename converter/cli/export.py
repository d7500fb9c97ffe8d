"""densenet export."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from converter.cli import complete, show
from converter.cli.many import Ending, Many, Reports, many_of
from converter.cli.options import (
    INTERFACE,
    Force,
    Json,
    given_options,
    handed,
    interface_of,
    listed,
    reading_each,
    said_of_images,
)
from converter.cli.trunk import for_features
from converter.core.errors import ConverterError
from converter.core.source import Source
from converter.fetch.storage import stored

if TYPE_CHECKING:
    from converter.core.interface import Interface
    from converter.core.model import Images

OF_RUNTIMES = frozenset(
    "sources layout weights drop settings head target labels preprocess activation precision calibration force "
    "as_json recursive jobs time_limit memory_limit plan ray ending report quiet verbose".split()
)
"""Options that are for files of every runtime."""


@handed(sources=reading_each, interface=interface_of, images=said_of_images, many=many_of)
def command(
    context: typer.Context,
    sources: list[Source],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DST",
            help="The file to write, by its ending: .onnx; .xml (OpenVINO), .pt2 (torch.export), .pt (TorchScript), "
            ".tflite (LiteRT), .mlpackage (Core ML) or .pte (ExecuTorch). Of many SRC a folder.",
        ),
    ],
    images: "Images",
    interface: "Interface",
    many: Many,
    graph: Annotated[
        str, typer.Option(help="fused: rewritten to be faster, equal in real arithmetic; exact: operator for operator.")
    ] = "fused",
    opset: Annotated[int | None, typer.Option(help="Version of the ONNX operators: 11 and newer; default 21.")] = None,
    features: Annotated[bool, typer.Option("--features", help="Also give the pooled features.")] = False,
    probabilities: Annotated[
        bool | None,
        typer.Option(help="Also give probabilities; where nothing is said, if the source itself gives them."),
    ] = None,
    outputs: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="All that the file gives, comma-separated: logits, features, probabilities, cam (class activation "
            "maps), maps (the last feature maps), stem, blocks.N, transitions.N. Default: logits.",
            rich_help_panel=INTERFACE,
        ),
    ] = "",
    runtime: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="NAME",
            help="Write what opencv, tensorrt, onnx2torch or web takes, or refuse.",
            autocompletion=complete.words("opencv", "tensorrt", "onnx2torch", "web"),
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="fp32; fp16: half the size; int8: about a quarter, and about twice as fast.",
            autocompletion=complete.words("fp32", "fp16", "int8"),
        ),
    ] = "fp32",
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Typical images, to whose values int8 fits its ranges and weights; or a list, tars (WebDataset), "
            "Parquet, hf://datasets/OWNER/NAME, of which some are taken.",
        ),
    ] = None,
    external_data: Annotated[
        bool, typer.Option("--external-data", help="Write the weights into a file of their own, DST.onnx_data.")
    ] = False,
    ending: Ending = None,
    report: Reports = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a checkpoint as ONNX, for any batch and image size, or for another runtime by the ending of DST.

    Or many, as a tree like theirs.
    """
    from converter.use.sets.opened import place_of

    typical = place_of(calibration)
    words, more = [str(source.address) for source in sources], bool(report or ending or stored(target))
    several, alone = many.are_meant(words, more), many.plan_one(words, more)
    one = Path(f"of-many{ending or '.onnx'}") if several and not alone else target
    how: dict[str, Any] = {"images": images, "precision": precision, "calibration": typical}
    if one.suffix not in ("", ".onnx"):
        from converter.engines.runtimes import runtime_for

        runtime_for(one)
        if foreign := [name for name in given_options(context) if name not in OF_RUNTIMES]:
            raise ConverterError(f"--{foreign[0].replace('_', '-')} is for .onnx files, and {one} is none")
    else:
        how |= {"graph": graph, "opset": opset, "features": features, "probabilities": probabilities}
        how |= {"outputs": listed(outputs), "interface": interface}
        how |= {"external_data": external_data, "runtime": runtime}
    if several:
        from converter.cli.many import run
        from converter.use.export import Precision

        Precision(precision, typical)  # type: ignore[arg-type]  # checked there
        run(
            *("export", sources, many, how),
            folder=target,
            ending=one.suffix,
            force=force,
            report=report or (),
            as_json=as_json,
            one=alone,
        )
    (source,) = sources
    if one.suffix not in ("", ".onnx"):
        _for_runtime(source, target, how, force=force, as_json=as_json)
        return
    from converter.use.export import export_onnx

    given = set(listed(outputs))
    trunk = bool(given) and not any(name == "logits" or "cam" in name or "probab" in name for name in given)
    again = shlex.join(["densenet", *sys.argv[1:]])  # with all that says how to read it
    with show.progress("exporting") as say, for_features(again, asked=trunk):
        done = export_onnx(source, target, force=force, progress=say, **how)
    if as_json:
        show.print_json(done.to_dict())
        return
    show.say(
        f"{done.path}: {done.model.config.name}, {done.graph} graph, {done.precision}, opset {done.opset}, "
        f"{done.nodes} nodes, {', '.join(done.inputs)} -> {', '.join(done.outputs)}"
        + (f", weights in {done.data}" if done.data else "")
    )
    show.notes(done.notes)


def _for_runtime(source: Source, target: Path, how: dict[str, Any], *, force: bool, as_json: bool) -> None:
    """The same for a runtime that has files of its own."""
    from converter.use.export_runtime import export_runtime

    done = export_runtime(source, target, force=force, **how)
    if as_json:
        show.print_json(done.to_dict())
        return
    size = f"images of {'x'.join(map(str, done.size))}" if done.size else "images of any size"
    written = ", ".join(f"{name} {size:,} bytes" for name, size in done.files.items())
    show.say(f"{done.path}: {done.model.config.name} for {done.runtime}, {done.precision}, {size}; {written}")
    show.notes(done.notes)
