"""Options that several verbs share.  A group of them is handed over as the record it describes."""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from converter.cli import complete
from converter.core.errors import ConverterError
from converter.core.nearest import meant
from converter.core.source import OF_HEAD, Source
from densenet.config import SETTINGS, DenseNetConfig
from densenet.fields import AXES, CHOICES
from densenet.head import layers_of

if TYPE_CHECKING:  # imported where they are made: a verb that does not need numpy answers without it
    from converter.core.interface import Interface
    from converter.core.model import Images
    from converter.publish.recipe import Recipe

IMAGENET = "imagenet-1k"
"""What --labels takes instead of a file."""

HOW_READ = "How SRC is read, where it does not say"
WHAT_IT_IS = "What its images and classes are, where SRC does not say or is wrong"
CONTENTS = "What goes into the repository"
INTERFACE = "How the file takes images and gives results"
"""Panels of the help."""

PLAN = "Say what would be done, and how long it would take; do nothing."
"""The help of --plan."""

Force = Annotated[
    bool,
    typer.Option("--force", help="Replace DST though this tool did not write it, or though it is SRC itself."),
]
Overwrite = Annotated[bool, typer.Option("--force", help="Replace files though this tool did not write them.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Engine = Annotated[
    str,
    typer.Option(help="What computes: onnxruntime or torch.", autocompletion=complete.words(*complete.ENGINES)),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Have a Ray cluster do it: host:port, ray://host:port, auto or local; default: RAY_ADDRESS, or the one "
        "that runs here, or a new one.",
    ),
]
Planned = Annotated[bool, typer.Option("--plan", help=PLAN)]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="K/N", help="Do the K-th of N shards of the images alone, for schedulers; then: merge."
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="Where onnxruntime computes: cpu, cuda, tensorrt or directml.",
        autocompletion=complete.words(*complete.DEVICES),
    ),
]


def check_plan(plan: bool, ray: str | None) -> None:
    """Refuse to measure a cluster.

    Raises:
        ConverterError: it is asked for.
    """
    if plan and ray is not None:
        raise ConverterError("--plan measures on this machine; leave out --ray")


Address = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="A checkpoint file or folder, an https:// URL, or a name of the zoo.",
        autocompletion=complete.sources,
    ),
]
Addresses = Annotated[
    list[str],
    typer.Argument(
        metavar="SRC...",
        help="Checkpoint files or folders, https:// URLs, names of the zoo; see Many sources, below.",
        autocompletion=complete.sources,
    ),
]
Files = Annotated[
    list[str],
    typer.Argument(
        metavar="A [B]...",
        help="A: the checkpoint that is the truth. B: ONNX files or checkpoints to compare with it; "
        "none: A's own export. With --against, the ONNX file alone. A published repository, as a folder or "
        "OWNER/NAME, is proved from its own files.",
        autocompletion=complete.sources,
    ),
]
ModelAddress = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A checkpoint, an ONNX file, a URL or a zoo name.", autocompletion=complete.sources
    ),
]


# -- how a checkpoint is read ----------------------------------------------------------------


Layout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="NAME",
        help="Read SRC as this layout, by name or .toml file.",
        autocompletion=complete.layouts,
        rich_help_panel=HOW_READ,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="Which weights, where SRC has several sets, e.g. state_dict_ema (see inspect).",
        rich_help_panel=HOW_READ,
    ),
]
Drop = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", help="Leave out keys of SRC that match. Repeatable.", rich_help_panel=HOW_READ),
]
Head = Annotated[
    str | None,
    typer.Option(
        "--head", metavar="NAME", help="One head alone, where SRC has several, e.g. age.", rich_help_panel=HOW_READ
    ),
]
Asked = Annotated[
    str | None,
    typer.Option(
        "--original",
        metavar="MODULE:FUNCTION",
        help="RUNS YOUR CODE, in a process of its own: a function (package.module:function, or file.py:function) that "
        "takes nothing or SRC's path and returns the network: a PyTorch or Keras model, or a function from images to "
        "logits. The verdict then rests on its logits. It has 10 minutes to start, and for each batch.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="What no tensor shows, e.g. stem_pool=blur; of one of several heads heads.NAME.head=relu. Repeatable.",
        autocompletion=complete.settings,
        rich_help_panel=HOW_READ,
    ),
]


