"""Whether a graph that takes 8-bit images prepares them as the network's images are prepared."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import onnx

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, first_line
from converter.engines.onnxruntime import session
from converter.exporters.graph import IMAGE
from converter.parity.checks import Check
from converter.parity.proto import dims_of
from densenet.config import DenseNetConfig
from densenet.images import load
from densenet.preprocess import Preprocess
from densenet.topology import INPUT

LEVELS = 2.5
"""Permitted root mean square difference on white noise, in steps of an 8-bit number.

ONNX Runtime's antialiasing is not quite Pillow's, and shows up to 1.5; another filter or size shows 5 and more.
"""
SCALES = (0.9, 2.2)
"""Edges of test images, in units of what they are resized to: images are made larger, and smaller."""


def prepares_images(
    proto: onnx.ModelProto, config: DenseNetConfig, preprocess: Preprocess | None, *, resized: bool = False
) -> Check:
    """Compare what a graph of this tool's makes of images of several shapes with what Pillow makes of them.

    What it hands to the network is ``pixel_values``; where the reference says no preprocessing, the usual is meant.
    A graph that is fixed to one size is given such images; one that says it takes them ``resized``, those.
    """
    name = "image preparation"
    try:
        steps = preprocess or Preprocess.usual(config)
    except ValueError as error:
        return Check(name, False, str(error))
    steps = replace(steps, resize=None) if resized else steps
    dims = dims_of(proto.graph.input[0])
    fixed = tuple(int(n) for n in dims[1:3]) if all(isinstance(n, int) for n in dims[1:3]) else ()
    if resized and fixed != steps.crop:
        return Check(name, False, f"takes images that are resized already, of {fixed}, {steps.crop} expected")
    step = (255 * np.array(steps.std)).reshape(-1, 1, 1)
    random = np.random.Generator(np.random.PCG64(0))
    try:
        run = front(proto)
        for size in [fixed] if len(fixed) == 2 else sizes(steps):
            image = random.integers(0, 256, (*size, steps.channels), np.uint8)
            expected = load(image[..., 0] if steps.channels == 1 else image, steps)[0]
            found = run(image[None])[0]
            if found.shape != expected.shape:
                return Check(name, False, f"{list(found.shape)} made of {size}, {list(expected.shape)} expected")
            off = float(np.sqrt((((found - expected) * step) ** 2).mean()))
            if not off <= LEVELS:
                return Check(name, False, f"an image of {size[0]}x{size[1]} is off by {off:.1f} of 255 levels")
    except Exception as error:  # ONNX Runtime's errors share no class
        return Check(name, False, f"cannot be computed ({first_line(error)})")
    return Check(name, True)


def front(proto: onnx.ModelProto) -> Callable[[Array], Array]:
    """What a graph of this tool's makes of 8-bit images (N, H, W, C), before the network.

    Raises:
        ConverterError: it does not say, or ONNX Runtime does not take it.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(proto)
    last = next((i for i, node in enumerate(cut.graph.node) if INPUT in node.output), None)
    if last is None or cut.graph.input[0].name != IMAGE:
        raise ConverterError(f"no {INPUT} is made of {IMAGE}")
    del cut.graph.node[last + 1 :], cut.graph.output[:]
    cut.graph.output.append(onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, None))
    batch = cut.graph.input[0].type.tensor_type.shape.dim[0]
    batch.Clear()  # any number
    running = session(cut.SerializeToString(), threads=1)

    def run(images: Array) -> Array:
        made: Array = running.run(None, {IMAGE: images})[0]
        return made

    return run


def sizes(steps: Preprocess) -> Iterator[tuple[int, int]]:
    """Heights and widths of images, upright and wide, of which every way to round leaves another crop.

    The long edge is no whole number after resizing, and what is cropped off is 1 or 3 more than a multiple of 4:
    half of it rounds down in one, up in the other.  Where both edges are resized, that does not depend on the image.
    """
    if isinstance(steps.resize, tuple):
        for scales in product(SCALES, SCALES):
            height, width = (max(2, round(scale * edge)) for scale, edge in zip(scales, steps.resize))
            yield height, width
        return
    target = steps.resize or max(steps.crop)
    for scale, upright, rest in product(SCALES, (False, True), (1, 3)):
        short = max(2, round(scale * target)) if steps.resize else target
        crop = steps.crop[0 if upright else 1]
        for long in range(short + 1, 3 * short + 8):
            resized, fraction = divmod(target * long, short)
            if (resized - crop) % 4 == rest and resized > target and (fraction or not steps.resize):
                yield (long, short) if upright else (short, long)
                break
