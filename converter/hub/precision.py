"""Reduced precision, made and judged: is the smaller file still the same model for its users?

fp16 and 8 bits do change the logits, so they have a budget of their own, which says
what may change and is printed with every verdict:

* the root mean square error of the logits, relative to how far they spread over the
  classes (their standard deviation), and
* top-1 agreement on the inputs that float32 decides: those where its best class leads by
  more than twice the permitted error.  Where it leads by less, two classes are as good
  as equal and either answer is right; how often the answers differ is reported too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import CannotExpress, ConverterError
from converter.exporters.half import LARGEST
from converter.model import Model
from converter.parity.engines import Run, session
from converter.parity.inputs import Batch, find_images, synthetic
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


@dataclass(frozen=True)
class Budget:
    """What a precision may change.

    Attributes:
        error: of the logits, relative to their standard deviation over the classes.
        agreement: fraction of the decided inputs whose best class must stay the same.
    """

    error: float
    agreement: float


BUDGETS: Mapping[str, Budget] = {"fp16": Budget(0.01, 0.99), "int8": Budget(0.10, 0.95)}


@dataclass(frozen=True)
class Judgement:
    """A reduced precision against float32.

    Attributes:
        precision: ``fp16`` or ``int8``.
        inputs: images compared; ``decided`` those that float32 decides.
        error: root mean square, relative to the standard deviation of the logits over the classes.
        top1: fraction of all inputs whose best class is the same; ``top1_decided`` of the decided ones.
        top5: fraction of all inputs whose five best classes are the same set.
        budget: what was allowed.
        problem: why it fails, empty if it passes.
        kinds: what the inputs were, with their numbers.
    """

    precision: str
    inputs: int
    decided: int
    error: float
    top1: float
    top1_decided: float | None
    top5: float
    budget: Budget
    problem: str = ""
    kinds: Mapping[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether it stays within its budget."""
        return not self.problem

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values; figures have 3 significant digits, what is infinite is null."""
        values: dict[str, Any] = rounded(asdict(self))
        return values | {"passed": self.passed}


def judge(precision: str, run: Run, batches: Sequence[Batch], truths: Sequence[Array]) -> Judgement:
    """Compare an engine of that precision with float32's logits (N, classes) for the same batches."""
    budget = BUDGETS[precision]
    truth = np.concatenate(truths).astype(np.float64)
    got = np.concatenate([run(batch.array) for batch in batches]).astype(np.float64)
    kinds: dict[str, int] = {}
    for batch in batches:
        kinds[batch.kind] = kinds.get(batch.kind, 0) + len(batch.array)
    if not np.isfinite(got).all():
        problem = f"{int((~np.isfinite(got)).sum())} of {got.size} logits are NaN or infinite"
        return Judgement(precision, len(truth), 0, float("inf"), 0.0, None, 0.0, budget, problem, kinds)
    scale = float(truth.std(axis=1).mean()) if truth.shape[1] > 1 else float(np.abs(truth).mean())
    difference = float(np.sqrt(((got - truth) ** 2).mean()))
    error = difference / scale if scale else float("inf") if difference else 0.0
    ordered = np.sort(truth, axis=1)
    lead = ordered[:, -1] - ordered[:, -2] if truth.shape[1] > 1 else np.abs(ordered[:, 0])
    same = got.argmax(1) == truth.argmax(1)
    decided = lead > 2 * budget.error * scale
    k = min(5, truth.shape[1])
    best = [np.sort(np.argsort(-values, axis=1, kind="stable")[:, :k], axis=1) for values in (got, truth)]
    agreed = float(same[decided].mean()) if decided.any() else None
    problems = []
    if error > budget.error:
        problems.append(f"logit error {error:.1%} exceeds {budget.error:.0%}")
    if agreed is not None and agreed < budget.agreement:
        problems.append(f"only {agreed:.1%} of {int(decided.sum())} decided inputs keep their class")
    return Judgement(
        precision,
        len(truth),
        int(decided.sum()),
        error,
        float(same.mean()),
        agreed,
        float((best[0] == best[1]).all(1).mean()),
        budget,
        "; ".join(problems),
        kinds,
    )


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
    """Every image below a folder, preprocessed for the model: float32 (1, C, H, W) each.

    Raises:
        ConverterError: there are none, or one cannot be read.
    """
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
