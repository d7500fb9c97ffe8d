"""The reference in other hands: PyTorch's other forms, its own file, its own framework, and its users' own code."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import TypeVar

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.core.model import Model
from converter.core.source import Source
from converter.engines.frameworks import FRAMEWORKS, framework_of, source_engine
from converter.engines.original import Ended, Original, OriginalProcess, asked
from converter.engines.specs import THREADED
from converter.engines.torch import windowed_engine
from converter.fetch.place import Place
from converter.parity.activation import activation_of_numbers
from converter.parity.artifact import Artifact
from converter.parity.axes import listed
from converter.parity.bench import Bench
from converter.parity.checks import Check
from converter.parity.compare import Comparison, compare, failed, relative_error
from converter.parity.joint import Joint
from converter.parity.trial import Trial, floats, pixels
from converter.use.activation import activated
from converter.use.inputs import Batch

Given = TypeVar("Given", Array, Array | ConverterError)
OWN_FILE = "its own file"
DOUBLE = float(np.finfo(np.float64).eps / np.finfo(np.float32).eps)
SLACK = 16.0
"""What float64 is permitted beyond float32's limit in its own, finer steps: two programs of the same arithmetic."""


class Sources:
    """Everything that computes what the reference is, beside our own reading of it."""

    def __init__(
        self, model: Model, place: Place, source: Source, bench: Bench, head: str = "", joint: Joint | None = None
    ) -> None:
        self.model, self.place, self.specs, self.original = model, place, bench.specs, bench.original
        self.joint = joint
        self.threaded = [spec for spec in self.specs if spec.kind in THREADED]
        self.files: list[Artifact] = []
        held = place.tree is not None
        if model.origin.format == "onnx" and not held and (self.threaded or not self.specs):
            file = Artifact.of_onnx(OWN_FILE, place, source)
            self.files.append(file.of(head, joint) if head else file)
        named = [spec.kind for spec in self.specs if spec.kind in FRAMEWORKS]
        if head and named:
            raise ConverterError(f"{named[0]} is asked for the logits of one head; --head NAME says which")
        if held and (named or self.original is not None):
            raise ConverterError(
                f"{place.path}: its own framework, and an original, read a file; save it and name that"
            )
        usual = "" if self.specs or head else framework_of(model)
        self.frameworks = named or ([usual] if usual and not held else [])
        self.left_out = usual if held else ""
        self.forms = [spec for spec in self.specs if spec.kind == "torch" and spec.option]

    def count(self) -> int:
        """How many engines will run."""
        files = sum(len(list(file.runs(self.threaded))) for file in self.files)
        return files + len(self.frameworks) + len(self.forms) + 2 * (self.original is not None)

    def judged(self, trial: Trial) -> None:
        """Run all of them, and judge them.

        Raises:
            ConverterError: one that was asked for by name cannot be started.
        """
        plain = [batch for batch in trial.truth.batches if batch.pixels is None]
        if self.left_out:
            trial.note(f"not compared with {self.left_out}: it is in memory, and in no file that could be loaded")
        for spec in self.forms:
            made = trial.compute(spec.label, partial(floats, spec.start(None, self.model)), trial.truth.batches)
            trial.judge(spec.label, trial.truth.batches, made)
        for file in self.files:
            self.own_file(trial, file)
        for framework in self.frameworks:
            try:
                name, run = source_engine(self.model, self.place.path, framework)
            except ConverterError as error:
                if self.specs:
                    raise
                why = str(error).replace(str(self.place.path), self.place.path.name)  # reports are published
                trial.note(f"not compared with its own framework: {why}")
                continue
            foreign(trial, f"{name}, its own model", partial(floats, run), plain)
        if self.original is not None:
            ask(trial, Original.of(self.original), self.model, self.place, plain)

    def own_file(self, trial: Trial, file: Artifact) -> None:
        """The ONNX file that is the reference, as it is."""
        if file.precision() != "fp32":
            trial.note(f"not compared with {OWN_FILE} in ONNX Runtime: it computes in {file.precision()}")
            return
        assert file.proto is not None
        batches = trial.suitable(file)
        for name, start in file.runs(self.threaded):
            run = partial(pixels if batches[0].pixels is not None else floats, start())
            foreign(trial, name, run, batches)


def foreign(
    trial: Trial, name: str, run: Callable[[Batch], Array], batches: Sequence[Batch]
) -> tuple[list[Batch], str]:
    """Judge what others compute; on the inputs they take, in the numbers they give.

    Networks of fixed size are common among them: another size is then no failure, and said.

    Returns:
        the inputs on which they were judged, and what they put behind the logits.
    """
    made = [rows(output) for output in trial.compute(name, run, batches)]
    outputs = [None if isinstance(output, ConverterError) else output for output in made]
    activation = activation_of_numbers(outputs, [trial.truth.of(batch)[0] for batch in batches])
    judge = trial.under(name, activation)
    pairs = list(zip(*judge.known(batches, made)))
    sizes = Counter(batch.array.shape[2:] for batch, _ in pairs)
    usual = next(iter(sizes.most_common(1)), ((), 0))[0]
    wrong = {batch.array.shape[2:] for batch, output in pairs if not judge.fits(batch, output)}
    for size in sorted(wrong) if usual not in wrong else ():
        there = [pair for pair in pairs if pair[0].array.shape[2:] == size]
        why = why_not(judge, there, next(b.array for b, _ in pairs if b.array.shape[2:] == usual), activation)
        if why:
            trial.note(f"{name}: not compared on inputs of {listed({size})}{why}")
            pairs = [pair for pair in pairs if pair[0].array.shape[2:] != size]
    kept = [batch for batch, _ in pairs]
    judge.judge(name, kept, [output for _, output in pairs])
    return kept, activation


