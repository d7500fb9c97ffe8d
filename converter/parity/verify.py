"""Verify: is this artifact the same network as that checkpoint?"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from converter.core.errors import ConverterError, Unavailable
from converter.core.model import Images, Model, several
from converter.core.progress import Progress, Steps, shown_in_notebooks
from converter.core.shorthand import Shorthand, records, taken
from converter.core.source import AnySource, Source
from converter.engines.specs import THREADED, check_installed, parse_specs
from converter.engines.torch import has_torch
from converter.fetch.place import resolve
from converter.parity.artifact import Artifact
from converter.parity.bench import USUAL, Bench, BenchFields
from converter.parity.compare import RULE
from converter.parity.heads import by_heads, heads_of
from converter.parity.joint import Joint
from converter.parity.record import check_record, read_record, write_record
from converter.parity.sources import Sources
from converter.parity.trial import Trial
from converter.parity.truth import YARDSTICK, Truth
from converter.parity.verdict import Verification
from converter.reading.load import inspect_place

__all__ = ["RULE", "Verification", "verify", "verify_against"]


class Conditions(Shorthand, BenchFields, total=False):
    """The fields of a :class:`Bench`, of the reference's :class:`Source` and of its :class:`Images` as keywords."""


def verify(
    reference: AnySource,
    *candidates: AnySource,
    bench: Bench | None = None,
    about: Images | None = None,
    record: str | Path | None = None,
    force: bool = False,
    progress: Progress = shown_in_notebooks,
    **conditions: Unpack[Conditions],
) -> Verification:
    """Compare artifacts with a checkpoint, by what they say and by the logits they compute.

    The reference runs in PyTorch in float64; an artifact passes when its error on every input
    is within 5 times PyTorch's own float32 error there (or 8 ulps), and no setting, weight or
    declaration differs.  Where one fails, the module that is to blame is named.  That the
    reference is read right is our word, unless the original is asked (``original``).

    Args:
        reference: any checkpoint, as for :func:`converter.load`.
        candidates: ``.onnx`` files, run in ONNX Runtime as they are, and those of other runtimes in theirs; other
            checkpoints, run in PyTorch.  None: the reference's own ONNX export, made in memory.
        bench: what to compare on, and in which engines.
        about: what the reference itself does not say of its images and classes.
        record: write inputs, logits and limits to this ``.npz`` for :func:`verify_against`.
        force: whether that may replace a file that this tool did not write.
        progress: called with a line before each step.
        conditions: the fields of all these records as keywords.

    Raises:
        Unavailable: PyTorch is not installed, or an engine asked for is not.
        ConverterError: a file cannot be read, or is no DenseNet.

    Example:
        >>> from converter import verify
        >>> verdict = verify("digits.pth", "digits.onnx")
        >>> verdict.passed
        True
    """
    if not has_torch():
        raise Unavailable(
            "PyTorch is not installed: pip install 'densenet-converter[torch]', "
            "or verify against a recorded reference (--against FILE)"
        )
    bench = replace(bench or USUAL, **taken(conditions, BenchFields))
    source, described = records(reference, about, conditions)
    record = None if record is None else Path(record)
    if record is not None:
        check_record(record, force=force)
    progress(f"reading {source}")
    place = resolve(source.address)
    model = inspect_place(place, source).model.described(described).fingerprinted()
    files = Artifact.open_all(candidates) or [Artifact.export(model)]
    if not model.config.heads:
        plain = _with_heads(files, source)
        asked = Sources(model, place, source, bench)
        return _judged(str(source), model, plain, asked, bench, progress, record, force=force)
    if record is not None or bench.original is not None:
        raise several(model.config, "a record, and an original, are of one head")

    joint = Joint(tuple(head.name for head in model.config.heads))

    def of_head(head: str) -> Verification:
        own, branch = [file.of(head, joint) for file in files], model.branch(head)
        sources = Sources(branch, place, source, bench, head, joint)
        return _judged(str(source), branch, own, sources, bench, progress)

    return by_heads(model.config, of_head)


def _with_heads(files: Sequence[Artifact], source: Source) -> list[Artifact]:
    """Candidates for a plain network; of several heads the one that was read of the reference."""
    head = (source.head or "").replace("/", ".").rpartition(".")[2]
    several_in = [
        heads_of(file.proto) if file.proto is not None else file.runtime is None and file.found.model.config.heads
        for file in files
    ]
    return [file.of(head) if heads else file for file, heads in zip(files, several_in)]


def _judged(
    name: str,
    model: Model,
    files: Sequence[Artifact],
    sources: Sources,
    bench: Bench,
    progress: Progress,
    record: Path | None = None,
    *,
    force: bool = False,
) -> Verification:
    """The verdict on a plain network."""
    start = time.perf_counter()
    progress("starting PyTorch")
    specs, steps = bench.specs, Steps(progress)
    steps.engines = 2 + sum(len(list(file.runs(specs))) for file in files) + sources.count()
    truth = Truth.compute(model, bench, [*files, *sources.files], steps, sources.joint)
    trial = Trial(truth, steps)
    trial.judge(YARDSTICK, truth.batches, [truth.rounded[batch.name] for batch in truth.batches])
    sources.judged(trial)
    for file in files:
        trial.artifact(file, specs)
    if record is not None:
        write_record(record, truth, trial.rests_on, force=force)
    return trial.verification(name, start, bench.seed)


def verify_against(
    record: str | Path,
    candidate: AnySource,
    *,
    engines: Sequence[str] = (),
    progress: Progress = shown_in_notebooks,
) -> Verification:
    """Compare an ONNX file with a recorded reference, without PyTorch.

    Args:
        record: what ``verify(..., record=...)`` wrote.
        candidate: an ``.onnx`` file.
        engines: as in a :class:`Bench`, those for ONNX files; default ONNX Runtime.
        progress: called with a line before each step.

    Raises:
        ConverterError: the record or the file cannot be read.

    Example:
        >>> from converter import verify_against
        >>> verify_against("reference.npz", "digits.onnx")
        Verification('reference.npz', 1 engines, passed)
    """
    start = time.perf_counter()
    specs = parse_specs(engines)
    if any(spec.kind not in THREADED for spec in specs):
        raise ConverterError(f"a recorded reference is for ONNX files: engines are {' and '.join(THREADED)}")
    check_installed(specs)
    truth = read_record(Path(record))
    file = Artifact.open(candidate)
    if file.model is not None:
        raise ConverterError(f"{Source.of(candidate)}: a recorded reference is for ONNX files; export it first")
    if file.takes_pixels() or file.in_half()[0]:
        what = "8-bit images" if file.takes_pixels() else "float16 images"
        raise ConverterError(f"{Source.of(candidate)}: takes {what}; verify it against its checkpoint")
    trial = Trial(truth, progress)
    trial.artifact(file, specs)
    return trial.verification(str(record), start, None)
