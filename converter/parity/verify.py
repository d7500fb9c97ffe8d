"""Verify: is this artifact the same network as that checkpoint?"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from converter.address import shown
from converter.convert import load
from converter.errors import ConverterError, Unavailable
from converter.parity.artifact import Artifact
from converter.parity.compare import RULE
from converter.parity.engines import has_torch
from converter.parity.onnx_checks import takes_pixels
from converter.parity.record import write_record
from converter.parity.source import FRAMEWORK_OF
from converter.parity.specs import THREADED, check_installed, parse_specs
from converter.parity.steps import Progress, Steps
from converter.parity.trial import Trial
from converter.parity.truth import YARDSTICK, Truth
from converter.parity.verdict import Verification

__all__ = ["RULE", "Verification", "verify", "verify_against"]


def verify(
    reference: str | Path,
    *candidates: str | Path,
    images: str | Path | None = None,
    seed: int = 0,
    record: str | Path | None = None,
    layout: str | None = None,
    weights: str | None = None,
    drop: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
    preprocess: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
    engines: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> Verification:
    """Compare artifacts with a checkpoint, by what they say and by the logits they compute.

    The reference runs in PyTorch in float64; an artifact passes when its error on every input
    is within 5 times PyTorch's own float32 error there (or 8 ulps), and no setting, weight or
    declaration differs.  Where one fails, the module that is to blame is named.

    Args:
        reference: any checkpoint.
        candidates: ``.onnx`` files, run in ONNX Runtime as they are; other checkpoints,
            run in PyTorch.  None: the reference's own ONNX export, made in memory.
        images: a folder of images, or a ``.npy`` array of preprocessed ones, to use beside
            synthetic inputs; default: the digits that ship with the package.
        seed: of the synthetic inputs.
        record: write inputs, logits and limits to this ``.npz`` for :func:`verify_against`.
        layout, weights, drop, settings: how to read the reference, as for :func:`converter.load`.
        preprocess, labels: what the reference itself does not say of its images and classes.
        engines: what computes (see ``specs.py``), e.g. ``onnxruntime-basic@1``, ``openvino``,
            ``torch-compiled``, ``torchvision``; default: ONNX Runtime, PyTorch, and the
            framework the reference comes from where it is installed.
        progress: called with a line before each step.

    Raises:
        Unavailable: PyTorch is not installed, or an engine asked for is not.
        ConverterError: a file cannot be read, or is no DenseNet.
    """
    start = time.perf_counter()
    if not has_torch():
        raise Unavailable(
            "PyTorch is not installed: pip install 'densenet-converter[torch]', "
            "or verify against a recorded reference (--against FILE)"
        )
    specs = parse_specs(engines)
    check_installed(specs)
    progress(f"reading {shown(reference)}")
    model = load(reference, layout=layout, weights=weights, drop=drop, settings=settings)
    model = replace(model, preprocess=preprocess or model.preprocess, labels=tuple(labels) or model.labels)
    files = Artifact.open_all(candidates) or [Artifact.export(model)]
    progress("starting PyTorch")
    steps = Steps(progress)
    steps.engines = 2 + sum(len(list(file.runs(specs))) for file in files)
    steps.engines += sum(spec.is_source or (spec.kind == "torch" and bool(spec.option)) for spec in specs)
    steps.engines += not specs and model.source.layout in FRAMEWORK_OF
    truth = Truth.compute(model, images, seed, files, steps)
    trial = Trial(truth, steps)
    trial.judge(YARDSTICK, truth.batches, [truth.rounded[batch.name] for batch in truth.batches])
    trial.sources(model, reference, specs)
    for file in files:
        trial.artifact(file, specs)
    if record is not None:
        write_record(Path(record), model, truth.batches, truth.truths, truth.limits)
    return trial.verification(shown(reference), start, seed)


def verify_against(
    record: str | Path,
    candidate: str | Path,
    *,
    engines: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> Verification:
    """Compare an ONNX file with a recorded reference, without PyTorch.

    Args:
        record: what ``verify(..., record=...)`` wrote.
        candidate: an ``.onnx`` file.
        engines: as for :func:`verify`, those for ONNX files; default ONNX Runtime.
        progress: called with a line before each step.

    Raises:
        ConverterError: the record or the file cannot be read.
    """
    start = time.perf_counter()
    specs = parse_specs(engines)
    if any(spec.kind not in THREADED for spec in specs):
        raise ConverterError(f"a recorded reference is for ONNX files: engines are {' and '.join(THREADED)}")
    check_installed(specs)
    truth = Truth.recorded(Path(record))
    file = Artifact.open(candidate)
    if file.proto is None:
        raise ConverterError(f"{candidate}: a recorded reference is for ONNX files; export it first")
    if takes_pixels(file.proto):
        raise ConverterError(f"{candidate}: takes 8-bit images; verify it against its checkpoint")
    trial = Trial(truth, progress)
    trial.artifact(file, specs)
    return trial.verification(str(record), start, None)