def reading(
    source: Address,
    layout: Layout = None,
    weights: Weights = None,
    drop: Drop = None,
    head: Head = None,
    settings: Settings = None,
) -> Source:
    """SRC and how to read it."""
    return Source(source, layout, weights, tuple(drop or ()), parse_settings(settings or ()), head)


def reading_each(
    sources: Addresses,
    layout: Layout = None,
    weights: Weights = None,
    drop: Drop = None,
    head: Head = None,
    settings: Settings = None,
) -> list[Source]:
    """Each SRC, and how all are read."""
    return [reading(source, layout, weights, drop, head, settings) for source in sources]


def reading_first(
    files: Files,
    layout: Layout = None,
    weights: Weights = None,
    drop: Drop = None,
    head: Head = None,
    settings: Settings = None,
) -> list[Source]:
    """A, how to read it, and what is compared with it."""
    first, *others = files
    return [reading(first, layout, weights, drop, head, settings), *map(Source, others)]


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """``name=value`` texts as config fields.

    Raises:
        ConverterError: not of that form, no such setting, or not a value of it.
    """
    hints = get_type_hints(DenseNetConfig)
    result: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        of_head = OF_HEAD.fullmatch(name)
        if not equals or not (name in SETTINGS or of_head):
            near = meant(name, SETTINGS)
            raise ConverterError(f"--set {pair}: not a setting; settings are {', '.join(SETTINGS)}{near}")
        kind = hints["head" if of_head else name]
        if kind is bool and text.lower() in ("true", "false"):
            result[name] = text.lower() == "true"
        elif kind is float and (number := _number(text)) is not None:
            result[name] = number
        elif name in AXES and all(part.isdecimal() and int(part) for part in text.split("x")):
            axes = tuple(map(int, text.split("x")))
            result[name] = axes[0] if len(axes) == 1 else axes
        elif name == "head" or of_head:
            try:
                result[name] = tuple(map(str, layers_of(text))) if text else ()
            except ValueError as error:
                raise ConverterError(f"--set {pair}: {error}") from error
        elif name in CHOICES and text in CHOICES[name]:
            result[name] = text
        else:
            numbers = ("a number", "one for each axis as in 1x2x2") if name in AXES else ("a number",)
            allowed = numbers if kind is float or name in AXES else get_args(kind) or ("true", "false")
            near = meant(text, map(str, allowed))
            raise ConverterError(f"--set {pair}: {name} takes {', '.join(map(str, allowed))}{near}")
    return result


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# -- what its images and classes are ------------------------------------------------------------


def said_of_images(
    preprocess: Annotated[
        Path | None,
        typer.Option(
            "--preprocess",
            metavar="NAME",
            help="What images go through: a known preprocessing, such as torchxrayvision, cifar10 or keras-tf, "
            "or FILE.json.",
            autocompletion=complete.preprocessings,
            rich_help_panel=WHAT_IT_IS,
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels",
            metavar="[HEAD=]FILE",
            help=f"Class names: a text, one a line; a JSON list, id2label or class_to_idx; or {IMAGENET}. "
            "Repeatable, of several heads.",
            rich_help_panel=WHAT_IT_IS,
        ),
    ] = None,
    activation: Annotated[
        list[str] | None,
        typer.Option(
            "--activation",
            metavar="[HEAD=]NAME",
            help="What makes probabilities of the logits: softmax (one class is true), sigmoid (each by itself) or "
            "none (they are just numbers). Repeatable, of several heads.",
            autocompletion=complete.words("softmax", "sigmoid", "none"),
            rich_help_panel=WHAT_IT_IS,
        ),
    ] = None,
) -> "Images":
    """What the user says of images and classes."""
    from converter.core.metadata import parsed
    from converter.core.model import Images
    from densenet.bounds import read_small
    from densenet.preprocess import FAMILIES, Preprocess

    steps = None
    if preprocess is not None and not preprocess.exists() and str(preprocess) in FAMILIES:
        steps = FAMILIES[str(preprocess)]
    elif preprocess is not None:
        try:
            steps = Preprocess.from_dict(parsed(read_small(preprocess)))
        except OSError as error:
            near = f"; known preprocessings are {', '.join(FAMILIES)}{meant(str(preprocess), FAMILIES)}"
            known = near if not preprocess.suffix else ""
            raise ConverterError(f"{preprocess}: cannot be read ({error.strerror}){known}") from error
        except (ValueError, TypeError) as error:
            raise ConverterError(f"{preprocess}: not a preprocessing ({error})") from error
    names = {head: tuple(_names(Path(file))) for head, file in by_head("--labels", labels or ()).items()}
    kinds = by_head("--activation", activation or ())
    heads = [head for head in dict.fromkeys((*names, *kinds)) if head]
    of_heads = ((head, Images(labels=names.get(head, ()), activation=kinds.get(head, ""))) for head in heads)
    return Images(steps, names.get("", ()), kinds.get("", ""), heads=tuple(of_heads))


