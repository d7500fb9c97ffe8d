"""densenet export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converter.cli import show
from converter.cli.options import INTERFACE, Force, Json, handed, interface_of, listed, reading, said_of_images
from converter.core.source import Source

if TYPE_CHECKING:
    from converter.core.interface import Interface
    from converter.core.model import Images


@handed(source=reading, interface=interface_of, images=said_of_images)
def command(
    source: Source,
    target: Annotated[Path, typer.Argument(metavar="DST.onnx", help="The file to write.")],
    images: "Images",
    interface: "Interface",
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
        typer.Option("--for", metavar="NAME", help="Write what opencv, tensorrt, onnx2torch or web takes, or refuse."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32; fp16: half the size; int8: about a quarter, and about twice as fast.")
    ] = "fp32",
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Typical images, to whose values int8 fits its ranges and weights."),
    ] = None,
    external_data: Annotated[
        bool, typer.Option("--external-data", help="Write the weights into a file of their own, DST.onnx_data.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a checkpoint as ONNX, for any batch and image size unless they are said."""
    from converter.use.export import export_onnx

    with show.progress("exporting") as say:
        done = export_onnx(
            source,
            target,
            images=images,
            precision=precision,
            calibration=calibration,
            graph=graph,  # type: ignore[arg-type]  # checked there, where the choices are named
            opset=opset,
            features=features,
            probabilities=probabilities,
            outputs=listed(outputs),
            interface=interface,
            external_data=external_data,
            runtime=runtime,
            force=force,
            progress=say,
        )
    if as_json:
        show.print_json(done.to_dict())
        return
    show.say(
        f"{done.path}: {done.model.config.name}, {done.graph} graph, {done.precision}, opset {done.opset}, "
        f"{done.nodes} nodes, {', '.join(done.inputs)} -> {', '.join(done.outputs)}"
        + (f", weights in {done.data}" if done.data else "")
    )
    show.notes(done.notes)
