"""The command line: one thin command per verb.  What they do is in the modules they call."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from converter.errors import ConverterError
from converter.show import clean
from converter.version import __version__

app = typer.Typer(
    name="densenet",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Any DenseNet checkpoint in; safetensors and ONNX out, proved numerically equal.",
    epilog="Exit status: 0 good, 1 verification failed, 2 wrong usage or a file that cannot be read or is not a "
    "DenseNet, 3 refused as unsafe.",
)

Source = Annotated[str, typer.Argument(metavar="SRC", help="A checkpoint file, an https:// URL, or a name of the zoo.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
FromLayout = Annotated[
    str | None, typer.Option("--layout", metavar="NAME", help="Read SRC as this layout, by name or .toml file.")
]
Weights = Annotated[
    str | None,
    typer.Option(metavar="PLACE", help="Which weights, where SRC has several sets, e.g. state_dict_ema (see inspect)."),
]
Drop = Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Leave out keys of SRC that match. Repeatable.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="What no tensor shows, e.g. stem_pool=blur. Repeatable."),
]
Engine = Annotated[str, typer.Option(help="What computes: onnxruntime or torch.")]


def main() -> NoReturn:
    """Run the command line; errors become one line on stderr and an exit status."""
    # A short process: collecting garbage would cost more than the garbage.
    gc.disable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names in files are anything
    # onnxruntime would leave a database of its own use in people's cache folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, _stopped)
    try:
        app(prog_name="densenet")
    except ConverterError as error:
        message = clean(" ".join(str(error).split()))
        print(f"densenet: {message}", file=sys.stderr)
        sys.exit(error.exit_status)
    except MemoryError:
        print("densenet: not enough memory", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception:
        traceback.print_exc()
        print("densenet: this should not happen; please report it with the lines above", file=sys.stderr)
        sys.exit(2)  # 1 would say that a verification failed
    sys.exit(0)


def _stopped(number: int, _: object) -> NoReturn:
    """An interrupt or a termination unwinds, so that no temporary file stays behind."""
    print(f"densenet: {'interrupted' if number == signal.SIGINT else 'terminated'}", file=sys.stderr)
    sys.exit(128 + number)


def _version(value: bool) -> None:
    if value:
        print(f"densenet-converter {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(name="inspect")
def inspect_command(
    source: Source,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor with its name in the file.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="List the layouts tried and what spoke against them.")
    ] = False,
    save_layout: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Save the layout's table, to be edited and passed as --layout."),
    ] = None,
    layout: FromLayout = None,
    weights: Weights = None,
    drop: Drop = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Say what a file is: format, layout, wrappers, architecture, tensors. Nothing in it is executed."""
    from converter import show
    from converter.evidence import parse_settings
    from converter.inspect import inspect

    found = inspect(source, layout=layout, weights=weights, drop=drop or (), settings=parse_settings(settings or ()))
    if save_layout is not None:
        from converter.exporters.atomic import write_bytes
        from converter.layouts.custom import layout_toml

        write_bytes(save_layout, layout_toml(found.chosen.layout).encode())
    facts = found.to_dict()
    if as_json:
        show.print_json(facts)
        return
    config, inert = found.model.config, ", ".join(_first(facts["inert"]))
    show.facts(
        [
            ("source", facts["source"]),
            ("sha256", facts["sha256"]),
            ("format", facts["format"]),
            ("layout", facts["layout"]),
            ("inside", facts["inside"]),
            ("prefix", facts["prefix"]),
            ("network", config.name),
            ("", ", ".join(f"{k} {v}" for k, v in _telling(config.to_dict()))),
            ("parameters", f"{config.parameters():,}"),
            (
                "FLOPs",
                f"{facts['flops']:,} at {'x'.join(dict.fromkeys(map(str, found.size())))} px" if facts["flops"] else "",
            ),
            (
                "tensors",
                f"{len(found.model.tensors)} ({', '.join(f'{v:,} x {k}' for k, v in facts['dtypes'].items())})",
            ),
            ("left out", "; ".join(f"{k}: {v}" for k, v in _first(facts["dropped"].items()))),
            ("images", _prepared(facts["preprocess"])),
            ("classes", ", ".join(_first(facts["labels"] or ())) + (" ..." if facts["labels"] else "")),
            ("inert", f"{inert} (named, not loaded)" if inert else ""),
        ]
    )
    if tensors:
        rows = [[n, ", ".join(t["keys"]), t["dtype"], str(t["shape"])] for n, t in facts["tensors"].items()]
        show.table("", ["library name", "in the file", "type", "shape"], rows)
    if explain:
        rows = [
            [t["layout"], t["inside"], t["prefix"], f"{t['accounted']} of {t['of']}", t["against"] or "ok"]
            for t in facts["tried"]
        ]
        show.table("", ["layout tried", "inside", "prefix", "keys explained", "against it"], rows)
    show.notes(facts["notes"])


