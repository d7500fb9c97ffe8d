"""Any checkpoint to an ONNX file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from converter.core.errors import ConverterError
from converter.core.files import replacing
from converter.core.metadata import GRAPH_KEY
from converter.core.model import Images, Model
from converter.core.progress import Progress
from converter.core.shorthand import Shorthand, records, taken
from converter.core.source import AnySource
from converter.exporters.graph import GraphOptions
from converter.reading.load import inspect
from converter.use.assumed import assumed, assumed_activation
from converter.writing.target import check_not_source, check_target

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
    """

    name: Literal["fp32", "fp16", "int8"] = "fp32"
    calibration: str | Path | None = None

    def __post_init__(self) -> None:
        if self.name not in PRECISIONS:
            raise ConverterError(f"no precision is called {self.name!r}; there are {', '.join(PRECISIONS)}")
        if self.calibration is not None and self.name != "int8":
            raise ConverterError(f"only int8 is calibrated, not {self.name}")


@dataclass(frozen=True)
class Export:
    """What :func:`export_onnx` did.

    Attributes:
        model: the weights as read.
        path: the file written.
        graph, precision: which.
        opset: version of its operators.
        nodes: number of its operators.
        inputs, outputs: names.
        notes: what was assumed on the way.
    """

    model: Model
    path: Path
    graph: str
    precision: str
    opset: int
    nodes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "source": self.model.origin.name,
            "source_sha256": self.model.origin.sha256,
            "target": str(self.path),
            "architecture": self.model.config.name,
            "graph": self.graph,
            "precision": self.precision,
            "opset": self.opset,
            "nodes": self.nodes,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "notes": list(self.notes),
        }


class ExportOptions(GraphOptions, Shorthand, total=False):
    """Keywords of :func:`export_onnx`: the graph's, how to read the checkpoint, what its images and classes are."""


def export_onnx(
    source: AnySource,
    target: str | Path,
    *,
    precision: str | Precision = "fp32",
    calibration: str | Path | None = None,
    images: Images | None = None,
    force: bool = False,
    progress: Progress = lambda _: None,
    **options: Unpack[ExportOptions],
) -> Export:
    """Write any DenseNet checkpoint as ONNX with dynamic batch, height and width.

    Args:
        source: a checkpoint, as for :func:`converter.load`.
        target: an ``.onnx`` file.
        precision: ``fp32``, ``fp16`` or ``int8``, or a :class:`Precision`, whose other field ``calibration`` is.
        images: what its images and classes are, where the source does not say.
        force: whether a file that this tool did not write may be replaced, or the source.
        progress: called with a line before each step that takes long.
        options: ``graph``, ``opset``, ``features``, ``probabilities`` (unless said, where the source gives them) and
            ``image_input`` as for :func:`converter.exporters.onnx.lazy_onnx`; the others say how to read it, and are
            fields of ``images``.

    Raises:
        ConverterError: one of its kinds; the target is then as it was before.
    """
    target = Path(target)
    if target.suffix != ".onnx":
        raise ConverterError(f"{target}: end the name in .onnx")
    if not isinstance(precision, Precision):
        precision = Precision(precision, calibration)  # type: ignore[arg-type]  # checked there
    graph = taken(options, GraphOptions)
    wanted, said = records(source, images, taken(options, Shorthand))
    check_target(target, force=force)
    found = inspect(wanted)
    check_not_source(target, found.checkpoint.files, force=force)
    model = found.model.described(said)
    from converter.exporters.onnx import lazy_onnx  # noqa: PLC0415 (onnx is slow to import)

    if graph.get("probabilities") is None:  # the file's own results, where it gives probabilities itself
        stated = [one.images.activation for one in model.branches().values() if one.config.num_classes]
        graph["probabilities"] = any(activation not in ("", "none") for activation in stated)
    made = lazy_onnx(model, **graph)
    notes = assumed(model.config, model.images) if graph.get("image_input") else ()
    for one in model.branches().values() if graph["probabilities"] else ():
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
    with replacing(target, force=force) as file:
        made.write(file)
    proto = made.proto
    return Export(
        model,
        target,
        next(p.value for p in proto.metadata_props if p.key == GRAPH_KEY),
        precision.name,
        proto.opset_import[0].version,
        len(proto.graph.node),
        tuple(value.name for value in proto.graph.input),
        tuple(value.name for value in proto.graph.output),
        (*model.notes, *notes),
    )
