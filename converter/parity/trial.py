"""One candidate after another against the truth: what it says, what it computes, where it breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import partial
from itertools import zip_longest
from typing import TypeVar

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, Unavailable, UnsafeFile
from converter.core.memory import give_back
from converter.core.model import Model, usual_activation
from converter.core.progress import Progress
from converter.engines.run import Run
from converter.engines.specs import Spec
from converter.exporters.graph import IMAGE, PROBABILITIES
from converter.parity.activation import activation_of_graph, activation_of_numbers, compare_probabilities, through
from converter.parity.artifact import Artifact
from converter.parity.axes import frozen_axes, listed
from converter.parity.budget import BUDGETS, NOT_JUDGED, Judgement, judge
from converter.parity.checks import Check, different_weights, follows, model_checks, same_numbers
from converter.parity.compare import (
    DISCRIMINATION,
    FACTOR,
    Comparison,
    compare,
    failed,
    measured,
    relative_error,
    spread,
)
from converter.parity.locate import Break, locate
from converter.parity.made_of import made_of_others
from converter.parity.onnx_checks import odd_eps, onnx_checks
from converter.parity.precision import precision_of_model
from converter.parity.proto import activation_of
from converter.parity.runtime_checks import runtime_checks
from converter.parity.truth import YARDSTICK, Truth, kind_of_pixels
from converter.parity.verdict import Verification
from converter.use.inputs import Batch

T = TypeVar("T")
FEW = 5
"""Images at once, which is none of the inputs' numbers; the other is all there are of one size, or more:"""
MANY = 24
"""Images at once, some of them twice; of volumes there are no more than there are."""
FLAT = 4
"""Axes of images that are no volumes."""