def by_head(option: str, texts: Iterable[str]) -> dict[str, str]:
    """``head=value`` texts by head; a value alone, or the name of a file that is there, by an empty one.

    Raises:
        ConverterError: something is said twice.
    """
    result: dict[str, str] = {}
    for text in texts:
        head, equals, value = text.partition("=")
        if not equals or Path(text).exists():
            head, value = "", text
        if head in result:
            raise ConverterError(f"{option} is given twice{f' of head {head}' if head else ''}")
        result[head] = value
    return result


def _names(path: Path) -> Sequence[str]:
    """Class names."""
    from densenet.labels import imagenet_classes, read_labels

    if str(path) == IMAGENET and not path.exists():
        return imagenet_classes()
    try:
        names = read_labels(path)
    except (OSError, ValueError) as error:
        raise ConverterError(f"{path}: cannot be read as class names ({error})") from error
    if not names:
        raise ConverterError(f"{path}: has no class names")
    return names


# -- how an ONNX file takes images and gives results ------------------------------------------------


def interface_of(
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", metavar="N", help="Take so many images at once; default: any number.", rich_help_panel=INTERFACE
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="HxW",
            help="Take images of this size alone, 224 or 224x320; default: any size.",
            rich_help_panel=INTERFACE,
        ),
    ] = None,
    input_name: Annotated[
        str,
        typer.Option(
            "--input-name",
            metavar="NAME",
            help="Default: pixel_values, or image with --image-input.",
            rich_help_panel=INTERFACE,
        ),
    ] = "",
    output_name: Annotated[
        str,
        typer.Option(
            "--output-name",
            metavar="LIST",
            help="Names of all outputs in their order, comma-separated.",
            rich_help_panel=INTERFACE,
        ),
    ] = "",
    io_layout: Annotated[
        str,
        typer.Option(
            "--io-layout",
            metavar="NAME",
            help="nchw, or nhwc (as --layout nhwc): images and maps with channels last.",
            rich_help_panel=INTERFACE,
        ),
    ] = "nchw",
    io_dtype: Annotated[
        str,
        typer.Option(
            "--io-dtype",
            metavar="NAME",
            help="fp32, or fp16: images and results in float16.",
            rich_help_panel=INTERFACE,
        ),
    ] = "fp32",
    image_input: Annotated[
        bool,
        typer.Option(
            "--image-input",
            help="Take uint8 RGB images (N, H, W, C) of any size; preprocess in the graph.",
            rich_help_panel=INTERFACE,
        ),
    ] = False,
) -> "Interface":
    """How the file takes images and gives results."""
    from converter.core.interface import Interface

    lengths = tuple(int(part) if part.isdecimal() else 0 for part in size.split("x")) if size else ()
    if not all(lengths):
        raise ConverterError(f"--size {size}: a size is a number of pixels, 224, or one for each axis, 224x320")
    names = listed(output_name)
    return Interface(batch, lengths, input_name, names, io_layout, io_dtype, image_input)  # type: ignore[arg-type]  # checked


