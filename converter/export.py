"""Any checkpoint to an ONNX file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from converter.convert import load
from converter.errors import ConverterError
from converter.exporters.atomic import write_bytes
from converter.model import Model

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Export:
    """What :func:`export_onnx` did.

    Attributes:
        model: the weights as read.
        path: the file written.
        opset: version of its operators.
        nodes: number of its operators.
        inputs, outputs: names.
        notes: what was assumed on the way.
    """

    model: Model
    path: Path
    opset: int
    nodes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()


def export_onnx(
    source: str | Path,
    target: str | Path,
    *,
    graph: Literal["fused", "exact"] = "fused",
    opset: int | None = None,
    features: bool = False,
    probabilities: bool = False,
    image_input: bool = False,
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    calibration: str | Path | None = None,
    layout: str | None = None,
    weights: str | None = None,
    drop: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Export:
    """Write any DenseNet checkpoint as ONNX with dynamic batch, height and width.

    Args:
        source, layout, weights, drop, settings: as for :func:`converter.load`.
        target: an ``.onnx`` file.
        graph, opset, features, probabilities, image_input: as for
            :func:`converter.exporters.onnx.to_onnx`.
        precision: ``fp32``; ``fp16``, half the size; ``int8``, about a quarter, with 8-bit
            convolutions.
        calibration: for ``int8``, a folder of typical images; without it synthetic ones
            set the ranges, which costs accuracy.

    Raises:
        ConverterError: one of its kinds; the target is then as it was before.
    """
    target = Path(target)
    if target.suffix != ".onnx":
        raise ConverterError(f"{target}: end the name in .onnx")
    if precision not in PRECISIONS:
        raise ConverterError(f"no precision is called {precision!r}; there are {', '.join(PRECISIONS)}")
    if calibration is not None and precision != "int8":
        raise ConverterError(f"only int8 is calibrated, not {precision}")
    model = load(source, layout=layout, weights=weights, drop=drop, settings=settings)
    from converter.exporters.onnx import to_onnx  # noqa: PLC0415 (onnx is slow to import)

    proto = to_onnx(
        model,
        graph=graph,
        opset=opset,
        features=features,
        probabilities=probabilities,
        image_input=image_input,
    )
    notes: tuple[str, ...] = ()
    if image_input:
        from converter.predict import assumed, usual_preprocess  # noqa: PLC0415

        notes = assumed(model.preprocess, usual_preprocess(model.preprocess, model.config))
    if precision == "fp16":
        from converter.exporters.half import to_half  # noqa: PLC0415

        proto = to_half(proto)
    elif precision == "int8":
        from converter.exporters.quantize import to_int8  # noqa: PLC0415
        from converter.hub.precision import calibration_inputs, images_of  # noqa: PLC0415

        proto = to_int8(proto, calibration_inputs(model, images_of(model, calibration) if calibration else ()))
    write_bytes(target, proto.SerializeToString())
    return Export(
        model,
        target,
        proto.opset_import[0].version,
        len(proto.graph.node),
        tuple(value.name for value in proto.graph.input),
        tuple(value.name for value in proto.graph.output),
        (*model.notes, *notes),
    )
