"""The budget of reduced precision: fp16, bf16 and int8 change logits by design, within stated thresholds.

Where float32's best class leads by less than twice the permitted error, two classes are as
good as equal and either answer is right; agreement is asked of the other inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.core.model import Model
from converter.engines.run import Run
from converter.parity.compare import agreement, divergences
from converter.use.calibrate import input_shape
from converter.use.inputs import Batch, synthetic
from converter.use.network import logits_of, names_of
from densenet.config import DenseNetConfig


@dataclass(frozen=True)
class Budget:
    """What a precision may change.

    Attributes:
        error: largest root mean square error of the logits, relative to their standard
            deviation over the classes; of a single class, to its mean size.
        agreement: least fraction of the decided inputs whose best class stays the same.
    """

    error: float
    agreement: float


BUDGETS: Mapping[str, Budget] = {"fp16": Budget(0.01, 0.99), "bf16": Budget(0.08, 0.95), "int8": Budget(0.10, 0.95)}

SINGLE_CLASS = 3.0
"""How many times the permitted error one class alone may be off: the files of 32 honest
networks of 5 to 1000 classes stay below half of it; a class that is lost or another's is beyond it."""

NOT_JUDGED = frozenset({"large", "loud", "bytes"})
"""Kinds of input no prepared image is like; float16 ends at 65504, 8 bits at what calibration saw."""


@dataclass(frozen=True)
class Judgement:
    """A variant's figures against its budget.

    Attributes:
        precision: ``fp16``, ``bf16`` or ``int8``.
        budget: the thresholds.
        images: how many were compared; ``decided`` those whose best class leads clearly.
        error: as in :class:`Budget`, measured; ``worst`` that of the class that is off most.
        top1, top5: fraction of all images with the same best class (set of five best).
        top1_decided: of the decided ones; None if there are none.
        kl: mean Kullback-Leibler divergence of the probabilities, in nats.
        problems: thresholds missed; empty if it passes.
        kinds: what the images were, with their numbers.
    """

    precision: str
    budget: Budget
    images: int
    decided: int = 0
    error: float = float("inf")
    worst: float = float("inf")
    top1: float = 0.0
    top5: float = 0.0
    top1_decided: float | None = None
    kl: float = float("inf")
    problems: tuple[str, ...] = ()
    kinds: Mapping[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every threshold is kept."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values; what is not a number becomes null."""
        values = asdict(self) | {"passed": self.passed, "problems": list(self.problems)}
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}

    def __str__(self) -> str:
        decided = "none of them decided" if self.top1_decided is None else f"{self.top1_decided:.1%} of the decided"
        return (
            f"{self.precision} on {self.images} images: logit error {self.error:.2g} (at most {self.budget.error:g}), "
            f"top-1 agreement {decided} (at least {self.budget.agreement:.0%}), {self.top1:.1%} of all; "
            f"top-5 {self.top5:.1%}, KL {self.kl:.1g}"
        )


