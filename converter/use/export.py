"""Any checkpoint to an ONNX file."""

import os
from dataclasses import dataclass, replace
from io import TextIOBase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Unpack

from converter.core.errors import CannotWrite, ConverterError
from converter.core.files import ADVICE, replacing
from converter.core.interface import LAYOUTS, Interface, InterfaceFields, Presented
from converter.core.metadata import GRAPH_KEY
from converter.core.model import Images, Model
from converter.core.nearest import meant
from converter.core.progress import Progress, shown_in_notebooks
from converter.core.shorthand import Shorthand, records, taken
from converter.core.source import AnySource
from converter.exporters.graph import PROBABILITIES, GraphOptions
from converter.formats import open_checkpoint
from converter.use.assumed import assumed, assumed_activation, preprocess_for
from converter.writing.target import read_for
from densenet.preprocess import Preprocess

if TYPE_CHECKING:
    from converter.exporters.lazy import LazyModel

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Precision:
    """In what numbers an ONNX file computes.

    Attributes:
        name: ``fp32``; ``fp16``, half the size; ``int8``, about a quarter, with 8-bit convolutions.
        calibration: for ``int8``, a folder of typical images; without it synthetic ones
            set the ranges, which costs accuracy.

    Raises:
        ConverterError: there is no such precision, or it is not calibrated.

    Example:
        >>> from converter import Precision, export_onnx
        >>> export_onnx("digits.pth", "half.onnx", precision=Precision("fp16")).precision
        'fp16'
    """

    name: Literal["fp32", "fp16", "int8"] = "fp32"
    calibration: str | Path | None = None

    def __post_init__(self) -> None:
        if self.name not in PRECISIONS:
            raise ConverterError(
                f"no precision is called {self.name!r}; there are {', '.join(PRECISIONS)}{meant(self.name, PRECISIONS)}"
            )
        if self.calibration is not None and self.name != "int8":
            raise ConverterError(f"only int8 is calibrated, not {self.name}")

    @classmethod
    def of(cls, precision: "str | Precision", calibration: str | Path | None) -> "Precision":
        """A precision, or what its name and images say."""
        if isinstance(precision, Precision):
            return precision
        return cls(precision, calibration)  # type: ignore[arg-type]  # checked there


@dataclass(frozen=True)
class Export:
    """What :func:`export_onnx` did.

    Attributes:
        model: the weights as read.
        path: the file written; None of what was written into a buffer.
        graph, precision: which.
        opset: version of its operators.
        nodes: number of its operators.
        inputs, outputs: names.
        notes: what was assumed on the way.
        data: the file of its weights, where they are in one of their own.
    """

    model: Model
    path: Path | None
    graph: str
    precision: str
    opset: int
    nodes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()
    data: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "source": self.model.origin.name,
            "source_sha256": self.model.origin.sha256,
            "target": None if self.path is None else str(self.path),
            "architecture": self.model.config.name,
            "graph": self.graph,
            "precision": self.precision,
            "opset": self.opset,
            "nodes": self.nodes,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "external_data": None if self.data is None else str(self.data),
            "notes": list(self.notes),
        }


class ExportOptions(GraphOptions, InterfaceFields, Shorthand, total=False):
    """Keywords of :func:`export_onnx`: of graph and interface, how to read the checkpoint, what its images are.

    Attributes:
        external_data: whether the weights are a file of their own, ``NAME.onnx_data``.
        runtime: what the file is for: a key of :data:`converter.exporters.runtimes.RUNTIMES`.
    """

    external_data: bool
    runtime: str | None


