"""Prove a published repository, or a packaged folder, again from its own files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from converter.convert import load
from converter.errors import ConverterError, UnreadableFile
from converter.hub.client import REPO, api, speaking
from converter.hub.expectations import CARD, CONFIG, ONNX_FILES, WEIGHTS
from converter.hub.precision import images_of, judged, judges
from converter.hub.proof import prove_float
from converter.hub.provenance import PROVENANCE, changed, read_provenance
from converter.hub.source import parse
from converter.model import Model
from converter.parity.engines import Run, onnx_engine

Progress = Callable[[str], None]
REQUIRED = (WEIGHTS, CONFIG, CARD)
"""What every package has; a proof that does not cover these proves nothing."""


@dataclass(frozen=True)
class Checked:
    """One file, or one claim about it.

    Attributes:
        name: the file, and what was checked.
        passed: whether it holds.
        detail: figures, or what is wrong.
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class RepositoryProof:
    """The verdict on a repository."""

    target: str
    checks: Sequence[Checked]

    @property
    def passed(self) -> bool:
        """Whether there are checks, and every one holds."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {"passed": self.passed, "target": self.target, "checks": [asdict(check) for check in self.checks]}


def is_repository(target: str) -> bool:
    """Whether it is a folder with provenance.json, ``OWNER/NAME``, or an ``hf://`` address without a file."""
    if Path(target).exists():
        return (Path(target) / PROVENANCE).is_file()
    if target.startswith("hf://"):
        return parse(target).file is None
    return REPO.fullmatch(target.partition("@")[0]) is not None


def verify_repository(
    target: str | Path, *, images: str | Path | None = None, progress: Progress = lambda _: None
) -> RepositoryProof:
    """Check every file's hash against provenance.json, and that the artifacts compute the same.

    Args:
        target: a folder that ``densenet package`` wrote; ``OWNER/NAME``, optionally with
            ``@REVISION``; or ``hf://OWNER/NAME``.
        images: a folder of images on which reduced precisions are judged, beside synthetic ones.
        progress: called with a line before each step.

    Raises:
        UnreadableFile: it has no provenance.json.
        Unavailable: there is no such repository, or no network.
        ConverterError: a file cannot be read.
    """
    folder = Path(target) if Path(target).exists() else _fetch(str(target), progress)
    files = read_provenance(folder)
    progress("comparing hashes")
    wrong = changed(folder, files)
    checks = [
        Checked(name, name not in wrong, wrong.get(name, "SHA-256 as in provenance.json")) for name in sorted(files)
    ]
    unlisted = [name for name in REQUIRED if name not in files]
    checks += [Checked(name, False, f"not in {PROVENANCE}: nothing vouches for it") for name in unlisted]
    if WEIGHTS in unlisted or WEIGHTS in wrong:
        return RepositoryProof(str(target), checks)
    weights = folder / WEIGHTS
    model = load(weights)
    good = set(files) - set(wrong)
    present = {precision: folder / name for precision, name in ONNX_FILES.items() if name in good}
    if "fp32" in present:
        proof = prove_float(weights, model, weights, present["fp32"], progress)
        said = f"error {proof.error:.1e}, allowed {proof.limit:.1e}; truth: {proof.oracle}"
        name = f"{ONNX_FILES['fp32']} computes what {WEIGHTS} does"
        checks.append(Checked(name, proof.passed, proof.problem or said))
    checks += _reduced(model, {p: path for p, path in present.items() if p != "fp32"}, images, progress)
    return RepositoryProof(str(target), checks)


def _reduced(model: Model, present: dict[str, Path], images: str | Path | None, progress: Progress) -> list[Checked]:
    """The reduced precisions against a float32 graph made from the published weights."""
    if not present:
        return []
    from converter.exporters.onnx import to_onnx  # noqa: PLC0415 (onnx is slow to import)

    batches = judges(model, images_of(model, images) if images else ())
    float32 = onnx_engine(to_onnx(model).SerializeToString())
    truths = [float32(batch.array) for batch in batches]
    checks = []
    for precision, path in present.items():
        progress(f"judging {precision}")
        name = f"{ONNX_FILES[precision]} stays within its budget"
        try:
            run: Run = onnx_engine(path)
            verdict = judged(precision, run, batches, truths)
        except ConverterError as error:
            checks.append(Checked(name, False, str(error)))
            continue
        said = f"error {verdict.error:.2%}, allowed {verdict.budget.error:.0%}; same top-1 on {verdict.top1:.1%}"
        checks.append(Checked(name, verdict.passed, "; ".join(verdict.problems) or said))
    return checks


def _fetch(target: str, progress: Progress) -> Path:
    """The repository's recorded files, in huggingface_hub's cache."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 (slow to import)

    wanted = parse(target if target.startswith("hf://") else f"hf://{target}")
    if wanted.file:
        raise ConverterError(f"{target}: names a file; name the repository")
    progress(f"downloading {wanted.repo}")
    client = api()
    with speaking(wanted.repo, "looking at it"):
        commit = client.model_info(wanted.repo, revision=wanted.revision).sha
        listed = client.list_repo_files(wanted.repo, revision=commit)
    if PROVENANCE not in listed:
        raise UnreadableFile(f"{target}: has no {PROVENANCE}; only what densenet push made can be verified by itself")

    def get(name: str) -> Path:
        with speaking(wanted.repo, f"downloading {name}"):
            return Path(hf_hub_download(wanted.repo, name, revision=commit))

    folder = get(PROVENANCE).parent
    for name in read_provenance(folder):
        if name in listed:
            get(name)
    return folder