@app.command(name="convert")
def convert_command(
    source: Source,
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="A .safetensors, .pth, .pt, .bin or .npz file, or .h5 for Keras.")
    ],
    to: Annotated[
        str, typer.Option(metavar="LAYOUT", help="Whose names to write: library, torchvision, timm ...")
    ] = "library",
    dtype: Annotated[str | None, typer.Option(help="fp32, fp16, bf16 or fp64; default: as stored.")] = None,
    preprocess: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Record this preprocessing in DST.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record these class names in DST, one a line; or imagenet-1k.")
    ] = None,
    layout: FromLayout = None,
    weights: Weights = None,
    drop: Drop = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Convert any DenseNet checkpoint to the library's layout, or to another one."""
    from converter import show
    from converter.convert import convert
    from converter.evidence import parse_settings

    done = convert(
        source,
        target,
        to=to,
        dtype=dtype,
        layout=layout,
        weights=weights,
        drop=drop or (),
        settings=parse_settings(settings or ()),
        preprocess=_preprocess(preprocess),
        labels=_lines(labels),
    )
    model = done.model
    result = {
        "source": model.source.name,
        "source_sha256": model.source.sha256,
        "format": model.source.format,
        "source_layout": model.source.layout,
        "target": str(done.path),
        "target_layout": done.layout,
        "architecture": model.config.name,
        "parameters": model.config.parameters(),
        "tensors": done.tensors,
        "dropped": dict(model.dropped),
        "notes": list(done.notes),
    }
    if as_json:
        show.print_json(result)
        return
    print(
        f"{done.path}: {model.config.name}, {done.tensors} tensors, "
        f"{model.source.layout} ({model.source.format}) -> {done.layout}"
    )
    show.notes(done.notes)


