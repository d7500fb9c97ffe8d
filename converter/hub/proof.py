"""That published float32 files compute what their source computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converter.address import shown
from converter.convert import load
from converter.errors import ConverterError
from converter.evidence import SETTINGS
from converter.exporters.onnx import to_onnx
from converter.hub.precision import judges
from converter.model import Model
from converter.parity.checks import Check
from converter.parity.compare import Comparison, compare, failed, spread
from converter.parity.engines import has_torch, onnx_engine
from converter.parity.verdict import Verification

LIMIT_WITHOUT_ORACLE = 1e-4
"""Without PyTorch there is no float64 to measure against, and two float32 graphs are compared:
this much of the largest logit they may differ, a hundred times what rounding does."""

RULE_WITHOUT_ORACLE = (
    f"An engine passes when it differs by at most {LIMIT_WITHOUT_ORACLE:.0e} of the largest logit; "
    "PyTorch was not installed, so nothing was measured against float64."
)


def prove_float(
    source: str | Path,
    model: Model,
    weights: Path,
    onnx_file: Path,
    reading: Mapping[str, Any],
    progress: Callable[[str], None],
) -> Verification:
    """Compare the published weights and graph with their source, in float64 where PyTorch is installed.

    Args:
        source: the checkpoint, as :func:`converter.load` takes it; what reports call it is ``model.source.name``.
        model: the same, loaded, with all that is said of it.
        weights, onnx_file: the published files.
        reading: how it was loaded: :func:`converter.load`'s ``layout``, ``weights`` and ``drop``.
        progress: called with a line before each step.

    Returns:
        a verdict that does not say how long it took, so that the same package gives the same bytes.
    """
    if not has_torch():
        return against_exact(model, weights, onnx_file, progress=progress)
    from converter.parity.verify import verify  # noqa: PLC0415 (PyTorch)

    own = model.config.to_dict()
    verdict = verify(
        source,
        weights,
        onnx_file,
        **reading,
        settings={name: own[name] for name in SETTINGS},
        preprocess=model.preprocess,
        labels=model.labels,
        progress=progress,
    )
    checks = {name: [_folded(check) for check in found] for name, found in verdict.checks.items()}
    return replace(verdict, reference=model.source.name, checks=checks, seconds=None)


def _folded(check: Check) -> Check:
    """An eps that the target lacks is folded into the norms; what they multiply by and add is checked all the same."""
    if check.name == "eps" and check.ok is False:
        return replace(check, ok=None, detail=f"folded into the norms: {check.detail}")
    return check


def against_exact(
    model: Model, weights: Path, *onnx_files: Path, progress: Callable[[str], None] = lambda _: None
) -> Verification:
    """Without PyTorch: the source's exact graph, the published weights' exact graph, and the published graphs."""
    progress("comparing in ONNX Runtime (PyTorch is not installed)")
    batches = judges(model)[-3:]
    exact = onnx_engine(to_onnx(model, graph="exact").SerializeToString())
    truths = [exact(batch.array) for batch in batches]
    results: dict[str, list[Comparison]] = {}
    for file in (weights, *onnx_files):
        try:
            run = onnx_engine(to_onnx(load(file), graph="exact").SerializeToString() if file is weights else file)
            found = [compare(b.name, run(b.array), truth, LIMIT_WITHOUT_ORACLE) for b, truth in zip(batches, truths)]
        except ConverterError as error:
            found = [failed("loading", LIMIT_WITHOUT_ORACLE, str(error))]
        results[f"ONNX Runtime, {file.name}"] = found
    return Verification(
        shown(model.source.name),
        "the exact graph in ONNX Runtime, float32",
        results,
        LIMIT_WITHOUT_ORACLE,
        float("nan"),
        spread(truths),
        seconds=None,
        inputs=[batch.spec() for batch in batches],
        rule=RULE_WITHOUT_ORACLE,
    )
