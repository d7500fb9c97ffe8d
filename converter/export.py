"""Any checkpoint to an ONNX file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from converter.convert import load
from converter.errors import ConverterError
from converter.model import Model


@dataclass(frozen=True)
class Export:
    """What :func:`export_onnx` did.

    Attributes:
        model: the weights as read.
        path: the file written.
        opset: version of its operators.
        nodes: number of its operators.
        inputs, outputs: names.
    """

    model: Model
    path: Path
    opset: int
    nodes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def export_onnx(
    source: str | Path,
    target: str | Path,
    *,
    graph: Literal["fused", "exact"] = "fused",
    opset: int | None = None,
    features: bool = False,
    probabilities: bool = False,
    image_input: bool = False,
    layout: str | None = None,
    weights: str | None = None,
    drop: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Export:
    """Write any DenseNet checkpoint as ONNX: batch, height and width dynamic, computing in float32.

    Args:
        source, layout, weights, drop, settings: as for :func:`converter.load`.
        target: an ``.onnx`` file.
        graph, opset, features, probabilities, image_input: as for
            :func:`converter.exporters.onnx.to_onnx`.

    Raises:
        ConverterError: one of its kinds; the target is then as it was before.
    """
    target = Path(target)
    if target.suffix != ".onnx":
        raise ConverterError(f"{target}: end the name in .onnx")
    model = load(source, layout=layout, weights=weights, drop=drop, settings=settings)
    from converter.exporters.onnx import export_model  # noqa: PLC0415 (onnx is slow to import)

    proto = export_model(
        model,
        target,
        graph=graph,
        opset=opset,
        features=features,
        probabilities=probabilities,
        image_input=image_input,
    )
    return Export(
        model,
        target,
        proto.opset_import[0].version,
        len(proto.graph.node),
        tuple(value.name for value in proto.graph.input),
        tuple(value.name for value in proto.graph.output),
    )
