"""One variant: a network, its surgery, its container; what the tool makes of it, and whether that is right."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from converter import ConverterError, convert, export_onnx, load
from tools.surgery.around import AROUND
from tools.surgery.containers import CONTAINERS, CannotMake, Container
from tools.surgery.inside import INSIDE
from tools.surgery.keras_patient import KERAS_SURGERIES, KerasPatient, admit_keras, answer_keras, build
from tools.surgery.patient import Patient, admit, answer, enliven
from tools.surgery.record import Surgery
from tools.surgery.weights import WEIGHTS

SURGERIES = (*INSIDE, *AROUND, *WEIGHTS, *KERAS_SURGERIES)
BY_NAME = {surgery.name: surgery for surgery in SURGERIES}
CONTAINER = {container.name: container for container in CONTAINERS}

EQUAL, NOTED_EQUAL, REFUSED, NOTED, SILENT, CRASHED, UNMADE = (
    "equal",
    "equal, noted",
    "refused",
    "other, noted",
    "SILENT",
    "CRASHED",
    "not made",
)
VERDICTS = (EQUAL, NOTED_EQUAL, REFUSED, NOTED, SILENT, CRASHED)
BAD = (SILENT, CRASHED)
UNSAFE = "unsafe: "
"""What a refusal with exit status 3 begins with here; none of these networks is."""
HUNG = 120
"""Seconds."""


@dataclass(frozen=True)
class Variant:
    """What is tried, by name: all that is needed to make it again."""

    framework: str
    surgeries: tuple[str, ...]
    container: str
    seed: int

    def __str__(self) -> str:
        return f"{self.framework}/{'+'.join(self.surgeries)}/{self.container}/{self.seed}"

    @classmethod
    def of(cls, text: str) -> Variant:
        """The inverse of ``str``.

        Raises:
            ValueError: it is none.
        """
        framework, surgeries, container, seed = text.split("/")
        return cls(framework, tuple(filter(None, surgeries.split("+"))), container, int(seed))


@dataclass(frozen=True)
class Verdict:
    """What came of a variant.

    Attributes:
        variant: which.
        verdict: one of :data:`VERDICTS`, or :data:`UNMADE`.
        detail: the refusal, the largest relative error, the traceback's end, or why it could not be made.
        notes: what the tool said.
        mended: whether the surgery's settings, or what the notes say was left out, make it equal, where that was tried.
    """

    variant: Variant
    verdict: str
    detail: str = ""
    notes: tuple[str, ...] = ()
    mended: bool | None = None


def patient_of(variant: Variant) -> Any:
    """The network with its surgery done.

    Raises:
        CannotMake: the surgeries do not go together.
    """
    rng = random.Random(f"{variant.framework}/{'+'.join(variant.surgeries)}/{variant.seed}")
    surgeries = [BY_NAME[name] for name in variant.surgeries]
    try:
        if variant.framework == "keras":
            keras = admit_keras(rng)
            for surgery in surgeries:
                surgery.operate(keras)
            build(keras)
            return keras
        patient = admit(variant.framework, rng)
        for surgery in surgeries:
            if not surgery.late:
                surgery.operate(patient)
        enliven(patient)
        for surgery in surgeries:
            if surgery.late:
                surgery.operate(patient)
        patient.module.eval()
    except Exception as error:
        raise CannotMake(f"{type(error).__name__}: {error}"[:200]) from error
    return patient


def tried(variant: Variant) -> Verdict:
    """Make a variant, convert it, export it, run it, compare."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        container = CONTAINER[variant.container]
        path = Path(folder) / f"network{container.suffix}"
        try:
            patient = patient_of(variant)
            _save(container, patient, path)
            want = [np.asarray(value) for value in _answer(patient)]
            images = np.asarray(patient.images(2, 2), dtype=np.float32)
            off = _difference(_run(path, images), want) if container.faithful else 0.0
        except CannotMake as error:
            return Verdict(variant, UNMADE, str(error))
        except Exception as error:
            return Verdict(variant, UNMADE, f"{type(error).__name__}: {error}"[:200])
        if not all(np.isfinite(value.astype(np.float64)).all() for value in want):
            return Verdict(variant, UNMADE, "its logits are not finite")
        if off > container.tolerance:
            return Verdict(variant, UNMADE, "its exporter makes another network of it")
        outcome = _judged(variant, path, images, want, {})
        if outcome.verdict == SILENT:
            outcome = _attributed(outcome)
        if outcome.verdict != NOTED:
            return outcome
        settings = {k: v for name in variant.surgeries for k, v in BY_NAME[name].mend.items()}
        if settings:
            mended = _judged(variant, path, images, want, settings)
            return replace(outcome, mended=mended.verdict in (EQUAL, NOTED_EQUAL))
        if any("left out" in note for note in outcome.notes):
            return replace(outcome, mended=_put_back(path.parent, outcome.notes, images, want) <= container.tolerance)
        return outcome


def _softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