def judge(
    logits: Sequence[Array],
    expected: Sequence[Array],
    precision: str,
    *,
    kinds: Sequence[str] = (),
) -> Judgement:
    """Judge a variant's logits (N, classes) against the full model's on the same inputs, all batches together.

    ``kinds`` says what each batch is, for the record.

    Raises:
        ConverterError: there is no such precision, or there are no images.
    """
    if precision not in BUDGETS:
        raise ConverterError(f"no budget for {precision!r}; there are {', '.join(BUDGETS)}")
    allowed = BUDGETS[precision]
    images = sum(len(batch) for batch in expected)
    if not images:
        raise ConverterError("no images to judge a precision by")
    counts: dict[str, int] = {}
    for kind, batch in zip(kinds, expected):
        counts[kind] = counts.get(kind, 0) + len(batch)
    if [batch.shape for batch in logits] != [batch.shape for batch in expected]:
        return Judgement(precision, allowed, images, problems=("logits of another shape",), kinds=counts)
    got, want = (np.concatenate([b.astype(np.float64) for b in batches]) for batches in (logits, expected))
    if not np.isfinite(got).all():
        lost = f"{int((~np.isfinite(got)).sum())} of {got.size} logits are NaN or infinite"
        return Judgement(precision, allowed, images, problems=(lost,), kinds=counts)
    several = want.shape[1] > 1
    # A single class has nothing to spread over, and leads zero.
    unit = float(want.std(axis=1).mean() if several else np.abs(want).mean())
    difference = float(np.sqrt(((got - want) ** 2).mean()))
    error = difference / unit if unit else float("inf") if difference else 0.0
    ordered = np.sort(want, axis=1)
    lead = ordered[:, -1] - ordered[:, -2] if several else np.abs(ordered[:, 0])
    decided = lead > 2 * allowed.error * unit
    agreed = agreement(got[decided], want[decided], 1) if decided.any() else None
    each = np.sqrt(((got - want) ** 2).mean(axis=0)) / (unit or 1.0)
    worst = int(each.argmax())
    problems = []
    if not error <= allowed.error:
        problems.append(f"logit error {error:.3g} exceeds {allowed.error:g}")
    if not each[worst] <= SINGLE_CLASS * allowed.error:
        problems.append(f"class {worst} is off by {each[worst]:.3g}, more than {SINGLE_CLASS * allowed.error:g}")
    if agreed is not None and agreed < allowed.agreement:
        problems.append(
            f"{agreed:.1%} of {int(decided.sum())} decided images keep their class, {allowed.agreement:.0%} must"
        )
    return Judgement(
        precision,
        allowed,
        images,
        int(decided.sum()),
        error,
        float(each[worst]),
        agreement(got, want, 1),
        agreement(got, want, 5),
        agreed,
        float(divergences(got, want).mean()),
        tuple(problems),
        counts,
    )


# -- inputs on which a reduced precision is compared with float32 ---------------------------------

JUDGES_SEED = 20_000
SYNTHETIC_JUDGES = 24


def judged(
    precision: str, run: Run, batches: Sequence[Batch], truths: Sequence[Array], config: DenseNetConfig
) -> Judgement:
    """Hold an engine of that precision against float32's logits (N, classes) for the same batches.

    Of several heads, whose logits stand side by side, each figure is the worst of any.
    """
    logits, kinds = [run(batch.array) for batch in batches], [batch.kind for batch in batches]
    if [batch.shape for batch in logits] != [batch.shape for batch in truths]:
        return judge(logits, truths, precision, kinds=kinds)
    found = {}
    for head in names_of(config):
        own = logits_of(config, head)
        found[head] = judge([x[:, own] for x in logits], [x[:, own] for x in truths], precision, kinds=kinds)
    return found[""] if "" in found else worst(found)


def worst(found: Mapping[str, Judgement]) -> Judgement:
    """The judgements on several heads as one."""
    every = [*found.values()]
    return replace(
        every[0],
        decided=sum(each.decided for each in every),
        error=max(each.error for each in every),
        worst=max(each.worst for each in every),
        top1=min(each.top1 for each in every),
        top5=min(each.top5 for each in every),
        top1_decided=min((each.top1_decided for each in every if each.top1_decided is not None), default=None),
        kl=max(each.kl for each in every),
        problems=tuple(f"head {head}: {problem}" for head, each in found.items() for problem in each.problems),
    )


def judges(model: Model, images: Sequence[Array] = ()) -> list[Batch]:
    """Inputs on which a reduced precision is compared with float32; arguments as for :func:`calibration_inputs`."""
    kinds = ["natural"] * (SYNTHETIC_JUDGES // 4 - 1) + ["noise"]
    made = [synthetic(kind, input_shape(model, 4), JUDGES_SEED + i) for i, kind in enumerate(kinds)]
    return made + [Batch(f"image {i}", image, "images") for i, image in enumerate(images)]