def rows(output: Given) -> Given:
    """Logits (N, classes) of a network whose head is a 1x1 convolution, without the axes of length 1 behind them."""
    if isinstance(output, ConverterError) or set(output.shape[2:]) != {1}:
        return output
    return output.reshape(output.shape[:2])


def why_not(judge: Trial, made: Sequence[tuple[Batch, Array | ConverterError]], usual: Array, activation: str) -> str:
    """Why a network whose ``usual`` inputs are of one size is not to be held to another one; empty where it is."""
    refused = [output for _, output in made if isinstance(output, ConverterError) and not isinstance(output, Ended)]
    if len(refused) == len(made):
        return f", which it does not take ({refused[0]})"
    model, given = judge.truth.model, [(b, o) for b, o in made if not isinstance(o, ConverterError)]
    if model is None or len(given) < len(made):
        return ""
    window = windowed_engine(model, usual[:1])
    if all(
        relative_error(o, activated(window(batch.array), activation)) <= judge.truth.of(batch)[1] for batch, o in given
    ):
        size = "x".join(map(str, usual.shape[2:]))
        return f", where it computes something else: its last pooling has the size of the maps of {size}"
    return ""


# -- the users' own code ------------------------------------------------------------------------


def ask(trial: Trial, original: Original, model: Model, place: Place, batches: Sequence[Batch]) -> None:
    """Hold the original against our reading: in float32 as any engine, and in float64 where it is a torch module.

    Raises:
        ConverterError: it cannot be started.
    """
    name = f"the original, {original.name}"
    trial.progress(f"starting {name}")
    with asked(original, place.path, model) as process:
        trial.rests_on = f"the original's own logits ({original.name})"
        trial.note(f"the original ({original.name}) is {WHAT[process.kind]}; {process.loaded}")
        same, check = same_weights(process, model)
        if check is not None:
            trial.checks[name] = [check]
        taken, activation = foreign(trial, name, lambda batch: process.run(batch.array), batches)
        if process.kind == "torch":
            in_double(trial, process, name, taken, activation, exact=same)
    wrong = [c for key, found in trial.results.items() if key.startswith(name) for c in found if np.isfinite(c.error)]
    if same and not all(c.passed for c in wrong):
        trial.note(
            f"every tensor is the same in {name}, bit for bit: what differs is what no tensor shows "
            f"(--set {SHOWN_BY_NONE})"
        )


SHOWN_BY_NONE = "eps, stem_stride, stem_pool, transition_pool, padding, final_relu, hidden_activation, global_pool"
WHAT = {"torch": "a PyTorch module", "keras": "a Keras model", "function": "a function of images"}


def in_double(
    trial: Trial, process: OriginalProcess, name: str, batches: Sequence[Batch], activation: str, *, exact: bool
) -> None:
    """Our oracle and theirs must agree to what float64 rounds to.

    Where our weights are not theirs bit for bit (something was folded into them), to what float32 does.
    """
    judge = trial.under(name, activation)
    comparisons: list[Comparison] = []
    for batch in judge.known(batches, batches)[0]:
        expected, limit = judge.truth.of(batch)
        allowed = limit * DOUBLE * SLACK if exact else limit
        trial.progress(f"{name} in float64, {batch.name}")
        try:
            logits = rows(process.run(batch.array, double=True))
        except Ended as error:
            comparisons.append(failed(batch.name, allowed, str(error)))
            continue
        except ConverterError as error:
            trial.note(f"the original was not run in float64: {error}")
            return
        if logits.dtype != np.float64:
            trial.note(f"the original gives {logits.dtype} in float64, too, and was judged in float32 alone")
            return
        comparisons.append(compare(batch.name, logits, expected, allowed, np.float64))
    trial.results[f"{name}, in float64"] = comparisons


def same_weights(process: OriginalProcess, model: Model) -> tuple[bool, Check | None]:
    """Whether every tensor as we read it is one of the original's, bit for bit."""
    if process.kind != "torch":
        return False, None
    ours = {name: t for name, t in model.tensors.items() if prod(t.shape) and not name.endswith("num_batches_tracked")}
    data = ((name, np.ascontiguousarray(tensor.read(), np.float32).tobytes()) for name, tensor in ours.items())
    strange = [name for name, values in data if hashlib.sha256(values).hexdigest() not in process.weights]
    if not strange:
        return True, Check("weights", True, f"all {len(ours)} tensors are the original's, bit for bit")
    detail = f"{len(strange)} of {len(ours)} tensors are not the original's bit for bit, first {strange[0]}"
    return False, Check("weights", None, detail)