ACTIVATIONS: Mapping[str, Callable[[Any], Any]] = {
    r"log_?softmax": lambda x: np.log(_softmax(x)),
    r"softmax": _softmax,
    r"sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    r"argmax": lambda x: x.argmax(1, keepdims=True),
}
"""What notes say was left out behind the logits."""


def _put_back(folder: Path, notes: tuple[str, ...], images: Any, want: list[Any]) -> float:
    """How far the exported network is from the original with what the notes say was left out in front and behind."""
    recorded = load(folder / "out.safetensors").images.preprocess
    images = _turned(folder / "out.onnx", images)
    if recorded and any("before" in note for note in notes):
        mean, std = (np.asarray(v, np.float32).reshape(1, -1, 1, 1) for v in (recorded.mean, recorded.std))
        raw = any("255" in note for note in notes)
        images = ((images / 255 if raw else images) - mean) / std
    outputs = _run(folder / "out.onnx", images)
    said = " ".join(note for note in notes if "behind" in note).lower()
    activation = next((function for name, function in ACTIVATIONS.items() if re.search(name, said)), None)
    return _difference([activation(out) for out in outputs] if activation else outputs, want)


def _save(container: Container, patient: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        container.save(patient, path)


def _answer(patient: Patient | KerasPatient) -> list[Any]:
    return answer_keras(patient) if isinstance(patient, KerasPatient) else answer(patient)


def _judged(variant: Variant, path: Path, images: Any, want: list[Any], settings: dict[str, Any]) -> Verdict:
    """Convert, export, run, compare; what a note must name is asked of every surgery."""
    folder = path.parent
    target, graph = folder / "out.safetensors", folder / "out.onnx"
    try:
        with _bounded():
            conversion = convert(path, target, settings=settings)
            export = export_onnx(target, graph)
    except ConverterError as error:
        said = str(error)
        if "\n" in said or not said or error.exit_status not in (2, 3) or graph.exists():
            return Verdict(variant, CRASHED, f"no clean refusal: {said[:200]}")
        unsafe = UNSAFE if error.exit_status == 3 else ""
        return Verdict(variant, REFUSED, unsafe + said.replace(f"{path}: ", ""))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Verdict(variant, CRASHED, f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"[:300])
    notes = (*conversion.notes, *export.notes)
    try:
        error = _error(graph, images, want)
    except Exception as failure:
        return Verdict(variant, CRASHED, f"the exported graph does not run: {failure}"[:300], notes)
    if error <= CONTAINER[variant.container].tolerance:
        return Verdict(variant, NOTED_EQUAL if notes else EQUAL, f"{error:.1e}", notes)
    unnamed = [name for name in variant.surgeries if not _named(BY_NAME[name], notes)]
    return Verdict(variant, SILENT if unnamed or not variant.surgeries else NOTED, f"{error:.1e}", notes)


def _named(surgery: Surgery, notes: tuple[str, ...]) -> bool:
    return any(re.search(surgery.note, note) for note in notes)


def _attributed(outcome: Verdict) -> Verdict:
    """Where notes name some surgeries of several, whether the others alone are read right: then nothing was silent."""
    variant = outcome.variant
    rest = tuple(name for name in variant.surgeries if not _named(BY_NAME[name], outcome.notes))
    if not rest or len(rest) == len(variant.surgeries):
        return outcome
    alone = tried(replace(variant, surgeries=rest))
    return outcome if alone.verdict in (*BAD, UNMADE) else replace(outcome, verdict=NOTED)


def _session(graph: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _run(graph: Path, images: Any) -> list[Any]:
    """Outputs of an ONNX file, float64."""
    session = _session(graph)
    return [np.asarray(value, np.float64) for value in session.run(None, {session.get_inputs()[0].name: images})]


def _error(graph: Path, images: Any, want: list[Any]) -> float:
    """How far an exported network is from the original; infinity where it takes images of another kind."""
    images = _turned(graph, images)
    fits = images.shape[1] == _session(graph).get_inputs()[0].shape[1]
    return _difference(_run(graph, images), want) if fits else float("inf")


def _turned(graph: Path, images: Any) -> Any:
    """Images with their channels where an exported network takes them; it takes NCHW, whatever the original took."""
    channels = _session(graph).get_inputs()[0].shape[1]
    return images.transpose(0, 3, 1, 2) if images.shape[1] != channels == images.shape[-1] else images


def _difference(got: list[Any], want: list[Any]) -> float:
    """The largest difference to an output of the same shape, relative to the largest logit; without one infinity."""
    errors = []
    for one in want:
        reference = one.astype(np.float64)
        same = [out for out in got if out.shape == reference.shape]
        errors.append(min((np.abs(out - reference).max() for out in same), default=np.inf) / np.abs(reference).max())
    return float(max(errors))


@contextmanager
def _bounded() -> Iterator[None]:
    """A hang is an error."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"more than {HUNG} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HUNG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """What frameworks print, from Python or not, is nobody's business."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    with Path(os.devnull).open("w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, _ in kept:
            os.dup2(nowhere.fileno(), number)
        try:
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
        finally:
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
