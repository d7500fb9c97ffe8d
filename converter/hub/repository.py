"""Prove a published repository, or a packaged folder, again from its own files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from converter.convert import load
from converter.errors import CannotExpress, ConverterError, UnreadableFile
from converter.hub.client import REPO
from converter.hub.expectations import (
    CONFIG,
    ONNX_FILES,
    OURS,
    PREPROCESSOR,
    REQUIRED,
    WEIGHTS,
    library_config,
    preprocessor_config,
    timm_config,
)
from converter.hub.precision import images_of, judged, judges
from converter.hub.proof import against_exact
from converter.hub.provenance import PROVENANCE, Recorded, changed, read_provenance
from converter.hub.source import SUFFIXES, Cached, parse
from converter.model import Model
from converter.parity.budget import Judgement
from converter.parity.checks import Check
from converter.parity.engines import has_torch, onnx_engine
from converter.parity.verdict import Verification
from densenet.preprocess import Preprocess

Progress = Callable[[str], None]
GIT = (".gitattributes", ".gitignore")
FREE = ("license", "fixed_input_size", "pool_size", "first_conv", "classifier", "custom_load")
"""Fields of config.json that no weight shows, or that say nothing about what is computed."""


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
    images: str | Path | None = None,
    seed: int = 0,
    engines: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> Verification:
    """Check every file against provenance.json, the JSON files against the weights, and that all compute the same.

    Args:
        target: a folder that ``densenet package`` wrote; ``OWNER/NAME``, optionally with
            ``@REVISION``; or ``hf://OWNER/NAME``.
        images: a folder of images to compare on, beside synthetic ones.
        seed, engines: as for :func:`converter.parity.verify.verify`.
        progress: called with a line before each step.

    Raises:
        UnreadableFile: it has no provenance.json.
        Unavailable: there is no such repository, or no network.
    """
    start = time.perf_counter()
    folder, present = _local(Path(target)) if Path(target).exists() else _fetch(str(target), progress)
    files = read_provenance(folder)
    progress("comparing hashes")
    wrong = changed(folder, files)
    checks = {PROVENANCE: _listed(files, wrong, present)}
    good = set(files) - set(wrong)
    verdict = Verification(str(target), "none", {}, 0.0, float("nan"), float("nan"))
    if WEIGHTS in good:
        try:
            model = load(folder / WEIGHTS)
        except ConverterError as error:
            checks[WEIGHTS] = [Check("a DenseNet", False, str(error))]
        else:
            onnx_files = {precision: folder / name for precision, name in ONNX_FILES.items() if name in good}
            verdict = _computed(model, folder, onnx_files, images, seed, engines, progress)
            checks |= {name: found for name in (CONFIG, PREPROCESSOR) if (found := _stated(folder, name, good, model))}
    return replace(
        verdict, reference=str(target), checks={**checks, **verdict.checks}, seconds=time.perf_counter() - start
    )


def _listed(files: Mapping[str, Recorded], wrong: Mapping[str, str], present: Collection[str]) -> list[Check]:
    """Each file against provenance.json, and provenance.json against what is there."""
    checks = [Check(name, name not in wrong, wrong.get(name, "")) for name in sorted(files)]
    missing = [name for name in REQUIRED if name not in files]
    extra = sorted(set(present) - set(files) - {PROVENANCE, *missing, *GIT})
    checks += [Check(name, False, f"not in {PROVENANCE}: nothing vouches for it") for name in missing]
    said = f"not in {PROVENANCE}"
    return checks + [Check(name, False if name in OURS else None, said) for name in extra]


def _computed(
    model: Model,
    folder: Path,
    onnx_files: Mapping[str, Path],
    images: str | Path | None,
    seed: int,
    engines: Sequence[str],
    progress: Progress,
) -> Verification:
    """What the artifacts compute, against the published weights."""
    float32 = [path for precision, path in onnx_files.items() if precision == "fp32"]
    weights = folder / WEIGHTS
    try:
        if has_torch():
            from converter.parity.verify import verify  # noqa: PLC0415 (PyTorch)

            verdict = verify(weights, *float32, images=images, seed=seed, engines=engines, progress=progress)
        else:
            verdict = against_exact(model, weights, *float32, progress=progress)
    except ConverterError as error:
        return Verification("", "none", {}, 0.0, float("nan"), float("nan"), (str(error),))
    reduced = {precision: path for precision, path in onnx_files.items() if precision != "fp32"}
    budgets, problems = _reduced(model, reduced, images, progress)
    return replace(verdict, budgets={**verdict.budgets, **budgets}, problems=(*verdict.problems, *problems))


def _reduced(
    model: Model, files: Mapping[str, Path], images: str | Path | None, progress: Progress
) -> tuple[dict[str, Judgement], list[str]]:
    """The reduced precisions against a float32 graph made from the published weights; and what cannot be run."""
    if not files:
        return {}, []
    from converter.exporters.onnx import to_onnx  # noqa: PLC0415 (onnx is slow to import)

    batches = judges(model, images_of(model, images) if images else ())
    float32 = onnx_engine(to_onnx(model).SerializeToString())
    truths = [float32(batch.array) for batch in batches]
    budgets, problems = {}, []
    for precision, path in files.items():
        progress(f"judging {precision}")
        try:
            budgets[ONNX_FILES[precision]] = judged(precision, onnx_engine(path), batches, truths)
        except ConverterError as error:
            problems.append(str(error))
    return budgets, problems


def _stated(folder: Path, name: str, good: Collection[str], model: Model) -> list[Check]:
    """Whether config.json and preprocessor_config.json say what the weights say; nothing if the file is not there."""
    if name not in good:
        return []
    try:
        values = json.loads((folder / name).read_text("utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        return [Check("JSON", False, f"cannot be read ({error})")]
    try:
        prepared = Preprocess.from_dict(model.preprocess) if model.preprocess else None
        if name == PREPROCESSOR:
            timm = "TimmWrapper" in str(values.get("image_processor_type"))
            wanted = preprocessor_config(prepared, timm=timm) if prepared else {}
        elif "pretrained_cfg" in values:
            if prepared is None:
                raise CannotExpress("the weights record no preprocessing")
            wanted = timm_config(model.config, prepared, model.labels, None)
        else:
            wanted = library_config(model.config, model.labels)
    except (ConverterError, ValueError) as error:
        return [Check("network", False, str(error))]
    return [
        Check(key, have == want, "" if have == want else f"says {_short(have)}, the weights {_short(want)}")
        for key, want in _flat(wanted).items()
        if key.rpartition(".")[2] not in FREE
        for have in [_flat(values).get(key)]
    ]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """``pretrained_cfg``'s fields beside the others, with a dot."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        nested = key == "pretrained_cfg" and isinstance(value, dict)
        result |= {f"{key}.{k}": v for k, v in value.items()} if nested else {key: value}
    return result


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:57]}..."


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