@app.command()
def export(
    source: Source,
    target: Annotated[Path, typer.Argument(metavar="DST.onnx", help="The file to write.")],
    graph: Annotated[
        str, typer.Option(help="fused: rewritten to be faster, equal in real arithmetic; exact: operator for operator.")
    ] = "fused",
    opset: Annotated[int | None, typer.Option(help="Version of the ONNX operators: 11 and newer; default 21.")] = None,
    features: Annotated[bool, typer.Option("--features", help="Also give the pooled features.")] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also give the softmax.")] = False,
    image_input: Annotated[
        bool,
        typer.Option("--image-input", help="Take uint8 RGB images (N, H, W, C) of any size; preprocess in the graph."),
    ] = False,
    precision: Annotated[
        str, typer.Option(help="fp32; fp16: half the size; int8: about a quarter, and about twice as fast.")
    ] = "fp32",
    calibration: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Typical images, whose ranges int8 takes over.")
    ] = None,
    layout: FromLayout = None,
    weights: Weights = None,
    drop: Drop = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Write any DenseNet checkpoint as ONNX, with dynamic batch, height and width."""
    from converter import show
    from converter.evidence import parse_settings
    from converter.export import export_onnx

    done = export_onnx(
        source,
        target,
        graph=graph,  # type: ignore[arg-type]  # checked by export_onnx, which names the choices
        opset=opset,
        features=features,
        probabilities=probabilities,
        image_input=image_input,
        precision=precision,  # type: ignore[arg-type]
        calibration=calibration,
        layout=layout,
        weights=weights,
        drop=drop or (),
        settings=parse_settings(settings or ()),
    )
    result = {
        "source": done.model.source.name,
        "source_sha256": done.model.source.sha256,
        "target": str(done.path),
        "architecture": done.model.config.name,
        "graph": graph,
        "precision": precision,
        "opset": done.opset,
        "nodes": done.nodes,
        "inputs": list(done.inputs),
        "outputs": list(done.outputs),
        "notes": list(done.notes),
    }
    if as_json:
        show.print_json(result)
        return
    print(
        f"{done.path}: {done.model.config.name}, {graph} graph, {precision}, opset {done.opset}, {done.nodes} nodes, "
        f"{', '.join(done.inputs)} -> {', '.join(done.outputs)}"
    )
    show.notes(done.notes)


@app.command(name="verify")
def verify_command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="A [B]...",
            help="A: the checkpoint that is the truth. B: ONNX files or checkpoints to compare with it; "
            "none: A's own export. With --against, the ONNX file alone. A published repository, as a folder or "
            "OWNER/NAME, is proved from its own files.",
        ),
    ],
    against: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Compare with a recorded reference; needs no PyTorch.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Record A's logits as a reference for --against.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Compare on 8 of these images instead of digits, or on a .npy of prepared ones.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the synthetic inputs.")] = 0,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="onnxruntime[-disabled|-basic|-extended][@THREADS], openvino, torch[-compiled|-channels-last], "
            "torchvision, timm, keras. Repeatable. Default: ONNX Runtime, PyTorch, and A's own framework if installed.",
        ),
    ] = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Write a report: .json, .md, .html, or .xml (JUnit). Repeatable."),
    ] = None,
    layout: FromLayout = None,
    weights: Weights = None,
    drop: Drop = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Prove that artifacts are the same network as a checkpoint. Exit status 1 if they are not.

    The checkpoint runs in PyTorch in float64; an artifact passes when its error on every input is within
    5 times what PyTorch's own float32 shows there (or 8 units in the last place), and no setting or weight
    differs. Otherwise the module that is to blame is named.
    """
    from converter import show
    from converter.evidence import parse_settings
    from converter.parity.report import DETAILS, check_targets, tables, verdict_line, write_report
    from converter.parity.verify import verify, verify_against

    check_targets(report or ())
    if record is not None and record.suffix != ".npz":
        raise ConverterError(f"{record}: end the name in .npz")
    reading: dict[str, Any] = {"layout": layout, "weights": weights, "drop": drop or ()}
    reading["settings"] = parse_settings(settings or ())
    whole = len(files) == 1 and against is None and record is None and _is_repository(files[0])
    if (whole or against is not None) and any(reading.values()):
        raise ConverterError("--layout, --weights, --drop and --set say how to read a checkpoint, and there is none")
    with show.progress("verifying") as say:
        if whole:
            from converter.hub.repository import verify_repository

            verdict = verify_repository(files[0], images=images, seed=seed, engines=engine or (), progress=say)
        elif against is not None:
            if len(files) != 1 or record is not None or images is not None:
                raise ConverterError("--against takes one ONNX file, and no --record or --images")
            verdict = verify_against(against, files[0], engines=engine or (), progress=say)
        else:
            verdict = verify(
                files[0],
                *files[1:],
                images=images,
                seed=seed,
                record=record,
                **reading,
                engines=engine or (),
                progress=say,
            )
    for path in report or ():
        write_report(path, verdict)
    if as_json:
        show.print_json(verdict.to_dict())
    else:
        for table in tables(verdict):
            show.table(table.title, table.columns, table.rows, right=table.right, optional=DETAILS)
        print(verdict_line(verdict))
        show.notes(verdict.notes)
    raise typer.Exit(0 if verdict.passed else 1)


