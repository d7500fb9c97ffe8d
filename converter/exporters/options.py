"""What can be asked of an ONNX graph, as keywords."""

from __future__ import annotations

from typing import Literal, TypedDict


class GraphOptions(TypedDict, total=False):
    """Keywords of :func:`converter.exporters.onnx.to_onnx`, for those who hand them on."""

    graph: Literal["fused", "exact"]
    opset: int | None
    features: bool
    probabilities: bool
    image_input: bool
