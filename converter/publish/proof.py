"""That published float32 files compute what their source computes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from converter.core.errors import ConverterError
from converter.core.model import Model
from converter.core.progress import Progress
from converter.core.source import Source, shown
from converter.engines.original import Original
from converter.engines.runtimes import runtime_of
from converter.engines.torch import has_torch
from converter.exporters.onnx import lazy_onnx
from converter.parity.budget import judges
from converter.parity.checks import Check
from converter.parity.compare import Comparison, compare, failed, spread
from converter.parity.heads import of_head
from converter.parity.verdict import Verification
from converter.parity.verify import verify
from converter.reading.load import load
from converter.use.network import logits_of, names_of, onnx_logits
from densenet.config import SETTINGS

LIMIT_WITHOUT_ORACLE = 1e-4
"""Without PyTorch there is no float64 to measure against, and two float32 graphs are compared:
this much of the largest logit they may differ, a hundred times what rounding does."""

RULE_WITHOUT_ORACLE = (
    f"An engine passes when it differs by at most {LIMIT_WITHOUT_ORACLE:.0e} of the largest logit; "
    "PyTorch was not installed, so nothing was measured against float64."
)


def prove_float(
    source: Source, model: Model, files: Sequence[Path], progress: Progress, *, original: str | Original | None
) -> Verification:
    """Compare what is published (the weights first) with its source, in float64 where PyTorch is installed.

    The verdict does not say how long it took, so that the same package gives the same bytes.  What it calls the
    source is ``model.origin.name``.
    """
    if not has_torch():
        return against_exact(model, *files, progress=progress)
    of_heads = {name: value for name, value in source.settings.items() if name not in SETTINGS}
    fields = [name for name in SETTINGS if name != "head" or not model.config.heads]
    settled = replace(source, settings=of_heads | {name: getattr(model.config, name) for name in fields})
    verdict = verify(settled, *files, about=model.images, progress=progress, original=original)
    checks = {name: [_folded(check) for check in found] for name, found in verdict.checks.items()}
    return replace(verdict, reference=model.origin.name, checks=checks, seconds=None)


def _folded(check: Check) -> Check:
    """An eps that the target lacks is folded into the norms; what they multiply by and add is checked all the same."""
    if check.name == "eps" and check.ok is False:
        return replace(check, ok=None, detail=f"folded into the norms: {check.detail}")
    return check


def against_exact(model: Model, weights: Path, *others: Path, progress: Progress = lambda _: None) -> Verification:
    """Without PyTorch: the source's exact graph, the published weights' exact graph, and the published programs."""
    progress("comparing in ONNX Runtime (PyTorch is not installed)")
    batches = judges(model)[-3:]
    config = model.config
    exact = onnx_logits(lazy_onnx(model, graph="exact"), config)
    truths = [exact(batch.array) for batch in batches]
    results: dict[str, list[Comparison]] = {}
    for file in (weights, *others):
        runtime = runtime_of(file)
        if runtime is not None and runtime.elsewhere:
            runtime = None
        engine = f"{runtime.name if runtime else 'ONNX Runtime'}, {file.name}"
        try:
            if runtime is not None:
                run = runtime.start(file, 0)
            else:
                read = file is weights or file.is_dir()
                run = onnx_logits(lazy_onnx(load(file), graph="exact") if read else file, config)
            found = [run(batch.array) for batch in batches]
        except ConverterError as error:
            results[engine] = [failed("loading", LIMIT_WITHOUT_ORACLE, str(error))]
            continue
        for head in names_of(config):
            own, every = logits_of(config, head), zip(batches, found, truths)
            results[f"{engine}{of_head(head)}"] = [
                compare(batch.name, x[:, own], truth[:, own], LIMIT_WITHOUT_ORACLE) for batch, x, truth in every
            ]
    return Verification(
        shown(model.origin.name),
        "the exact graph in ONNX Runtime, float32",
        results,
        LIMIT_WITHOUT_ORACLE,
        float("nan"),
        spread(truths),
        seconds=None,
        inputs=[batch.spec() for batch in batches],
        rule=RULE_WITHOUT_ORACLE,
    )
