"""Inputs that calibrate reduced precision, and others that judge it by its budget (``parity/budget.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import CannotExpress, ConverterError
from converter.exporters.half import LARGEST
from converter.model import Model
from converter.parity.budget import Judgement, judge
from converter.parity.engines import Run, session
from converter.parity.inputs import Batch, arrays, find_images, synthetic
from converter.predict import usual_preprocess as preprocess_for
from densenet.preprocess import load

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, Any]

CALIBRATION_SEED = 10_000
"""Calibration inputs are never the ones that judge: their seeds start here."""
JUDGES_SEED = 20_000
SYNTHETIC_CALIBRATION = 16
"""Synthetic images that calibrate, beside the real ones: without them inputs unlike any real one saturate."""
SYNTHETIC_JUDGES = 24
MAX_CALIBRATION = 64


def judged(precision: str, run: Run, batches: Sequence[Batch], truths: Sequence[Array]) -> Judgement:
    """Hold an engine of that precision against float32's logits (N, classes) for the same batches."""
    return judge([run(batch.array) for batch in batches], truths, precision, kinds=[batch.kind for batch in batches])


def check_range(proto: onnx.ModelProto, batches: Sequence[Batch]) -> None:
    """Refuse float16 where a value between two operators would overflow it.

    On a CPU that computes float16 in float32 such a value goes unnoticed; on a GPU it does not.

    Args:
        proto: the float32 graph.
        batches: inputs to run it on.

    Raises:
        CannotExpress: a value is beyond 65504; names where.
    """
    import onnx  # noqa: PLC0415 (slow to import)

    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    given = {value.name for value in shown.graph.output}
    for node in shown.graph.node:
        shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name not in given)
    running = session(shown.SerializeToString())
    names = [value.name for value in running.get_outputs()]
    for batch in batches:
        for name, array in zip(names, running.run(None, {proto.graph.input[0].name: batch.array[:1]})):
            largest = float(np.abs(array).max(initial=0))
            if not largest <= LARGEST:
                raise CannotExpress(f"{name} reaches {largest:.0f}, beyond {LARGEST:.0f}, the largest of float16")


def calibration_inputs(model: Model, images: Sequence[Array] = ()) -> list[Array]:
    """Inputs that set the ranges of 8-bit numbers: real images, and synthetic ones with natural spectra.

    Args:
        model: the network, and what images go through before it.
        images: preprocessed images (1, C, H, W); at most 64 are used, evenly taken.
    """
    step = max(1, -(-len(images) // MAX_CALIBRATION))
    shape = _shape(model, 1)
    made = [synthetic("natural", shape, CALIBRATION_SEED + i).array for i in range(SYNTHETIC_CALIBRATION)]
    return [*images[::step], *made]


def judges(model: Model, images: Sequence[Array] = ()) -> list[Batch]:
    """Inputs on which a reduced precision is compared with float32; arguments as for :func:`calibration_inputs`."""
    kinds = ["natural"] * (SYNTHETIC_JUDGES // 4 - 1) + ["noise"]
    made = [synthetic(kind, _shape(model, 4), JUDGES_SEED + i) for i, kind in enumerate(kinds)]
    return made + [Batch(f"image {i}", image, "images") for i, image in enumerate(images)]


def images_of(model: Model, folder: str | Path) -> list[Array]:
    """Every image below a folder, preprocessed for the model, or those of a ``.npy``: float32 (1, C, H, W) each.

    Raises:
        ConverterError: there are none, or one cannot be read.
    """
    if Path(folder).suffix == ".npy":
        return [image[None] for batch in arrays(Path(folder), model.config) for image in batch.array]
    preprocess = preprocess_for(model.preprocess, model.config)
    try:
        return [load(path, preprocess) for path in find_images(Path(folder))]
    except ValueError as error:
        raise ConverterError(str(error)) from error


def _shape(model: Model, count: int) -> tuple[int, ...]:
    config = model.config
    if config.spatial_dims != 2:
        space: tuple[int, ...] = (32,) * config.spatial_dims
    elif config.in_channels in (1, 3):
        space = preprocess_for(model.preprocess, config).crop
    else:
        space = (224, 224)
    return (count, config.in_channels, *space)


def rounded(value: Any) -> Any:
    """Floats with 3 significant digits: the rest depends on the processor."""
    if isinstance(value, float):
        return float(f"{value:.3g}") if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    return value