def export_onnx(
    source: AnySource,
    target: str | Path | IO[bytes],
    *,
    precision: str | Precision = "fp32",
    calibration: str | Path | None = None,
    images: Images | None = None,
    interface: Interface | None = None,
    force: bool = False,
    progress: Progress = shown_in_notebooks,
    **options: Unpack[ExportOptions],
) -> Export:
    """Write any DenseNet checkpoint as ONNX, with dynamic batch, height and width unless they are said.

    Args:
        source: a checkpoint, as for :func:`converter.load`.
        target: an ``.onnx`` file, or a file or buffer opened for writing, ``io.BytesIO()`` say.
        precision: ``fp32``, ``fp16`` or ``int8``, or a :class:`Precision`, whose other field ``calibration`` is.
        images: what its images and classes are, where the source does not say.
        interface: how the file takes images and gives results.
        force: whether a file that this tool did not write may be replaced, or the source.
        progress: called with a line before each step that takes long.
        options: ``graph``, ``opset``, ``outputs``, ``features`` and ``probabilities`` (unless said, where the source
            gives them) as for :func:`converter.exporters.onnx.lazy_onnx`; ``external_data``, weights in a file of their
            own beside; ``runtime``, what it is for (opencv, tensorrt, onnx2torch, web); the others are fields of
            ``interface`` and ``images``, and say how to read it.

    Raises:
        ConverterError: one of its kinds; the target is then as it was before.

    Example:
        >>> import io
        >>> from converter import export_onnx
        >>> done = export_onnx("digits.pth", "digits.onnx")
        >>> done.inputs, done.outputs
        (('pixel_values',), ('logits',))
        >>> export_onnx("digits.pth", buffer := io.BytesIO()).path is None
        True
    """
    file = _file(target)
    precision = Precision.of(precision, calibration)
    graph, seen = taken(options, GraphOptions), replace(interface or Interface(), **taken(options, InterfaceFields))
    data = _beside(file) if options.pop("external_data", False) else None
    runtime = options.pop("runtime", None)
    wanted, said = records(source, images, taken(options, Shorthand))
    if wanted.layout in LAYOUTS:  # no project's, but the order of axes
        seen, wanted = replace(seen, io_layout=wanted.layout), replace(wanted, layout=None)  # type: ignore[arg-type]
    if file is not None and data is not None and not force:
        check_data(data, file)
    model = read_for(file, wanted, beside=data, force=force).model.described(said).fingerprinted()
    from converter.exporters.onnx import lazy_onnx  # noqa: PLC0415 (onnx is slow to import)
    from converter.exporters.presented import presented  # noqa: PLC0415 (onnx is slow to import)

    if graph.get("probabilities") is None:  # the file's own results, where it gives probabilities itself
        stated = [one.images.activation for one in model.branches().values() if one.config.num_classes]
        own = any(activation not in ("", "none") for activation in stated)
        graph["probabilities"] = own and not graph.get("outputs")
    notes = assumed(model.config, model.images) if seen.image_input else ()
    if runtime:
        from converter.exporters.runtimes import fitting  # noqa: PLC0415 (onnx is slow to import)

        graph, seen, note = fitting(runtime, model, graph, seen, precision.name)
        notes += (note,)
    made = lazy_onnx(model, **graph)
    given = {value.name for value in made.proto.graph.output}
    for name, one in model.branches().items():
        if f"{name}.{PROBABILITIES}".removeprefix(".") in given:
            notes += assumed_activation(one.config, one.images)
    if precision.name == "fp16":
        from converter.exporters.fp16 import to_half  # noqa: PLC0415 (for few)

        made = to_half(made)
    elif precision.name == "int8":
        from converter.use.calibrate import UNSEEN, calibrate, calibration_inputs, images_of  # noqa: PLC0415 (ORT)

        typical = images_of(model, precision.calibration) if precision.calibration else ()
        made = calibrate(made, calibration_inputs(model, typical), progress)
        known = assumed(model.config, model.images) if precision.calibration else (UNSEEN,)
        notes += tuple(note for note in known if note not in notes)
    made = presented(made, model, seen)
    props = {prop.key: prop.value for prop in made.proto.metadata_props}
    if Presented.of(props).resized:
        notes += (outside(preprocess_for(model.config, model.images), made.proto.opset_import[0].version),)
    if file is None:
        made.write(target)  # type: ignore[arg-type]  # no name
    else:
        _write(made, file, data, force=force)
    proto = made.proto
    return Export(
        model,
        file,
        props[GRAPH_KEY],
        precision.name,
        proto.opset_import[0].version,
        len(proto.graph.node),
        tuple(value.name for value in proto.graph.input),
        tuple(value.name for value in proto.graph.output),
        (*model.notes, *notes),
        data,
    )


def _file(target: object) -> Path | None:
    """The file a target is; None of one that is open, or in memory.

    Raises:
        ConverterError: it is neither, or no ``.onnx``.
    """
    if isinstance(target, str | os.PathLike):
        path = Path(target)
        if path.suffix != ".onnx":
            raise ConverterError(f"{path}: end the name in .onnx")
        return path
    if isinstance(target, TextIOBase) or not callable(getattr(target, "write", None)):
        raise ConverterError(f"a target is a path, or a file opened in binary mode; not a {type(target).__name__}")
    return None


def _beside(file: Path | None) -> Path:
    """Where the weights of a file are, in one of their own."""
    if file is None:
        raise ConverterError("external data stand in a file beside, and a buffer has none: name a file")
    return file.with_name(f"{file.name}_data")


def check_data(data: Path, target: Path) -> None:
    """Look at where weights are to be written: only those of a file of this tool that is replaced, too, are replaced.

    Raises:
        CannotWrite: another file is there.
    """
    if data.exists() and not (target.exists() and data in open_checkpoint(target).files):
        raise CannotWrite(f"{data}: exists, and does not belong to a file of this tool; {ADVICE}")


def _write(made: "LazyModel", target: Path, data: Path | None, *, force: bool) -> None:
    """Write a graph, with its weights inside or in a file of their own."""
    if data is None:
        with replacing(target, force=force) as file:
            made.write(file)
        return
    with replacing(target, force=force) as file, replacing(data, force=force) as weights:
        made.write_in_two(file, weights, data.name)
        if data.exists() and target.is_file():
            target.unlink()  # at no time does it stand beside weights of another


def outside(steps: Preprocess, opset: int) -> str:
    """What users of a file that takes 8-bit images have to do before, in a sentence."""
    size = "x".join(map(str, steps.crop))
    return (
        f"operators of opset {opset} cannot resize as this preprocessing does ({steps.sizes}, {steps.interpolation}, "
        f"antialiased): the file takes 8-bit images that are resized and cropped to {size} already, and normalises "
        "them; opset 18 and newer resize inside the graph"
    )