def _is_repository(source: str) -> bool:
    from converter.hub.repository import is_repository

    return is_repository(source)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint, an ONNX file, a URL or a zoo name.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    engine: Engine = "onnxruntime",
    as_json: Json = False,
) -> None:
    """Classify images."""
    from converter import show
    from converter.predict import predictor

    loaded = predictor(model, engine=engine)
    results = []
    for image, found in zip(images, loaded.results(list(images))):
        scores = found["pred_scores"]
        best = [int(i) for i in (-scores).argsort(kind="stable")[:top]]
        names = {i: loaded.labels[i] if loaded.labels else "" for i in best}
        results.append(
            {
                "image": str(image),
                **{k: v for k, v in found.items() if k != "pred_scores"},
                "top": [{"label": i, "score": float(scores[i]), "class": names[i]} for i in best],
            }
        )
    show.notes(loaded.notes)
    if as_json:
        show.print_json(results)
        return
    rows = [
        [str(result["image"]) if place == 0 else "", f"{t['score']:.4f}", str(t["label"]), str(t["class"])]
        for result in results
        for place, t in enumerate(result["top"])
    ]
    show.table("", ["image", "score", "label", "class"], rows, right=("score", "label"))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint, an ONNX file, a URL or a zoo name.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="One subfolder of images for each class.")],
    engine: Engine = "onnxruntime",
    as_json: Json = False,
) -> None:
    """Top-1 and top-5 accuracy on a folder of images."""
    from converter import evaluate as home
    from converter import show

    images, _ = home.labelled_images(folder)
    with show.bar("evaluating", len(images)) as advance:
        found = home.evaluate(model, folder, engine=engine, progress=advance)
    result = found.to_dict()
    show.notes(found.notes)
    if as_json:
        show.print_json(result)
    else:
        print(f"{result['images']} images: top-1 {result['top1']:.2f} %, top-5 {result['top5']:.2f} %")


IMAGENET = "imagenet-1k"
"""What --labels takes instead of a file."""
Onnx = Annotated[
    str,
    typer.Option("--onnx", metavar="LIST", help="Which ONNX files, comma-separated: fp32, fp16, int8; none for none."),
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        "--calibration", metavar="FOLDER", help="Typical images: half set the ranges of int8, the others judge it."
    ),
]
Evaluation = Annotated[
    Path | None,
    typer.Option("--evaluate", metavar="FOLDER", help="State the accuracy on these images, one subfolder a class."),
]
License = Annotated[
    str | None,
    typer.Option("--license", metavar="ID", help="Licence of the weights, e.g. apache-2.0; default: the zoo's."),
]
PreprocessFile = Annotated[
    Path | None,
    typer.Option("--preprocess", metavar="FILE.json", help="What images go through, where SRC does not say."),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option("--labels", metavar="FILE", help="Class names, one a line; or imagenet-1k. Where SRC does not say."),
]