class Trial:
    """Collects the verdict, candidate by candidate."""

    def __init__(self, truth: Truth, progress: Progress) -> None:
        self.truth, self.progress, self.rests_on = truth, progress, truth.rests_on
        self.results: dict[str, list[Comparison]] = {}
        self.checks: dict[str, list[Check]] = {}
        self.breaks: dict[str, Break] = {}
        self.budgets: dict[str, Judgement] = {}
        self.logits: dict[str, tuple[Array, Array]] = {}
        self.notes: list[str] = []
        self.problems: list[str] = []

    def note(self, text: str) -> None:
        """Say something, once."""
        if text not in self.notes:
            self.notes.append(text)

    def compute(
        self, name: str, run: Callable[[Batch], Array], batches: Sequence[Batch]
    ) -> list[Array | ConverterError]:
        """What one engine makes of some of the inputs, or why it makes nothing."""
        outputs: list[Array | ConverterError] = []
        for batch in batches:
            self.progress(f"{name}, {batch.name}")
            try:
                outputs.append(run(batch))
            except ConverterError as error:
                outputs.append(error)
        return outputs

    def fits(self, batch: Batch, output: Array | ConverterError) -> bool:
        """Whether an engine's logits are what they should be."""
        if isinstance(output, ConverterError):
            return False
        expected, limit = self.truth.of(batch)
        return relative_error(output, expected) <= limit

    def under(self, name: str, activation: str) -> Trial:
        """The same trial, for what gives probabilities: held against the probabilities of the reference's logits."""
        if not activation:
            return self
        other = copy(self)
        other.truth = through(self.truth, activation)
        self.note(f"{name} gives probabilities ({activation}); they are compared with those of the reference's logits")
        limits = other.truth.limits
        if not limits or not spread(other.truth.truths) > DISCRIMINATION * float(np.median(limits)):
            self.problems.append(f"{name}: the probabilities hardly differ between the inputs, and prove nothing")
        return other

    def known(self, batches: Sequence[Batch], outputs: Sequence[T]) -> tuple[list[Batch], list[T]]:
        """Those of the inputs on which this trial judges."""
        names = {batch.name for batch in self.truth.batches}
        pairs = [(batch, output) for batch, output in zip(batches, outputs) if batch.name in names]
        return [batch for batch, _ in pairs], [output for _, output in pairs]

    def judge(
        self, name: str, batches: Sequence[Batch], outputs: Sequence[Array | ConverterError]
    ) -> list[Array | None]:
        """Judge one engine's logits, or why there are none, on some of the inputs."""
        comparisons = self.results.setdefault(name, [])
        for batch, output in zip(batches, outputs):
            expected, limit = self.truth.of(batch)
            if isinstance(output, ConverterError):
                comparisons.append(failed(batch.name, limit, str(output)))
            else:
                comparisons.append(compare(batch.name, output, expected, limit))
        logits = [None if isinstance(output, ConverterError) else output for output in outputs]
        self.keep(name, batches, logits)
        return logits

    def keep(self, name: str, batches: Sequence[Batch], outputs: Sequence[Array | None]) -> None:
        """Logits for the plots, each batch in units of its largest."""
        expected = [self.truth.of(batch)[0] for batch in batches]
        pairs = [(t, o) for t, o in zip(expected, outputs) if o is not None and o.shape == t.shape and t.any()]
        if pairs:
            scales = [np.abs(t).max() for t, _ in pairs]
            both = [np.concatenate([(p[i] / s).ravel() for p, s in zip(pairs, scales)]) for i in (0, 1)]
            self.logits[name] = (both[0], both[1])

    def artifact(self, file: Artifact, specs: Sequence[Spec]) -> None:
        """One candidate: what it says, what it computes, and where it breaks.

        Raises:
            ConverterError: it gives something that is not known of the reference.
        """
        trial = copy(self)
        if file.is_headless() and self.truth.config.num_classes:
            trial.truth = trial.truth.of_features()
            self.note(f"{file.name} ends before the classifier; what it gives is compared")
        if file.in_half()[1]:
            trial.truth = trial.truth.rounded_to_half()
        trial.candidate(file, specs)

    def candidate(self, file: Artifact, specs: Sequence[Spec]) -> None:
        """The same against the truth that is right for it."""
        truth, name, precision = self.truth, file.name, self.precision(file)
        self.progress(f"{name}, static checks")
        self.checks[name] = self.static(file)
        if note := made_of_others(file, truth.model):
            self.note(note)
        eight_bit = file.takes_pixels()
        batches = self.suitable(file)
        if file.is_channels_last():
            self.note(f"{name} takes images (N, H, W, C); it is given them so")
        for engine, start in file.runs(specs):
            try:
                run = self.as_the_reference(file, engine) or start()
            except (Unavailable, UnsafeFile):
                raise
            except ConverterError as error:
                self.results[engine] = [failed("loading", 0.0, str(error))]
                continue
            told = batches if file.main() else []
            made = self.compute(engine, partial(pixels if eight_bit else floats, run), told)
            outputs = [None if isinstance(output, ConverterError) else output for output in made]
            if file.model is None:
                found = [c for c in frozen_axes(told, outputs) if c not in self.checks[name]]
                self.checks[name] += found
            judge = self.under(name, self.activation(file, told, outputs))
            telling, made = judge.known(told, made)
            logits = judge.judge(engine, telling, made) if told else []
            for output in file.further_outputs():
                if output == PROBABILITIES or output in truth.values:
                    compute = partial(pixels if eight_bit else floats, dict(file.runs(specs, output))[engine]())
                    self.further(engine, output, compute, file, zip_longest(batches, outputs))
                    del compute
                else:
                    why = "the reference records none" if truth.model is None else "nothing is known of it"
                    self.checks[name].append(Check(f"output {output}", None, why))
            if told and precision == "fp32" and not eight_bit and file.takes_any_batch():
                self.results[engine] += judge.together(run, telling)
            seen = [key for key in self.results if key == engine or (not told and key.startswith(f"{engine}, "))]
            agrees = all(c.passed for key in seen for c in self.results[key])
            agrees = agrees and all(c.ok is not False for c in self.checks[name])
            if precision != "fp32":
                judge.budget(engine, precision, telling, logits)
            elif not agrees and (culprit := self.where(file, engine)) is not None:
                self.breaks[engine] = culprit
            del run  # and with it the engine's copy of the weights
            give_back()

    def as_the_reference(self, file: Artifact, engine: str) -> Run | None:
        """What PyTorch computed of the reference, for a checkpoint of which it would compute the very same again."""
        truth = self.truth
        if engine != f"{YARDSTICK}, {file.name}" or truth.model is None or not same_numbers(truth.model, file.model):
            return None
        self.note(f"{file.name} is the same network bit for bit: what {YARDSTICK} computed of the reference is its own")
        known = [(batch.array, truth.rounded[batch.name]) for batch in truth.batches]
        return lambda x: next(logits for array, logits in known if array is x)

    def suitable(self, file: Artifact) -> list[Batch]:
        """The inputs that a file takes.

        Raises:
            ConverterError: there are none.
        """
        size = file.fixed()
        if file.takes_pixels():
            batches = [batch for batch in self.truth.batches if batch.kind == kind_of_pixels(file)]
        else:
            plain = [batch for batch in self.truth.batches if batch.pixels is None]
            batches = [batch for batch in plain if not size or batch.array.shape[2:] == size]
        if not batches:
            raise ConverterError(
                f"{file.name}: takes images of {listed({size})} only, and no input of the record is so"
            )
        return batches

    def activation(self, file: Artifact, batches: Sequence[Batch], outputs: Sequence[Array | None]) -> str:
        """What a file of others puts behind its logits."""
        if file.model is not None or file.is_own():
            return ""
        truths = [self.truth.of(batch)[0] for batch in batches]
        return (activation_of_graph(file.proto) if file.proto is not None else "") or activation_of_numbers(
            outputs, truths
        )

    def together(self, run: Run, batches: Sequence[Batch]) -> list[Comparison]:
        """The same images in other company: what comes of one must not depend on how many come at once."""
        sizes = [batch.array.shape[1:] for batch in batches]
        alike = [batch for batch, size in zip(batches, sizes) if size == max(sizes, key=sizes.count)]
        once, again = sum(len(batch.array) for batch in alike), [*alike, *alike]
        most = max(once, MANY) if alike[0].array.ndim == FLAT else once
        images = np.concatenate([batch.array for batch in again])[:most]
        result = []
        for count in sorted({min(FEW, len(images)), len(images)}):
            name = f"{count} images together"
            try:
                rows = run(images[:count])
            except ConverterError as error:
                result.append(failed(name, 0.0, str(error)))
                continue
            found, start = [], 0
            for batch in again:
                expected, limit = self.truth.of(batch)
                part = expected[: max(0, min(len(expected), count - start))]
                if len(part):
                    found.append(compare(name, rows[start : start + len(part)], part, limit))
                start += len(expected)
            result.append(max(found, key=lambda c: c.error / c.limit if c.limit else 0.0))
        return result

    def further(
        self,
        engine: str,
        output: str,
        run: Callable[[Batch], Array],
        file: Artifact,
        logits: Iterable[tuple[Batch, Array | None]],
    ) -> None:
        """Another output than the logits: features like the oracle's, or the probabilities of the file's own logits."""
        name, precision = f"{engine}, {file.called(file.output(output))}", self.precision(file)
        pairs = [
            (b, own)
            for b, own in logits
            if (precision == "fp32" or b.kind not in NOT_JUDGED) and (own is not None or output != PROBABILITIES)
        ]
        comparisons = self.results.setdefault(name, [])
        stated = activation_of(file.proto) if file.proto is not None else ""
        activation = stated or self.truth.images.activation or usual_activation(self.truth.config.num_classes)
        for (batch, own), found in zip(pairs, self.compute(name, run, [batch for batch, _ in pairs])):
            if isinstance(found, ConverterError):
                comparisons.append(failed(batch.name, 0.0, str(found)))
            elif output == PROBABILITIES and own is not None:
                half = precision in ("fp16", "bf16") or file.in_half()[1]
                comparisons.append(compare_probabilities(batch.name, found, own, activation, half=half))
            else:
                expected, limit = self.truth.values[output][batch.name]
                limit = limit if precision == "fp32" else FACTOR * BUDGETS[precision].error
                comparisons.append(compare(batch.name, found, expected, limit))

    def static(self, file: Artifact) -> list[Check]:
        """What can be compared without computing."""
        truth = self.truth
        if file.proto is not None:
            return onnx_checks(file, truth.config, truth.images, truth.model)
        if file.runtime is not None:
            return runtime_checks(file, truth, self.precision(file))
        assert file.model is not None and truth.model is not None
        found = model_checks(truth.model, file.model, self.precision(file))
        return [*found, Check("engine", None, file.elsewhere)] if file.elsewhere else found

    def precision(self, file: Artifact) -> str:
        """What a file's weights were reduced to; ``fp32`` if they are no coarser than the reference's."""
        model = self.truth.model
        if file.model is not None and model is not None and file.precision() == precision_of_model(model):
            return "fp32"
        return file.precision()

    def budget(self, engine: str, precision: str, batches: Sequence[Batch], outputs: Sequence[Array | None]) -> None:
        """Replace float32's verdict by the budget of a reduced precision."""
        pairs = [(b, o, self.truth.of(b)[0]) for b, o in zip(batches, outputs) if o is not None]
        if len(pairs) < len(batches):
            return
        judged = [(b, o, t) for b, o, t in pairs if b.kind not in NOT_JUDGED]
        if not judged:
            return
        judgement = judge(
            [o for _, o, _ in judged], [t for _, _, t in judged], precision, kinds=[b.kind for b, _, _ in judged]
        )
        self.budgets[engine] = judgement
        whole = {b.name: o.shape == t.shape and bool(np.isfinite(o).all()) for b, o, t in pairs}
        by_float32 = {c.batch: c for c in self.results[engine]}
        self.results[engine] = [
            measured(b.name, o, t, judgement.budget.error) if whole[b.name] else by_float32[b.name]
            for b, o, t in pairs
            if b.kind not in NOT_JUDGED
        ]

    def where(self, file: Artifact, engine: str) -> Break | None:
        """The module to blame, by intermediate results; by its weights where those show nothing."""
        model = self.truth.model
        if model is None:
            return None
        self.progress(f"{engine}, where it breaks")
        failing = {c.batch: c.error / c.limit if c.limit else 0.0 for c in self.results.get(engine, ()) if c.problem}
        batches = [b for b in self.truth.batches if b.name in failing] or self.truth.batches[:1]
        # One image is enough, unless the fault is between images.
        alone = [b for b in batches if len(b.array) == 1] or sorted(batches, key=lambda b: len(b.array))[:1]
        batch = max(alone, key=lambda b: (failing.get(b.name, 0.0) != float("inf"), failing.get(b.name, 0.0)))
        found: Break | None = None
        try:
            graph = file.named_graph()
            found = locate(model, graph, batch.array)
            if not found.module and failing and graph.graph.input[0].name == IMAGE:
                found = Break("preprocess", "the image is not prepared as the reference's are", 0.0, found.steps)
        except ConverterError as error:
            self.notes.append(f"{file.name}: where it breaks cannot be said: {error}")
        if found is None or not found.module or not file.is_own():
            found = self.by_weights(model, file, found) or found
        elif file.model is not None and (told := self.by_weights(model, file, found)) is not None:
            # Values on the way differ where a checkpoint has norms folded; weights, as they act, do not.
            both = [module for module in model.config.modules() if module.name in (found.module, told.module)]
            found = found if len(both) == 1 or follows(*both) else told
        return found if found is None or found.module or failing else None

    def by_weights(self, model: Model, file: Artifact, found: Break | None) -> Break | None:
        """The first module whose weights differ, where both are readable and alike."""
        try:
            other = file.inspection.model
            if other.config.tensors() != model.config.tensors():
                return None
            odd = odd_eps(file.proto) if file.proto is not None and file.is_own() else None
            module, problem = next(different_weights(model, other), odd or ("", ""))
        except ConverterError:
            return None
        return Break(module, problem, 0.0, found.steps if found else ()) if module else None

    # -- the whole -------------------------------------------------------------------

    def verification(self, reference: str, start: float, seed: int | None) -> Verification:
        """Everything so far, and whether the inputs could have told."""
        truth, problems = self.truth, list(dict.fromkeys(self.problems))
        if not all(np.isfinite(values).all() for values in truth.truths):
            problems.append("the reference itself computes NaN or infinite logits")
        differ = spread([values for values in truth.truths if np.isfinite(values).all()])
        needed = DISCRIMINATION * float(np.median(truth.limits))
        if not differ > needed:
            problems.append(
                "the inputs prove nothing: logits hardly differ between them "
                f"(spread {differ:.1e}, {needed:.1e} needed)"
            )
        return Verification(
            reference,
            truth.oracle,
            self.results,
            max(truth.limits),
            max(truth.own),
            differ,
            tuple(problems),
            time.perf_counter() - start,
            tuple(batch.spec() for batch in truth.batches),
            self.checks,
            self.breaks,
            self.budgets,
            tuple(self.notes),
            self.logits,
            seed,
            rests_on=self.rests_on,
            fingerprint=truth.model.fingerprint if truth.model is not None else "",
        )


def floats(run: Run, batch: Batch) -> Array:
    """An engine's logits for a batch as networks take it."""
    return run(batch.array)


def pixels(run: Run, batch: Batch) -> Array:
    """Those of an engine that takes 8-bit images."""
    assert batch.pixels is not None
    return run(batch.pixels)