def listed(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


# -- what a package holds --------------------------------------------------------------------------


def what_to_package(
    onnx: Annotated[
        str,
        typer.Option(
            "--onnx",
            metavar="LIST",
            help="Which ONNX files, comma-separated: fp32, fp16, int8; none for none.",
            rich_help_panel=CONTENTS,
        ),
    ] = "fp32,fp16,int8",
    also: Annotated[
        str,
        typer.Option(
            "--also",
            metavar="LIST",
            help="Files of other runtimes, comma-separated: openvino, torch-export, torchscript, tflite, coreml, "
            "executorch (see doctor).",
        ),
    ] = "",
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="FOLDER",
            help="Typical images: half set the ranges of int8, the others judge it; shards and lists as for export.",
            rich_help_panel=CONTENTS,
        ),
    ] = None,
    evaluation: Annotated[
        str | None,
        typer.Option(
            "--evaluate",
            metavar="DATA",
            help="State how right it is about these images: one subfolder a class, or a list or .csv of truths.",
            rich_help_panel=CONTENTS,
        ),
    ] = None,
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset", metavar="NAME", help="What the images of --evaluate are called.", rich_help_panel=CONTENTS
        ),
    ] = "",
    license_id: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="ID",
            help="Licence of the weights, e.g. apache-2.0; default: the zoo's.",
            rich_help_panel=CONTENTS,
        ),
    ] = None,
    page: Annotated[
        bool, typer.Option("--page", help="Add index.html, a page that classifies images in a browser.")
    ] = False,
    runtime: Annotated[
        str,
        typer.Option(
            "--ort-web",
            metavar="URL",
            help="Where that page loads ONNX Runtime Web from: an address, or a path from the page; default: a CDN.",
        ),
    ] = "",
    original: Asked = None,
) -> "Recipe":
    """What goes into a package."""
    from converter.publish.recipe import Recipe
    from converter.use.evaluation.dataset import Dataset
    from converter.use.sets.opened import place_of

    if dataset and evaluation is None:
        raise ConverterError("--dataset names the images of --evaluate, and there are none")
    images = Dataset(place_of(evaluation) or "", name=dataset) if evaluation is not None else None
    wanted = [part.strip() for part in onnx.split(",") if part.strip() not in ("", "none")]
    if runtime and not page:
        raise ConverterError("--ort-web is for --page")
    others = [part.strip() for part in also.split(",") if part.strip()]
    more: dict[str, Any] = {"page": page, "also": others, **({"runtime": runtime} if runtime else {})}
    return Recipe(wanted, place_of(calibration), images, license_id=license_id, original=original, **more)


# -- groups as records ---------------------------------------------------------------------------------


def handed(**groups: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A verb whose parameters of these names are made from groups of options; the others are its own.

    Its own arguments stay in place; options of a group follow its own, in the order of the groups.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own = parameters_of(verb)
        members = {name: parameters_of(group) for name, group in groups.items()}
        arguments = [p for mine in own for p in members.get(mine.name, [mine]) if p.default is p.empty]
        options = [p for p in own if p.name not in groups and p.default is not p.empty]
        options += [p for inner in members.values() for p in inner if p.default is not p.empty]
        options.sort(key=lambda p: p.annotation is Json)  # which comes last
        whole = [p.replace(kind=p.KEYWORD_ONLY) for p in (*arguments, *options)]

        @functools.wraps(verb)
        def run(**given: Any) -> None:
            made = {name: group(**{p.name: given.pop(p.name) for p in members[name]}) for name, group in groups.items()}
            verb(**given, **made)

        run.__signature__ = inspect.Signature(whole)  # type: ignore[attr-defined]  # what typer looks at
        run.__annotations__ = {p.name: p.annotation for p in whole}
        return run

    return decorate


def given_options(context: typer.Context) -> list[str]:
    """The parameters of a verb that stand on the command line."""
    sources = ((name, context.get_parameter_source(name)) for name in context.params)
    return [name for name, source in sources if source is not None and source.name == "COMMANDLINE"]


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """A function's parameters, in its order."""
    return list(inspect.signature(function).parameters.values())