@app.command(name="package")
def package_command(
    source: Source,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write.")],
    onnx: Onnx = "fp32,fp16,int8",
    calibration: Calibration = None,
    evaluation: Evaluation = None,
    repo: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="The repository's name, for the card; push fills it in.")
    ] = None,
    license_id: License = None,
    preprocess: PreprocessFile = None,
    labels: LabelsFile = None,
    layout: FromLayout = None,
    weights: Weights = None,
    drop: Drop = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Write the Hugging Face repository of a checkpoint as a folder: weights, ONNX files, model card, proofs."""
    from converter import show
    from converter.evidence import parse_settings
    from converter.hub.client import check_name
    from converter.hub.expectations import PLACEHOLDER
    from converter.hub.package import package

    if repo is not None:
        check_name(repo)
    with show.progress("packaging") as say:
        done = package(
            source,
            folder,
            onnx=_precisions(onnx),
            calibration=calibration,
            evaluation=evaluation,
            repo=repo or PLACEHOLDER,
            license_id=license_id,
            preprocess=_preprocess(preprocess),
            labels=_lines(labels),
            layout=layout,
            weights=weights,
            drop=drop or (),
            settings=parse_settings(settings or ()),
            progress=say,
        )
    if as_json:
        show.print_json(done.to_dict())
        return
    error = max(c.error for comparisons in done.proof.results.values() for c in comparisons)
    print(f"{done.folder}: {done.model.config.name}, {done.layout} layout, float32 error {error:.1e}")
    show.table("", ["file", "bytes", "compared with float32"], _package_rows(done), right=("bytes",))
    if done.why_not_timm:
        show.notes([f"not for timm and transformers: {done.why_not_timm}"])
    show.notes([f"{name} is left out: {why}" for name, why in done.left_out.items()])
    show.notes(done.model.notes)
    print(f"Publish it:  densenet push {done.folder} {repo or PLACEHOLDER}")


FOREIGN = {
    "replace": "not as densenet push left it; the repository's history keeps it",
    "keep": "somebody edited it; nothing proves it now",
}
"""What is said of files that others have changed, by what happens to them."""


@app.command(name="push")
def push_command(
    source: Annotated[
        str, typer.Argument(metavar="SRC|DIR", help="A folder densenet package wrote, or anything it packages.")
    ],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository; created if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Create it as private.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of committing.")] = False,
    branch: Annotated[str | None, typer.Option(metavar="NAME", help="Commit to this branch.")] = None,
    tag: Annotated[str | None, typer.Option(metavar="NAME", help="Tag the commit.")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="First line of the commit.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change, file by file.")] = False,
    onnx: Onnx = "fp32,fp16,int8",
    calibration: Calibration = None,
    evaluation: Evaluation = None,
    license_id: License = None,
    preprocess: PreprocessFile = None,
    labels: LabelsFile = None,
    layout: FromLayout = None,
    weights: Weights = None,
    drop: Drop = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Publish a package as one commit on the Hugging Face Hub, and read it back.

    The token is taken from HF_TOKEN or from what hf auth login has stored.
    """
    import tempfile
    from contextlib import ExitStack

    from converter import show
    from converter.evidence import parse_settings
    from converter.hub.client import check_name
    from converter.hub.provenance import PROVENANCE
    from converter.hub.push import push

    check_name(repo)
    with ExitStack() as stack, show.progress("pushing") as say:
        folder = Path(source)
        if not (folder / PROVENANCE).is_file():
            from converter.hub.package import package

            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "package"
            tempfile.tempdir = str(folder.parent)  # what libraries leave in the temporary folder goes with it
            package(
                source,
                folder,
                onnx=_precisions(onnx),
                calibration=calibration,
                evaluation=evaluation,
                repo=repo,
                license_id=license_id,
                preprocess=_preprocess(preprocess),
                labels=_lines(labels),
                layout=layout,
                weights=weights,
                drop=drop or (),
                settings=parse_settings(settings or ()),
                progress=say,
            )
        done = push(
            folder,
            repo,
            private=private,
            create_pr=create_pr,
            branch=branch,
            tag=tag,
            message=message,
            dry_run=dry_run,
            progress=say,
        )
    if as_json:
        show.print_json(done.to_dict())
        return
    for change in done.changes:
        if dry_run or change.action != "same":
            why = f"  ({FOREIGN[change.action]})" if change.foreign else ""
            print(f"{change.action:<8}{change.size:>12,}  {change.path}{why}")
    if dry_run:
        print(f"{repo}: {'would be created; ' if done.created else ''}nothing was written")
    elif done.committed:
        print(f"{done.url}\nread back, every hash is as published")
    else:
        print(f"{repo}: nothing to change, no commit made")


@app.command(name="list")
def list_command(
    pattern: Annotated[str | None, typer.Argument(help="Only names that match, e.g. '*121*'.")] = None,
    layouts: Annotated[bool, typer.Option("--layouts", help="List the layouts instead.")] = False,
    as_json: Json = False,
) -> None:
    """List the published models, with parameters, FLOPs and accuracy; or the layouts."""
    from converter import show

    if layouts:
        from converter.layouts import LAYOUTS

        known = [{"name": k.name, "about": k.about, "writable": k.writable} for k in LAYOUTS]
        if as_json:
            show.print_json(known)
        else:
            rows = [[str(k["name"]), "read, write" if k["writable"] else "read", str(k["about"])] for k in known]
            show.table("", ["layout", "direction", "whose names"], rows)
        return
    from densenet.inference import list_models
    from densenet.zoo import zoo_model

    models = [zoo_model(name) for name in list_models(pattern)]
    if as_json:
        show.print_json([_zoo_dict(model) for model in models])
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


