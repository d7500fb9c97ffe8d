"""densenet verify."""

from pathlib import Path
from typing import Annotated, Any

import typer

from converter.cli import complete, show
from converter.cli.many import Many, many_of
from converter.cli.options import Asked, Device, Json, Overwrite, handed, reading_first
from converter.core.errors import ConverterError
from converter.core.source import Source


@handed(sources=reading_first, many=many_of)
def command(
    sources: list[Source],
    many: Many,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Compare with a recorded reference; needs no PyTorch.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Record A's logits as a reference for --against.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Compare on 8 of these images instead of digits, or on a .npy of prepared ones; a list, tars "
            "(WebDataset), Parquet or hf://datasets/OWNER/NAME will do, too.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the synthetic inputs.")] = 0,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="onnxruntime[-disabled|-basic|-extended][@THREADS], openvino, torch[-compiled|-channels-last], "
            "torchvision, timm, keras, tensorflow, paddle. Repeatable. Default: ONNX Runtime, PyTorch, and A's own "
            "framework if installed.",
            autocompletion=complete.engines,
        ),
    ] = None,
    device: Device = "cpu",
    original: Asked = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Write a report: .json, .md, .html, or .xml (JUnit). Repeatable."),
    ] = None,
    force: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Prove that files are the same network as a checkpoint. Exit status 1 if they are not.

    The checkpoint runs in PyTorch in float64; an artifact passes when its error on every input is within
    5 times what PyTorch's own float32 shows there (or 8 units in the last place), and no setting or weight
    differs. Otherwise the module that is to blame is named. That A is read right is this tool's word, unless its
    own code is asked (--original).
    """
    from converter.engines.devices import CPU, engine_on

    first, *others = sources
    if device != CPU:
        engine = [*(engine or ()), engine_on("onnxruntime", device)]
    if many.are_meant([str(first.address)]):
        from converter.cli.many import for_one, run
        from converter.parity.bench import Bench

        for_one(against=against, record=record)
        one = many.plan_one([str(first.address)])
        if not one and (len(others) > 1 or any(not Path(str(other)).is_dir() for other in others)):
            raise ConverterError("of many sources, name one folder with what was made of them")
        results = Path(str(others[0])) if others and not one else None
        options = {"bench": Bench(images, seed, engine or (), original), **({"candidates": others} if one else {})}
        told: dict[str, Any] = {"force": force, "report": report or (), "as_json": as_json}
        run("verify", [first], many, options, folder=results, one=one, **told)
    from converter.parity.bench import Bench
    from converter.parity.report import DETAILS, REPORTS, tables, verdict_line
    from converter.parity.verify import verify, verify_against
    from converter.publish.repository import is_repository, verify_repository

    REPORTS.check(report or (), force=force)
    if record is not None and record.suffix != ".npz":
        raise ConverterError(f"{record}: end the name in .npz")
    whole = not others and against is None and record is None and is_repository(str(first.address))
    if (whole or against is not None) and not first.is_plain:
        raise ConverterError("--layout, --weights, --drop and --set say how to read a checkpoint, and there is none")
    if against is not None and (others or not all(x is None for x in (record, images, original))):
        raise ConverterError("--against takes one ONNX file, and no --record, --images or --original")
    with show.progress("verifying") as say:
        bench = Bench(images, seed, engine or (), original)
        if whole:
            verdict = verify_repository(str(first.address), bench=bench, progress=say)
        elif against is not None:
            verdict = verify_against(against, first, engines=engine or (), progress=say)
        else:
            verdict = verify(first, *others, bench=bench, record=record, force=force, progress=say)
    REPORTS.write(report or (), verdict, force=force)
    if as_json:
        show.print_json(verdict.to_dict())
    else:
        for table in tables(verdict):
            show.table(table.title, table.columns, table.rows, right=table.right, optional=DETAILS)
        show.say(verdict_line(verdict))
        show.notes(verdict.notes)
    raise typer.Exit(0 if verdict.passed else 1)
