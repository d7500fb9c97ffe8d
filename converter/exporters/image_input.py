"""Preprocessing inside the graph: from uint8 images of any size to the network's input.

The steps of ``densenet.preprocess`` as ONNX operators: short edge resized (antialiased,
with torchvision's arithmetic for the long one), centre crop, scale, normalise.
"""

from typing import Any

import numpy as np

from converter.core.errors import ConverterError
from converter.exporters.graph import IMAGE, Graph
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess

MODES = {"bilinear": ("linear", {}), "bicubic": ("cubic", {"cubic_coeff_a": -0.5})}


def add_image_input(graph: Graph, config: DenseNetConfig, preprocess: Preprocess | None) -> None:
    """Put preprocessing (None: the usual) before a network's graph, whose input becomes ``image``, uint8 (N, H, W, C).

    Raises:
        ConverterError: the network takes no ordinary images (volumes, 5 channels), or the images are smaller
            than this preprocessing can crop without padding.
    """
    if config.spatial_dims != 2:
        raise ConverterError("an image input is for networks of images, not of volumes")
    try:
        steps = preprocess or Preprocess.usual(config)
    except ValueError as error:
        raise ConverterError(str(error)) from error
    network, first = graph.nodes, graph.input
    graph.nodes, graph.input = [], IMAGE

    def constant(name: str, value: Any, dtype: Any = np.int64) -> str:
        return graph.constant(f"preprocess.{name}", value, dtype)

    x = graph.add("Transpose", (IMAGE,), "preprocess.nchw", perm=[0, 3, 1, 2])
    if steps.resize is not None:
        if steps.resize < max(steps.crop):
            raise ConverterError("this preprocessing pads after resizing, which the graph cannot do")
        # torchvision: the short edge becomes `resize`, the long one int(resize * long / short).
        # One edge at a time: ONNX Runtime's shape inference does not follow a broadcast here.
        shape = graph.add("Shape", (x,), "preprocess.shape")
        names = ("height", "width")
        sizes = [
            graph.add("Slice", (shape, constant(f"{i}", [i]), constant(f"{i + 1}", [i + 1])), f"preprocess.{name}")
            for i, name in zip((2, 3), names)
        ]
        short, target = graph.add("Min", tuple(sizes), "preprocess.short"), constant("resize", [steps.resize])
        resized = [
            graph.add("Div", (graph.add("Mul", (size, target), f"{size}.scaled"), short), f"{size}.resized")
            for size in sizes
        ]
        outer = graph.add("Slice", (shape, constant("0", [0]), constant("2", [2])), "preprocess.outer")
        # All four sizes, not two with `axes`: ONNX Runtime's transpose optimiser mishandles the latter.
        edges = graph.add("Concat", (outer, *resized), "preprocess.edges", axis=0)
        mode, extra = MODES[steps.interpolation]
        attributes = {"mode": mode, "antialias": int(steps.antialias), "coordinate_transformation_mode": "half_pixel"}
        x = graph.add("Resize", (x, "", "", edges), "preprocess.resized", **attributes, **extra)
    shape = graph.add("Shape", (x,), "preprocess.shape2")
    size = graph.add("Slice", (shape, constant("2", [2]), constant("4", [4])), "preprocess.size2")
    crop = constant("crop", steps.crop)
    # torchvision: int(round((size - crop) / 2)), which rounds halves to even.
    margin = graph.add("Cast", (graph.add("Sub", (size, crop), "preprocess.margin"),), "preprocess.margin.f", to=1)
    half = graph.add("Div", (margin, constant("halves", 2.0, np.float32)), "preprocess.half")
    start = graph.add("Cast", (graph.add("Round", (half,), "preprocess.rounded"),), "preprocess.start", to=7)
    end = graph.add("Add", (start, crop), "preprocess.end")
    x = graph.add("Slice", (x, start, end, constant("axes", [2, 3])), "preprocess.cropped")
    if steps.order == "bgr":
        x = graph.add("Gather", (x, constant("bgr", [2, 1, 0])), "preprocess.reversed", axis=1)
    x = graph.add("Cast", (x,), "preprocess.float", to=1)
    channels = (1, -1, 1, 1)
    std, mean = np.array(steps.std, np.float64), np.array(steps.mean, np.float64)
    x = graph.add("Sub", (x, constant("mean", (255 * mean).reshape(channels), np.float32)), "preprocess.centred")
    graph.add("Div", (x, constant("std", (255 * std).reshape(channels), np.float32)), first)
    graph.nodes += network
