"""Prove a published repository, or a packaged folder, again from its own files."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from converter.core.errors import ConverterError, Unavailable, UnreadableFile
from converter.core.memory import give_back
from converter.core.model import Model
from converter.core.progress import Progress
from converter.engines.runtimes import RUNTIMES
from converter.engines.torch import has_torch
from converter.exporters.onnx import lazy_onnx
from converter.fetch.hub_client import REPO
from converter.fetch.hub_files import SUFFIXES, Cached, parse
from converter.parity.bench import USUAL, Bench
from converter.parity.budget import Judgement, judged, judges
from converter.parity.checks import Check
from converter.parity.verdict import Verification
from converter.parity.verify import verify
from converter.publish.claims import (
    UNREADABLE,
    graph_checks,
    json_checks,
    listed,
    program_checks,
    published_model,
    runs_here,
    weights_checks,
)
from converter.publish.expectations import ONNX_FILES, WEIGHTS
from converter.publish.proof import against_exact
from converter.publish.provenance import PROVENANCE, changed, read_provenance
from converter.use.calibrate import images_of
from converter.use.network import onnx_logits

PROGRAMS = (*ONNX_FILES.values(), *(runtime.published for runtime in RUNTIMES))
NOTHING = Verification("", "none", {}, 0.0, float("nan"), float("nan"))
"""The verdict where nothing can be computed."""


def is_repository(target: str) -> bool:
    """Whether it is a folder with provenance.json, ``OWNER/NAME``, or an ``hf://`` address without a file.

    ``models/densenet.pth`` that does not exist is a misspelt file, and no repository.
    """
    if Path(target).exists():
        return (Path(target) / PROVENANCE).is_file()
    if target.startswith("hf://"):
        return parse(target).file is None
    name = target.partition("@")[0]
    return REPO.fullmatch(name) is not None and not name.endswith(SUFFIXES)


def verify_repository(
    target: str | Path,
    *,
    bench: Bench = USUAL,
    progress: Progress = lambda _: None,
) -> Verification:
    """Check every file against provenance.json, the JSON files against the weights, and that all compute the same.

    Args:
        target: a folder that ``densenet package`` wrote; ``OWNER/NAME``, optionally with
            ``@REVISION``; or ``hf://OWNER/NAME``.
        bench: what to compare on, and in which engines.
        progress: called with a line before each step.

    Raises:
        UnreadableFile: it has no provenance.json.
        Unavailable: there is no such repository, or no network.
    """
    start = time.perf_counter()
    if not has_torch() and (bench.specs or bench.seed or bench.original):
        raise Unavailable("--engine, --seed and --original need PyTorch: pip install 'densenet-converter[torch]'")
    local = Path(target).exists()
    folder, present = _local(Path(target)) if local else _fetch(str(target), progress)
    files = read_provenance(folder)
    progress("comparing hashes")
    wrong = changed(folder, files)
    good = set(files) - set(wrong)
    checks = {PROVENANCE: listed(files, wrong, present, published=not local)}
    verdict = NOTHING
    if WEIGHTS in good:
        try:
            model = published_model(folder / WEIGHTS)
        except ConverterError as error:
            checks[WEIGHTS] = [Check("weights", False, str(error))]
        else:
            checks[WEIGHTS] = weights_checks(model)
            for name, found in json_checks(folder, good, model).items():
                checks[name] = [*checks.get(name, []), *found]
            progress("reading the ONNX files")
            graphs = {precision: name for precision, name in ONNX_FILES.items() if name in good}
            checks |= {name: graph_checks(folder / name, precision, model) for precision, name in graphs.items()}
            runnable = {p: folder / name for p, name in graphs.items() if checks[name] != [UNREADABLE]}
            programs = [folder / runtime.published for runtime in RUNTIMES if good.issuperset(runtime.files())]
            checks |= {path.relative_to(folder).as_posix(): program_checks(path) for path in programs}
            runnable |= {path.relative_to(folder).as_posix(): path for path in programs if runs_here(path)}
            verdict = _computed(model, folder, runnable, bench, progress)
    for file, more in verdict.checks.items():  # a file's own are under its path
        path = next((path for path in PROGRAMS if path.endswith(f"/{file}")), file)
        known = {check.name for check in checks.get(path, [])}
        checks[path] = [*checks.get(path, []), *(check for check in more if check.name not in known)]
    return replace(verdict, reference=str(target), checks=checks, seconds=time.perf_counter() - start)


def _computed(
    model: Model,
    folder: Path,
    programs: Mapping[str, Path],
    bench: Bench,
    progress: Progress,
) -> Verification:
    """What the artifacts compute, against the published weights: ONNX files by precision, others by their path."""
    float32 = [path for name, path in programs.items() if name not in ("fp16", "int8")]
    weights = folder / WEIGHTS
    if has_torch():
        verdict = verify(weights, *float32, bench=bench, progress=progress)
    else:
        verdict = against_exact(model, weights, *float32, progress=progress)
    reduced = {precision: path for precision, path in programs.items() if precision in ("fp16", "int8")}
    budgets, problems = _reduced(model, reduced, bench.images, progress)
    return replace(verdict, budgets={**verdict.budgets, **budgets}, problems=(*verdict.problems, *problems))


def _reduced(
    model: Model, files: Mapping[str, Path], images: str | Path | None, progress: Progress
) -> tuple[dict[str, Judgement], list[str]]:
    """The reduced precisions against a float32 graph made from the published weights; and what cannot be run."""
    if not files:
        return {}, []
    batches = judges(model, images_of(model, images) if images else ())
    float32 = onnx_logits(lazy_onnx(model), model.config)
    truths = [float32(batch.array) for batch in batches]
    del float32
    give_back()
    budgets, problems = {}, []
    for precision, path in files.items():
        progress(f"judging {precision}")
        try:
            run = onnx_logits(path, model.config)
            budgets[ONNX_FILES[precision]] = judged(precision, run, batches, truths, model.config)
        except ConverterError as error:
            problems.append(str(error))
    return budgets, problems


def _local(folder: Path) -> tuple[Path, list[str]]:
    """A folder and the files in it."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return folder, [path.as_posix() for path in paths if not path.parts[0].startswith(".")]


def _fetch(target: str, progress: Progress) -> tuple[Path, list[str]]:
    """The repository's recorded files, in huggingface_hub's cache, and the names of all it has."""
    wanted = parse(target if target.startswith("hf://") else f"hf://{target}")
    if wanted.file:
        raise ConverterError(f"{target}: names a file; name the repository")
    progress(f"downloading {wanted.repo}")
    cached = Cached(wanted)
    listed = cached.files()
    if PROVENANCE not in listed:
        raise UnreadableFile(f"{target}: has no {PROVENANCE}; only what densenet push made can be verified by itself")
    folder = cached.get(PROVENANCE).parent
    files = read_provenance(folder)
    for name in files:
        if name in listed:
            cached.get(name)
    if not cached.offline:
        for name in changed(folder, {name: files[name] for name in files if name in listed}):
            cached.get(name, again=True)  # the fault may be the cache's
    return folder, listed
