"""That published float32 files compute what their source computes, and a page that shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converter.convert import load
from converter.evidence import SETTINGS
from converter.exporters.onnx import to_onnx
from converter.hub.precision import judges, rounded
from converter.model import Model
from converter.parity.budget import Judgement
from converter.parity.engines import Run, has_torch, onnx_engine

LIMIT_WITHOUT_ORACLE = 1e-4
"""Without PyTorch there is no float64 to measure against, and two float32 graphs are compared:
this much of the largest logit they may differ, a hundred times what rounding does."""

MAY_DIFFER = ("eps", "preprocessing", "labels")
"""Static checks that publishing may change rightly: an eps that timm lacks is folded into the norms (what they
multiply by and add is checked all the same), and the packager may say what the source does not."""

TIMES = ("seconds", "duration")


@dataclass(frozen=True)
class FloatProof:
    """The verdict on the weights and the float32 graph.

    Attributes:
        oracle: what was taken for the truth.
        error: the worst of the ONNX file, relative to the largest logit; ``limit`` what was allowed.
        rule: both in words, for people.
        problem: why it fails, empty if it passes.
        details: everything that was compared.
    """

    oracle: str
    error: float
    limit: float
    rule: str
    problem: str
    details: Mapping[str, Any]
    used_torch: bool

    @property
    def passed(self) -> bool:
        """Whether the files compute the same."""
        return not self.problem

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; without times, so that the same package gives the same bytes."""
        values: dict[str, Any] = rounded(
            {"passed": self.passed, "oracle": self.oracle, "error": self.error, "limit": self.limit}
        )
        return values | {"problem": self.problem, "details": rounded(_timeless(self.details))}


def prove_float(
    source: str | Path,
    model: Model,
    weights: Path,
    onnx_file: Path,
    reading: Mapping[str, Any],
    progress: Callable[[str], None],
) -> FloatProof:
    """Compare the published weights and graph with their source, in float64 where PyTorch is installed.

    Args:
        source: the checkpoint, as :func:`converter.load` takes it; what reports call it is ``model.source.name``.
        model: the same, loaded, with the settings it was loaded with.
        weights, onnx_file: the published files.
        reading: how it was loaded: :func:`converter.load`'s ``layout``, ``weights`` and ``drop``.
        progress: called with a line before each step.
    """
    if not has_torch():
        return against_exact(model, weights, onnx_file, progress=progress)
    from converter.parity.verify import verify  # noqa: PLC0415 (PyTorch)

    own = model.config.to_dict()
    settings = {name: own[name] for name in SETTINGS}
    verdict = verify(source, weights, onnx_file, **reading, settings=settings, progress=progress)
    values = verdict.to_dict()
    values["reference"] = model.source.name
    results = values["results"]
    ours = [c for name, comparisons in results.items() if onnx_file.name in name for c in comparisons]
    errors = [float("inf") if c["error"] is None else c["error"] for c in ours]
    problems = list(verdict.problems)
    for name, comparisons in results.items():
        problems += [f"{name}, {c['batch']}: {c['problem']}" for c in comparisons if c["problem"]]
    for name, checks in values.get("checks", {}).items():
        failed = [c for c in checks if c["ok"] is False and c["name"] not in MAY_DIFFER]
        problems += [f"{name}, {check['name']}: {check['detail']}" for check in failed]
    budgets = values.get("budgets", {})
    problems += [f"{name}: outside its budget" for name, found in budgets.items() if not found["passed"]]
    error = max(errors, default=float("inf"))
    limit = float(verdict.limit)
    rule = (
        f"the largest difference from PyTorch in float64, relative to the largest logit, over {len(ours)} batches; "
        f"allowed is a small multiple of what PyTorch's own float32 shows ({limit:.1e})."
    )
    return FloatProof(verdict.oracle, error, limit, rule, "; ".join(problems[:3]), values, True)


def against_exact(
    model: Model, weights: Path, *onnx_files: Path, progress: Callable[[str], None] = lambda _: None
) -> FloatProof:
    """Without PyTorch: the source's exact graph, the published weights' exact graph, and the published graphs."""
    progress("comparing in ONNX Runtime (PyTorch is not installed)")
    batches = judges(model)[-3:]
    exact = onnx_engine(to_onnx(model, graph="exact").SerializeToString())
    truths = [exact(batch.array) for batch in batches]
    scale = max(float(np.abs(truth).max()) for truth in truths) or 1.0
    engines: dict[str, Run] = {
        f"ONNX Runtime, {weights.name}": onnx_engine(to_onnx(load(weights), graph="exact").SerializeToString()),
    } | {f"ONNX Runtime, {file.name}": onnx_engine(file) for file in onnx_files}
    errors, problems = {}, []
    for name, run in engines.items():
        errors[name] = max(_difference(run(batch.array), t) for batch, t in zip(batches, truths)) / scale
        if not errors[name] <= LIMIT_WITHOUT_ORACLE:
            problems.append(f"{name}: differs by {errors[name]:.1e} of the largest logit")
    oracle = "none: PyTorch was not installed; the exact graph in ONNX Runtime, float32"
    rule = (
        "the largest difference from the source's exact graph in ONNX Runtime, relative to the largest logit; "
        f"allowed is {LIMIT_WITHOUT_ORACLE:.0e}. PyTorch was not installed, so nothing was measured against float64."
    )
    details = {"oracle": oracle, "inputs": [batch.spec() for batch in batches], "errors": errors}
    return FloatProof(oracle, max(errors.values()), LIMIT_WITHOUT_ORACLE, rule, "; ".join(problems), details, False)


def _difference(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """The largest absolute difference; infinite where there is none to take."""
    if found.shape != expected.shape:
        return float("inf")
    return float(np.nan_to_num(np.abs(found.astype(np.float64) - expected).max(initial=0), nan=np.inf))


def parity_html(
    model: Model, proof: FloatProof, judgements: Mapping[str, Judgement], left_out: Mapping[str, str]
) -> bytes:
    """parity.html: the verdicts as one page that needs nothing else."""
    from jinja2 import Environment  # noqa: PLC0415 (for those who package)

    template = Environment(autoescape=True).from_string(Path(__file__).with_name("parity.html").read_text("utf-8"))
    comparisons = [
        {"engine": name, **comparison}
        for name, found in proof.to_dict()["details"].get("results", {}).items()
        for comparison in found
    ]
    text: str = template.render(
        model=model,
        proof=proof,
        comparisons=comparisons,
        judgements={name: judgement.to_dict() for name, judgement in judgements.items()},
        left_out=left_out,
    )
    return (text.rstrip() + "\n").encode()


def _timeless(value: Any) -> Any:
    """Without how long it took, which is different every time."""
    if isinstance(value, Mapping):
        return {k: _timeless(v) for k, v in value.items() if k not in TIMES}
    if isinstance(value, (list, tuple)):
        return [_timeless(v) for v in value]
    return value