@app.command(name="demo")
def demo_command(
    folder: Annotated[Path, typer.Argument(help="Where to leave the results.")] = Path("densenet-demo"),
    as_json: Json = False,
) -> None:
    """Do all of it, offline, on a small trained model that ships with the package."""
    from converter import show
    from converter.demo import CHECKPOINT, IMAGES, demo

    with show.progress("demo") as say:
        done = demo(folder, say)
    if as_json:
        show.print_json(done.to_dict())
        return
    rows = [[verb, result, f"{seconds:.2f}"] for verb, result, seconds in done.steps]
    show.table("A DenseNet trained on handwritten digits", ["step", "result", "seconds"], rows, right=("seconds",))
    print(f"The results are in {done.folder}. The same with a file of your own:\n")
    image = next(iter(sorted(IMAGES.glob("*/*.png"))))
    print("  densenet convert CHECKPOINT model.safetensors")
    print("  densenet export  model.safetensors model.onnx")
    print("  densenet verify  model.safetensors model.onnx")
    print("  densenet package CHECKPOINT repository\n")
    print(f"{done.folder / 'repository'} is ready for the Hugging Face Hub (log in first: hf auth login):\n")
    print(f"  densenet push    {done.folder / 'repository'} OWNER/NAME --dry-run\n")
    print(f"This demo's own checkpoint is {CHECKPOINT};\none of its images, {image}.")


def _prepared(preprocess: dict[str, Any] | None) -> str:
    """Recorded preprocessing in one line."""
    return ", ".join(f"{name} {value}" for name, value in (preprocess or {}).items())


def _telling(config: dict[str, Any]) -> list[tuple[str, Any]]:
    """The config fields that say what is not usual, and the three everybody wants to see."""
    from densenet.config import DenseNetConfig

    plain = DenseNetConfig().to_dict()
    always = ("growth_rate", "block_config", "init_features", "num_classes")
    return [(name, value) for name, value in config.items() if name in always or value != plain[name]]


def _precisions(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip() not in ("", "none")]


def _package_rows(done: Any) -> list[list[str]]:
    def compared(name: str) -> str:
        verdict = done.judgements.get(name)
        return f"error {verdict.error:.2%}, same top-1 on {verdict.top1:.1%}" if verdict else ""

    return [[name, f"{size:,}", compared(name)] for name, size in done.files.items()]


def _first(items: Any, count: int = 3) -> list[Any]:
    return list(items)[:count]


def _preprocess(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    import json

    from densenet.preprocess import Preprocess

    try:
        return Preprocess.from_dict(json.loads(path.read_text("utf-8"))).to_dict()
    except OSError as error:
        raise ConverterError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError) as error:
        raise ConverterError(f"{path}: not a preprocessing ({error})") from error


def _lines(path: Path | None) -> Sequence[str]:
    """Class names."""
    if path is None:
        return ()
    if str(path) == IMAGENET and not path.exists():
        from densenet.labels import imagenet_classes

        return imagenet_classes()
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConverterError(f"{path}: cannot be read as text ({error})") from error


def _zoo_dict(model: Any) -> dict[str, Any]:
    return {
        "name": model.name,
        "parameters": model.config.parameters(),
        "flops": model.config.flops(),
        "top1": model.top1,
        "top5": model.top5,
        "accuracy_source": model.accuracy_source,
        "url": model.url,
        "sha256_prefix": model.sha256_prefix,
        "layout": model.layout,
        "license": model.license,
        "hub_id": model.hub_id,
        "config": model.config.to_dict(),
        "preprocess": model.preprocess.to_dict(),
    }
