"""What calibrates 8-bit numbers: typical inputs, and what the values of a graph are on them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import onnx

from converter.core.checkpoint import Array
from converter.core.errors import CannotExpress, ConverterError
from converter.core.model import Model
from converter.core.progress import Progress
from converter.engines.onnxruntime import session
from converter.exporters.fp16 import LARGEST
from converter.exporters.int8 import needed, to_int8
from converter.exporters.lazy import LazyModel
from converter.exporters.moments import Add, InParts, Needed, Seen
from converter.use.assumed import preprocess_for
from converter.use.in_order import one_ahead
from converter.use.inputs import Batch, arrays, synthetic
from converter.use.sample import sampled
from densenet.images import load
from densenet.topology import INPUT


def calibrate(model: LazyModel, inputs: Iterable[Array], progress: Progress = lambda _: None) -> LazyModel:
    """A float32 model in 8 bits, with the ranges its values have on these inputs (N, C, H, W).

    ``progress`` is called with a line for each image.

    Raises:
        CannotExpress: the graph takes bytes, or its opset is too old.
        ConverterError: ONNX Runtime cannot run it, or there is no calibration input.
    """
    return to_int8(model, seen(model, needed(model), inputs, progress))


def values(model: LazyModel, names: Iterable[str], images: Iterable[Array]) -> Iterator[tuple[str, Array]]:
    """What values of these names in a graph are on each batch of images."""
    wanted = list(names)
    running = _tapped(model, wanted)
    for image in images:
        yield from zip(wanted, running(wanted, image))


def _tapped(model: LazyModel, names: Sequence[str]) -> Callable[[Sequence[str], Array], list[Array]]:
    """Gives some values of a graph on images; ``names`` are all that will be asked for."""
    shown = model.derived()
    graph = shown.proto.graph
    del graph.output[:]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    running = session(shown)
    return lambda wanted, image: running.run(wanted, {graph.input[0].name: image})


def seen(model: LazyModel, wanted: Needed, inputs: Iterable[Array], progress: Progress) -> Seen:
    """Ranges of values (N, C, ...) and moments of what convolutions take, on these inputs.

    Of moments, ``HELD`` bytes are held; for the others, part by part, the inputs go through the network once more when
    they are asked for.

    Raises:
        ConverterError: there are no inputs, or a value is not finite.
    """
    images = [batch[i : i + 1] for batch in inputs for i in range(len(batch))]  # one at a time saves memory
    if not images:
        raise ConverterError("8 bits need at least one input to calibrate with")
    ranges, random = dict[str, tuple[Array, Array]](), np.random.default_rng(CALIBRATION_SEED)
    chosen: dict[str, list[Array]] = {conv: [] for convs in wanted.takers.values() for conv in convs}
    names = [name for name in dict.fromkeys([*wanted.ranges, *wanted.takers]) if name != INPUT]
    running, moments = _tapped(model, names), InParts(HELD)

    def announced(names: Sequence[str]) -> Iterator[tuple[str, Array]]:
        for number, found in enumerate(one_ahead(partial(running, names) if names else lambda _: [], images), 1):
            progress(f"calibrating int8: image {number} of {len(images)}")
            for name in names:
                yield name, found.pop(0)  # and no longer in memory when the next image's are

    def given(names: Sequence[str]) -> Iterator[tuple[str, Array]]:
        return chain(((INPUT, image) for image in images), announced(names))

    for name, value in given(names):
        axes = (0, *range(2, value.ndim))
        low, high = (end(axis=axes).astype(np.float64) for end in (value.min, value.max))
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise ConverterError(f"{name} is NaN or infinite on a calibration input")
        before = ranges.get(name, (low, high))
        ranges[name] = (np.minimum(before[0], low), np.maximum(before[1], high))
        for conv, window in wanted.takers.get(name, {}).items():
            chosen[conv].append(window.some(value[0].shape, random))
            moments.add(conv, window, value[0], chosen[conv][-1])

    def again(part: Collection[str], add: Add) -> None:
        taken = {name: convs.keys() & part for name, convs in wanted.takers.items()}
        at = Counter[str]()
        for name, value in given([name for name, convs in taken.items() if convs and name != INPUT]):
            for conv in taken.get(name, ()):
                add(conv, wanted.takers[name][conv], value[0], chosen[conv][at[conv]])
                at[conv] += 1

    moments.again = again
    progress("rounding weights")
    return Seen(ranges, moments)


HELD = 1 << 29
"""Bytes of moments that are held at a time: those of a DenseNet-161 (482 MB), 201 and smaller ones are seen at once."""
UNSEEN = (
    "int8 was calibrated with synthetic images only, which costs accuracy on real ones; "
    "--calibration FOLDER takes typical images"
)
"""The note where no images calibrate."""
CALIBRATION_SEED = 10_000
"""Calibration inputs are never the ones that judge: their seeds start here."""
SYNTHETIC_CALIBRATION = 16
"""Synthetic images that calibrate, beside the real ones: without them inputs unlike any real one saturate."""
MAX_CALIBRATION = 64


def check_range(model: LazyModel, batches: Sequence[Batch]) -> None:
    """Refuse float16 where a value between two operators of a float32 model would overflow it on these inputs.

    On a CPU that computes float16 in float32 such a value goes unnoticed; on a GPU it does not.

    Raises:
        CannotExpress: a value is beyond 65504; names where.
    """
    graph = model.proto.graph
    given = [value.name for value in graph.output]
    names = dict.fromkeys([*given, *(name for node in graph.node for name in node.output)])
    for name, array in values(model, names, (batch.array[:1] for batch in batches)):
        largest = float(np.abs(array).max(initial=0))
        if not largest <= LARGEST:
            raise CannotExpress(f"{name} reaches {largest:.0f}, beyond {LARGEST:.0f}, the largest of float16")


def calibration_inputs(model: Model, images: Sequence[Array] = ()) -> list[Array]:
    """Inputs that set the ranges of 8-bit numbers: real images, and synthetic ones with natural spectra.

    Of the images, preprocessed (1, C, H, W), at most 64 are used, evenly taken.
    """
    shape = input_shape(model, 1)
    made = [synthetic("natural", shape, CALIBRATION_SEED + i).array for i in range(SYNTHETIC_CALIBRATION)]
    return [*typical(images), *made]


def typical(images: Sequence[Array]) -> Sequence[Array]:
    """Those of the images that set ranges: at most 64, evenly taken."""
    return images[:: max(1, -(-len(images) // MAX_CALIBRATION))]


def images_of(model: Model, folder: str | Path) -> list[Array]:
    """Every image below a folder, preprocessed for the model, or those of a ``.npy``: float32 (1, C, H, W) each.

    Of a list or shards (:mod:`converter.use.sample`) at most 128, of which as many can calibrate as can judge.

    Raises:
        ConverterError: there are none, or one cannot be read.
    """
    if Path(folder).suffix == ".npy":
        return [image[None] for batch in arrays(Path(folder), model.config) for image in batch.array]
    steps = preprocess_for(model.config, model.images)
    try:
        return [load(image, steps) for image in sampled(folder, 2 * MAX_CALIBRATION, volumes=steps.of_volumes)]
    except ValueError as error:
        raise ConverterError(str(error)) from error


def input_shape(model: Model, count: int) -> tuple[int, ...]:
    """Shape of ``count`` images of the size a network is meant for."""
    config, steps = model.config, model.images.preprocess
    usual = (32,) * config.spatial_dims if config.spatial_dims != 2 else (config.usual_size,) * 2
    return (count, config.in_channels, *(steps.crop if steps and steps.crop else usual))
