"""A network on something else than the processor: its graph in half precision, and the batch that is fastest there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import CannotExpress, ConverterError
from converter.core.model import Model
from converter.engines.devices import DEVICES

if TYPE_CHECKING:
    from converter.use.predictor import Predictor

TRIED = (8, 32, 128)
"""Sizes of batches; few, since TensorRT compiles a network anew for each."""
GAIN = 1.1
"""By how much more images a second a larger batch has to pay."""


def graph_for(model: Model, device: str) -> tuple[bytes, tuple[str, ...]]:
    """The graph of a checkpoint as a device computes it best, and what to say of that; in float32 for the processor."""
    from converter.exporters.onnx import lazy_onnx, to_onnx  # noqa: PLC0415 (onnx is slow to import)

    if not device:
        return to_onnx(model).SerializeToString(), ()
    from converter.core.interface import Interface  # noqa: PLC0415 (for few)
    from converter.exporters.fp16 import to_half  # noqa: PLC0415 (onnx is slow to import)
    from converter.exporters.presented import presented  # noqa: PLC0415 (onnx is slow to import)

    name = DEVICES[device].name
    try:
        half = presented(to_half(lazy_onnx(model)), model, Interface()).whole()
    except CannotExpress as error:
        return to_onnx(model).SerializeToString(), (f"{name} computes in float32: {error}",)
    said = f"{name} computes in float16; an ONNX file is computed as it is, in float32 if that is what it has"
    return half.SerializeToString(), (said,)


def with_best_batch(found: Predictor) -> Predictor:
    """A predictor on a device with the batch that is fastest there; as it is where its images have no one size."""
    steps = found.preprocess
    if found.takes_pixels or not steps.crop:
        return found
    run = found.network.start()
    one = np.zeros((1, steps.channels, *steps.crop), np.float32)
    batch = best_batch(lambda x: run(x)[0], one)
    return replace(found, batch=batch, notes=(*found.notes, f"batches of {batch} images, of {TRIED} the fastest there"))


def best_batch(run: Callable[[Array], Array], one: Array, clock: Callable[[], float] = time.perf_counter) -> int:
    """The batch at which most images a second are computed: the next larger one as long as that pays.

    Args:
        run: the engine.
        one: a batch of one image.
        clock: seconds.
    """
    best, fastest = TRIED[0], 0.0
    for size in TRIED:
        x = np.repeat(one, size, 0)
        try:
            run(x)  # plans, compiles and allocates
            start = clock()
            run(x)
        except ConverterError:  # no memory for so many
            break
        speed = size / max(clock() - start, 1e-9)
        if fastest and speed < GAIN * fastest:
            break
        best, fastest = size, speed
    return best
