"""Images prepared inside the graph, from uint8 pixels.

The steps of ``densenet.preprocess`` as ONNX operators: short edge resized (antialiased,
with torchvision's arithmetic for the long one) or both edges, centre crop, scale, normalise.
"""

from typing import Any

import numpy as np

from converter.core.errors import ConverterError
from converter.exporters.graph import IMAGE, Graph
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess
from densenet.topology import INPUT

ANTIALIAS_OPSET = 18
"""The first with antialiased resizing."""
MODES = {"bilinear": ("linear", {}), "bicubic": ("cubic", {"cubic_coeff_a": -0.5})}


def steps_of(config: DenseNetConfig, preprocess: Preprocess | None) -> Preprocess:
    """What a graph does to images: as said (None: as usual).

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
    if steps.resize is not None and steps.pads:
        raise ConverterError("this preprocessing pads after resizing, which the graph cannot do")
    return steps


def resizes(steps: Preprocess, opset: int) -> bool:
    """Whether operators of that version can do all of it, or images have to come resized and cropped."""
    return opset >= ANTIALIAS_OPSET or steps.resize is None or steps.interpolation == "nearest" or not steps.antialias


def image_input(steps: Preprocess, *, resized: bool = False) -> Graph:
    """What makes ``pixel_values`` of ``image``, uint8 (N, H, W, C); where that is ``resized``, of what is cropped."""
    graph = Graph(input=IMAGE)
    x = graph.add("Transpose", (IMAGE,), "preprocess.nchw", perm=[0, 3, 1, 2])
    if not resized:
        x = _resized(graph, x, steps) if steps.resize is not None else x
        x = _cropped(graph, x, steps)
    if steps.order == "bgr":
        x = graph.add("Gather", (x, _constant(graph, "bgr", [2, 1, 0])), "preprocess.reversed", axis=1)
    x = graph.add("Cast", (x,), "preprocess.float", to=1)
    channels = (1, -1, 1, 1)
    std, mean = np.array(steps.std, np.float64), np.array(steps.mean, np.float64)
    taken = _constant(graph, "mean", (255 * mean).reshape(channels), np.float32)
    x = graph.add("Sub", (x, taken), "preprocess.centred")
    graph.add("Div", (x, _constant(graph, "std", (255 * std).reshape(channels), np.float32)), INPUT)
    return graph


def _constant(graph: Graph, name: str, value: Any, dtype: Any = np.int64) -> str:
    return graph.constant(f"preprocess.{name}", value, dtype)


def _resized(graph: Graph, x: str, steps: Preprocess) -> str:
    """An image (N, C, H, W) with its short edge, or both, as asked for."""
    shape = graph.add("Shape", (x,), "preprocess.shape")
    # One edge at a time: ONNX Runtime's shape inference does not follow a broadcast here.
    sizes = [
        graph.add(
            "Slice",
            (shape, _constant(graph, f"{i}", [i]), _constant(graph, f"{i + 1}", [i + 1])),
            f"preprocess.{name}",
        )
        for i, name in ((2, "height"), (3, "width"))
    ]
    if isinstance(steps.resize, tuple):
        edges = [_constant(graph, name, [edge]) for name, edge in zip(("rows", "columns"), steps.resize)]
    else:
        # torchvision: the short edge becomes `resize`, the long one int(resize * long / short).
        short = graph.add("Min", tuple(sizes), "preprocess.short")
        target = _constant(graph, "resize", [steps.resize])
        edges = [
            graph.add("Div", (graph.add("Mul", (size, target), f"{size}.scaled"), short), f"{size}.resized")
            for size in sizes
        ]
    if steps.interpolation == "nearest":
        for axis, size, edge in zip((2, 3), sizes, edges):
            x = _nearest(graph, x, (size, edge), axis)
        return x
    outer = graph.add("Slice", (shape, _constant(graph, "0", [0]), _constant(graph, "2", [2])), "preprocess.outer")
    # All four sizes, not two with `axes`: ONNX Runtime's transpose optimiser mishandles the latter.
    wanted = graph.add("Concat", (outer, *edges), "preprocess.edges", axis=0)
    mode, extra = MODES[steps.interpolation]
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": "half_pixel"}
    attributes |= {"antialias": 1} if steps.antialias else {}
    return graph.add("Resize", (x, "", "", wanted), "preprocess.resized", **attributes, **extra)


def _nearest(graph: Graph, x: str, sizes: tuple[str, str], axis: int) -> str:
    """The rows or columns that Pillow takes, which adds up their places in float64 (libImaging/Geometry.c)."""
    add, name = graph.add, f"preprocess.nearest{axis}"
    have, want = (add("Cast", (size,), f"{name}.{i}", to=11) for i, size in enumerate(sizes))
    step = add("Div", (have, want), f"{name}.step")
    start = add("Mul", (step, _constant(graph, "middle", [0.5], np.float64)), f"{name}.start")
    others = add("Sub", (sizes[1], _constant(graph, "one", [1])), f"{name}.others")
    rest = add("Expand", (step, others), f"{name}.rest")
    terms = add("Concat", (start, rest), f"{name}.terms", axis=0)
    places = add("CumSum", (terms, _constant(graph, "axis", 0)), f"{name}.places")
    whole = add("Cast", (places,), f"{name}.whole", to=7)
    return add("Gather", (x, whole), name, axis=axis)


def _cropped(graph: Graph, x: str, steps: Preprocess) -> str:
    """The centre of an image (N, C, H, W)."""
    shape = graph.add("Shape", (x,), "preprocess.shape2")
    edges = (_constant(graph, "2", [2]), _constant(graph, "4", [4]))
    size = graph.add("Slice", (shape, *edges), "preprocess.size2")
    crop = _constant(graph, "crop", steps.crop)
    # torchvision: int(round((size - crop) / 2)), which rounds halves to even.
    margin = graph.add("Cast", (graph.add("Sub", (size, crop), "preprocess.margin"),), "preprocess.margin.f", to=1)
    half = graph.add("Div", (margin, _constant(graph, "halves", 2.0, np.float32)), "preprocess.half")
    start = graph.add("Cast", (graph.add("Round", (half,), "preprocess.rounded"),), "preprocess.start", to=7)
    end = graph.add("Add", (start, crop), "preprocess.end")
    return graph.add("Slice", (x, start, end, _constant(graph, "axes", [2, 3])), "preprocess.cropped")
