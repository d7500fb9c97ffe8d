"""Verify: is this artifact the same network as that checkpoint?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from converter.checkpoint import Tensor
from converter.convert import load
from converter.errors import ConverterError, Unavailable, UnreadableFile
from converter.exporters.npz import write_npz
from converter.formats import open_checkpoint
from converter.model import Model, to_json
from converter.parity.compare import (
    DISCRIMINATION,
    FACTOR,
    FLOOR_ULPS,
    ULP,
    Comparison,
    compare,
    limit_for,
    relative_error,
    spread,
)
from converter.parity.engines import Run, has_torch, onnx_engine, torch_engine, torch_module
from converter.parity.inputs import Batch, find_images, remake, shipped_images, standard
from converter.version import __version__
from densenet.preprocess import Preprocess

Array = np.ndarray[Any, Any]
Progress = Callable[[str], None]
RECORD = "densenet-converter recorded reference"


@dataclass(frozen=True)
class Verification:
    """The verdict.

    Attributes:
        reference: what was taken for the truth.
        oracle: how its logits were computed.
        results: for each engine (what it is, on which file) one comparison per batch.
        limit: the relative error allowed, and ``reference_error`` it is derived from.
        spread: how much the logits differ between inputs, relative to the largest.
        problems: failures that belong to no single batch.
        seconds: how long it took.
    """

    reference: str
    oracle: str
    results: Mapping[str, Sequence[Comparison]]
    limit: float
    reference_error: float
    spread: float
    problems: tuple[str, ...] = ()
    seconds: float = 0.0
    inputs: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    @property
    def passed(self) -> bool:
        """Whether every engine agrees on every input, and the inputs could have told."""
        return not self.problems and all(c.passed for comparisons in self.results.values() for c in comparisons)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "passed": self.passed,
            "reference": self.reference,
            "oracle": self.oracle,
            "limit": self.limit,
            "reference_error": self.reference_error,
            "spread": self.spread,
            "problems": list(self.problems),
            "results": {name: [c.to_dict() for c in comparisons] for name, comparisons in self.results.items()},
            "inputs": [dict(spec) for spec in self.inputs],
            "seconds": round(self.seconds, 3),
            "tool": f"densenet-converter {__version__}",
        }


def verify(
    reference: str | Path,
    *candidates: str | Path,
    images: str | Path | None = None,
    seed: int = 0,
    record: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = lambda _: None,
) -> Verification:
    """Compare artifacts with a checkpoint, by the logits they compute.

    The reference runs in PyTorch in float64; an artifact passes when its error is
    within 8 times PyTorch's own float32 error on the same inputs (or 32 ulps).

    Args:
        reference: any checkpoint.
        candidates: ``.onnx`` files, run in ONNX Runtime as they are; other checkpoints,
            run in PyTorch.  None: the reference's own ONNX export, made in memory.
        images: a folder of images to use beside synthetic inputs; default: the digits
            that ship with the package.
        seed: of the synthetic inputs.
        record: write inputs, logits and limit to this ``.npz`` for :func:`verify_against`.
        settings: config fields no tensor of the reference shows.
        progress: called with a line before each step.

    Raises:
        Unavailable: PyTorch is not installed.
        ConverterError: a file cannot be read, or is no DenseNet.
    """
    start = time.perf_counter()
    if not has_torch():
        raise Unavailable(
            "PyTorch is not installed: pip install 'densenet-converter[torch]', "
            "or verify against a recorded reference (--against FILE)"
        )
    progress(f"reading {reference}")
    model = load(reference, settings=settings)
    engines: dict[str, Run] = {}
    batches = _batches(model, images, seed)
    progress("starting PyTorch")
    module = torch_module(model)
    for name, run in _engines(model, candidates):
        engines[name] = run
    float32 = torch_engine(module)
    logits: dict[str, list[Array]] = {"PyTorch float32": []}
    for batch in batches:
        progress(f"PyTorch float32, {batch.name}")
        logits["PyTorch float32"].append(float32(batch.array))
    for name, run in engines.items():
        logits[name] = []
        for batch in batches:
            progress(f"{name}, {batch.name}")
            logits[name].append(run(batch.array))
    oracle = torch_engine(module, double=True)
    truths = []
    for batch in batches:
        progress(f"PyTorch float64, {batch.name}")
        truths.append(oracle(batch.array))
    own = [relative_error(a, b) for a, b in zip(logits["PyTorch float32"], truths)]
    limit = limit_for(max(own))
    results = {
        name: [compare(batch.name, a, b, limit) for batch, a, b in zip(batches, outputs, truths)]
        for name, outputs in logits.items()
    }
    verdict = _verdict(str(reference), "PyTorch float64", results, limit, max(own), truths, batches, start)
    if record is not None:
        write_record(Path(record), model, batches, truths, limit)
    return verdict


def verify_against(
    record: str | Path, candidate: str | Path, *, progress: Progress = lambda _: None
) -> Verification:
    """Compare an ONNX file with a recorded reference, without PyTorch.

    Raises:
        ConverterError: the record or the file cannot be read.
    """
    start = time.perf_counter()
    info, batches, truths = read_record(Path(record))
    name, run = f"ONNX Runtime, {Path(candidate).name}", onnx_engine(candidate)
    limit = float(info["limit"])
    comparisons = []
    for batch, truth in zip(batches, truths):
        progress(f"{name}, {batch.name}")
        comparisons.append(compare(batch.name, run(batch.array), truth, limit))
    oracle = f"recorded: {info['oracle']}"
    return _verdict(str(record), oracle, {name: comparisons}, limit, limit / FACTOR, truths, batches, start)


def write_record(path: Path, model: Model, batches: Sequence[Batch], truths: Sequence[Array], limit: float) -> None:
    """Write a reference: the oracle's logits, the limit, and how to make the inputs again.

    Synthetic inputs are stored as seeds, real images as they are.
    """
    info = {
        "kind": RECORD,
        "tool": __version__,
        "oracle": "PyTorch float64",
        "limit": limit,
        "source": model.metadata()["densenet.source"],
        "config": model.config.to_dict(),
        "inputs": [batch.spec() for batch in batches],
    }
    arrays = {"record": np.frombuffer(to_json(info).encode(), np.uint8)}
    for i, (batch, truth) in enumerate(zip(batches, truths)):
        arrays[f"logits_{i}"] = truth.astype(np.float64)
        if batch.seed is None:
            arrays[f"input_{i}"] = batch.array
    write_npz(path, {name: Tensor.of(array) for name, array in arrays.items()})


def read_record(path: Path) -> tuple[dict[str, Any], list[Batch], list[Array]]:
    """The inverse of :func:`write_record`.

    Raises:
        UnreadableFile: it is no record.
    """
    tree = open_checkpoint(path).tree
    try:
        info = json.loads(tree["record"].read().tobytes())
        if info["kind"] != RECORD:
            raise ValueError("another kind of file")
        arrays = {name: tensor.read() for name, tensor in tree.items()}
        truths = [arrays[f"logits_{i}"] for i in range(len(info["inputs"]))]
        return info, remake(info["inputs"], arrays), truths
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableFile(f"{path}: not a recorded reference; write one with densenet verify --record") from error


def _batches(model: Model, images: str | Path | None, seed: int) -> list[Batch]:
    try:
        preprocess = Preprocess.from_dict(model.preprocess) if model.preprocess else None
    except ValueError as error:
        raise ConverterError(f"{model.source.name}: its preprocessing is damaged ({error})") from error
    if preprocess is None and model.config.stem == "cifar":
        preprocess = Preprocess(resize=32, crop=(32, 32))
    return standard(model.config, preprocess, find_images(Path(images)) if images else shipped_images(), seed)


def _engines(model: Model, candidates: Iterable[str | Path]) -> Iterable[tuple[str, Run]]:
    paths = [Path(c) for c in candidates]
    if not paths:
        from converter.exporters.onnx import to_onnx  # noqa: PLC0415

        yield "ONNX Runtime, its own export", onnx_engine(to_onnx(model).SerializeToString())
    for path in paths:
        if path.suffix == ".onnx":
            yield f"ONNX Runtime, {path.name}", onnx_engine(path)
        else:
            yield f"PyTorch float32, {path.name}", torch_engine(torch_module(load(path)))


def _verdict(
    reference: str,
    oracle: str,
    results: Mapping[str, Sequence[Comparison]],
    limit: float,
    reference_error: float,
    truths: list[Array],
    batches: Sequence[Batch],
    start: float,
) -> Verification:
    problems = []
    if not all(np.isfinite(truth).all() for truth in truths):
        problems.append("the reference itself computes NaN or infinite logits")
    differ = spread(truths)
    if differ < DISCRIMINATION * ULP:
        problems.append(f"the inputs prove nothing: logits hardly differ between them (spread {differ:.1e})")
    return Verification(
        reference,
        oracle,
        results,
        limit,
        reference_error,
        differ,
        tuple(problems),
        time.perf_counter() - start,
        tuple(batch.spec() for batch in batches),
    )


RULE = (
    f"An engine passes when its error is at most {FACTOR:g} times that of PyTorch's float32 on the same inputs, "
    f"or {FLOOR_ULPS:g} ulps; errors are relative to the largest logit."
)
