"""A checkpoint as the folder that becomes a Hugging Face repository.

Everything is written into a folder beside the target and proved there; only then is it
moved into place, ``provenance.json`` last.  So the target is whole, or as it was, or
(killed while moving) does not match its own provenance, and packaging again mends it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.address import shown
from converter.convert import described, in_layout, load, write
from converter.errors import CannotExpress, CannotWrite, ConverterError, UnreadableFile, VerificationFailed
from converter.evaluate import evaluate, labelled_images
from converter.exporters.atomic import make_folder
from converter.exporters.half import to_half
from converter.exporters.onnx import to_onnx
from converter.exporters.quantize import to_int8
from converter.hub.card import CardFacts, OnnxFile, Result, model_card, published
from converter.hub.expectations import (
    CARD,
    CONFIG,
    ONNX_FILES,
    PARITY,
    PARITY_HTML,
    PLACEHOLDER,
    PREPROCESSOR,
    WEIGHTS,
    library_config,
    preprocessor_config,
    timm_config,
    timm_model,
    unknown_labels,
)
from converter.hub.precision import calibration_inputs, check_range, images_of, judged, judges, rounded
from converter.hub.proof import prove_float
from converter.hub.provenance import PROVENANCE, changed, parse_provenance, provenance, read_provenance, sha256, to_text
from converter.layouts import layout_named
from converter.model import Model
from converter.parity.budget import Judgement
from converter.parity.engines import has_torch, onnx_engine
from converter.parity.report import reason, to_html
from converter.parity.verdict import Verification
from converter.predict import usual_preprocess
from densenet.labels import imagenet_classes
from densenet.preprocess import Preprocess
from densenet.zoo import MODELS, ZooModel, zoo_model

Progress = Callable[[str], None]
NEXT = f".{PROVENANCE}.next"
"""What will be there, while files are moved into place: should that be killed, they are known as ours."""


@dataclass(frozen=True)
class Package:
    """What :func:`package` wrote.

    Attributes:
        folder: where.
        model: the weights as read.
        layout: whose names the weights have: ``timm``, or ``library`` and ``why_not_timm``.
        files: path in the repository to size in bytes, provenance.json included.
        proof: that the float32 files equal the source.
        judgements: reduced precisions that were written, by their path.
        left_out: files that were not, and why.
        results: accuracies the card states.
    """

    folder: Path
    model: Model
    layout: str
    why_not_timm: str
    files: Mapping[str, int]
    proof: Verification
    judgements: Mapping[str, Judgement]
    left_out: Mapping[str, str]
    results: Sequence[Result]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "folder": str(self.folder),
            "source": self.model.source.name,
            "source_sha256": self.model.source.sha256,
            "architecture": self.model.config.name,
            "layout": self.layout,
            "why_not_timm": self.why_not_timm,
            "files": dict(self.files),
            "proof": self.proof.to_dict(),
            "judgements": {name: judgement.to_dict() for name, judgement in self.judgements.items()},
            "left_out": dict(self.left_out),
            "notes": list(self.model.notes),
        }


def package(
    source: str | Path,
    folder: str | Path,
    *,
    onnx: Iterable[str] = tuple(ONNX_FILES),
    calibration: str | Path | None = None,
    evaluation: str | Path | None = None,
    repo: str = PLACEHOLDER,
    license_id: str | None = None,
    preprocess: Mapping[str, Any] | None = None,
    labels: Iterable[str] = (),
    datasets: Sequence[str] = (),
    about: Sequence[str] = (),
    layout: str | None = None,
    weights: str | None = None,
    drop: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
    progress: Progress = lambda _: None,
) -> Package:
    """Write the repository of a checkpoint: weights, config, ONNX files, card, proofs, provenance.

    Args:
        source, layout, weights, drop, settings: as for :func:`converter.load`.
        folder: where; files in it that are none of a package's are left alone.
        onnx: which ONNX files: ``fp32``, ``fp16``, ``int8``.  The reduced ones are left out,
            with the reason in the card, where they miss their budget.
        calibration: a folder of typical images; every other one sets the ranges of 8-bit
            numbers, the others judge fp16 and 8 bits.
        evaluation: a folder of images, one subfolder a class, whose accuracy the card states.
        repo: ``owner/name`` on the Hub, for the card's examples.
        license_id: identifier of the weights' licence, ``apache-2.0`` say; default: the
            publisher's, for models of the zoo.
        preprocess, labels: as for :func:`converter.convert`, where the source does not say.
        datasets: names on the Hub of what the weights were trained on.
        about: paragraphs for the card.
        progress: called with a line before each step.

    Raises:
        VerificationFailed: what was written does not compute what the source computes.
        ConverterError: one of its kinds.  The folder is then as it was before.
    """
    folder = Path(folder)
    wanted = _wanted(onnx)
    if folder.exists() and not folder.is_dir():
        raise CannotWrite(f"{folder}: is a file; name a folder")
    progress(f"reading {shown(source)}")
    reading: dict[str, Any] = {"layout": layout, "weights": weights, "drop": tuple(drop)}
    model = load(source, **reading, settings=settings)
    zoo = zoo_entry(source, model)
    license_id = _license(license_id, zoo)
    if evaluation is not None:
        labelled_images(Path(evaluation))
        if not model.config.num_classes:
            raise ConverterError(f"{shown(source)}: has no classifier, so there is no accuracy to evaluate")
    model = _described(model, zoo, preprocess, labels)
    make_folder(folder.absolute().parent)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.absolute().parent) as temporary:
            builder = _Builder(source, reading, model, zoo, Path(temporary), progress)
            done = builder.build(wanted, calibration, evaluation, repo, license_id, datasets, about)
            _move(Path(temporary), folder)
    except OSError as error:
        raise CannotWrite(f"{folder}: cannot be written ({error.strerror or error})") from error
    return replace(done, folder=folder)


def zoo_entry(source: str | Path, model: Model) -> ZooModel | None:
    """The published model a source is: the file has its hash, or was fetched by its name."""
    for entry in MODELS:
        if entry.sha256_prefix and model.source.sha256.startswith(entry.sha256_prefix):
            return entry
    try:
        entry = zoo_model(str(source))
    except ValueError:
        return None
    return None if entry.sha256_prefix or Path(source).exists() else entry


class _Builder:
    """Writes the files of one package, in the order in which they need each other."""

    def __init__(
        self,
        source: str | Path,
        reading: Mapping[str, Any],
        model: Model,
        zoo: ZooModel | None,
        folder: Path,
        progress: Progress,
    ) -> None:
        self.source = source
        self.reading = reading
        self.model = model
        self.folder = folder
        self.progress = progress
        self.zoo = zoo
        self.recorded = bool(model.preprocess)
        self.preprocess: Preprocess | None = None
        if model.config.spatial_dims == 2 and model.config.in_channels in (1, 3):
            self.preprocess = usual_preprocess(model.preprocess, model.config)
            # Every file of the package says the same of its images; the card says that it is assumed.
            self.model = replace(model, preprocess=self.preprocess.to_dict())
        self.files: dict[str, OnnxFile] = {}
        self.left_out: dict[str, str] = {}

    def build(
        self,
        wanted: Sequence[str],
        calibration: str | Path | None,
        evaluation: str | Path | None,
        repo: str,
        license_id: str | None,
        datasets: Sequence[str],
        about: Sequence[str],
    ) -> Package:
        model = self.model
        images = images_of(model, calibration) if calibration else []
        why_not_timm = self.weights_and_config(license_id)
        proof = self.float32("fp32" in wanted)
        if set(wanted) & {"fp16", "int8"}:
            self.reduced(wanted, images)
        if "fp32" not in wanted:
            self.path.unlink()
        with suppress(OSError):
            (self.folder / "onnx").rmdir()  # nothing is in it
        results = published(self.zoo) if self.zoo and _is_as_published(model, self.zoo) else []
        if evaluation is not None:
            results = [*results, self.measured(Path(evaluation))]
        facts = CardFacts(
            model,
            repo,
            self.preprocess,
            self.recorded,
            self.zoo,
            license_id,
            why_not_timm,
            list(self.files.values()),
            self.left_out,
            results,
            proof,
            datasets,
            about,
        )
        self.put(CARD, model_card(facts).encode())
        judgements = {name: file.judgement for name, file in self.files.items() if file.judgement}
        notes = (*proof.notes, *(f"{name} is left out: {why}" for name, why in self.left_out.items()))
        proof = replace(proof, budgets=judgements, notes=notes)
        self.put(PARITY, to_text(rounded(proof.to_dict())))
        self.put(PARITY_HTML, to_html(proof).encode())
        paths = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        self.put(PROVENANCE, to_text(provenance(model, paths, repo=repo, used_torch=has_torch())))
        paths[PROVENANCE] = self.folder / PROVENANCE
        return Package(
            self.folder,
            model,
            "library" if why_not_timm else "timm",
            why_not_timm,
            {name: path.stat().st_size for name, path in sorted(paths.items())},
            proof,
            judgements,
            self.left_out,
            results,
        )

    def put(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    def weights_and_config(self, license_id: str | None) -> str:
        """model.safetensors and the JSON files beside it; returns why they are not timm's, if they are not."""
        self.progress("writing the weights")
        model, config, why = self.model, self.model.config, ""
        target = layout_named("timm")
        try:
            timm_model(config)
            if self.preprocess is None:
                raise CannotExpress("timm prepares images of 1 or 3 channels only")
            values = timm_config(config, self.preprocess, model.labels, license_id)
            tensors, _ = in_layout(model, target)
            # in_layout has folded another eps into the norms, and the file must not state it again.
            written = replace(model, config=replace(config, eps=type(config).eps))
        except CannotExpress as error:
            why, target, written = str(error), layout_named("library"), model
            values = library_config(config, model.labels)
            tensors, _ = in_layout(model, target)
        write(self.folder / WEIGHTS, tensors, written, target)
        self.put(CONFIG, to_text(values))
        if self.preprocess:
            self.put(PREPROCESSOR, to_text(preprocessor_config(self.preprocess, timm=not why)))
        return why

    def float32(self, keep: bool) -> Verification:
        """The float32 graph, and the proof that it and the weights equal the source.

        It is made even if it is not wanted: the reduced precisions are made from it and judged by it.
        """
        self.progress("writing the ONNX file")
        self.proto = to_onnx(self.model)
        self.path = self.put(ONNX_FILES["fp32"], self.proto.SerializeToString())
        weights = self.folder / WEIGHTS
        proof = prove_float(self.source, self.model, weights, self.path, self.reading, self.progress)
        if not proof.passed:
            raise VerificationFailed(
                f"{shown(self.source)}: what was written does not compute the same ({reason(proof)})"
            )
        if keep:
            size = self.path.stat().st_size
            error = max(c.error for c in proof.results[f"ONNX Runtime, {self.path.name}"])
            self.files[ONNX_FILES["fp32"]] = OnnxFile(ONNX_FILES["fp32"], "fp32", size, error)
        return proof

    def reduced(self, wanted: Sequence[str], images: Sequence[np.ndarray[Any, Any]]) -> None:
        """fp16 and 8 bits, each kept if it stays within its budget."""
        batches = judges(self.model, images[1::2])
        run = onnx_engine(self.path)
        self.progress("float32 on the images that judge")
        truths = [run(batch.array) for batch in batches]
        for precision in (name for name in ("fp16", "int8") if name in wanted):
            name = ONNX_FILES[precision]
            self.progress(f"making {precision}")
            try:
                if precision == "fp16":
                    proto = to_half(self.proto)
                    check_range(self.proto, batches[-4:])
                else:
                    proto = to_int8(self.proto, calibration_inputs(self.model, images[::2]))
                path = self.put(name, proto.SerializeToString())
                verdict = judged(precision, onnx_engine(path), batches, truths)
            except CannotWrite:
                raise
            except ConverterError as error:
                self.left_out[name] = str(error)
            else:
                size, float32 = path.stat().st_size, self.path.stat().st_size
                problems = verdict.problems if size < float32 else ["it is no smaller than the float32 file"]
                if not problems:
                    self.files[name] = OnnxFile(name, precision, size, verdict.error, verdict)
                    continue
                self.left_out[name] = "; ".join(problems)
            with suppress(FileNotFoundError):
                (self.folder / name).unlink()

    def measured(self, images: Path) -> Result:
        """Accuracy of the published weights on a folder of images."""
        self.progress(f"evaluating on {images.name}")
        found = evaluate(self.folder / WEIGHTS, images)
        values = found.to_dict()
        name = f"{images.resolve().name} ({found.images} images)"
        return Result(name, values["top1"], values["top5"], "measured on conversion, in ONNX Runtime")


def _wanted(onnx: Iterable[str]) -> list[str]:
    asked = set(onnx)
    if unknown := asked - set(ONNX_FILES):
        raise ConverterError(f"no precision is called {', '.join(sorted(unknown))}; there are {', '.join(ONNX_FILES)}")
    return [precision for precision in ONNX_FILES if precision in asked]


def _described(
    model: Model, zoo: ZooModel | None, preprocess: Mapping[str, Any] | None, labels: Iterable[str]
) -> Model:
    """The model with what its packager says of it, and what its publisher does."""
    model, classes = described(model, preprocess, labels), model.config.num_classes
    names = model.labels
    if not names and classes == len(imagenet_classes()):
        # Where nothing is said of 1000 classes, timm and transformers take them for ImageNet's.
        names = imagenet_classes() if zoo else unknown_labels(classes)
    usual = zoo.preprocess.to_dict() if zoo else {}
    return replace(model, preprocess=model.preprocess or usual, labels=names)


def _is_as_published(model: Model, zoo: ZooModel) -> bool:
    """Whether nothing was said that makes it another model than the one whose accuracy is published."""
    same = model.config == zoo.config and model.preprocess == zoo.preprocess.to_dict()
    return same and model.labels == imagenet_classes()


def _license(asked: str | None, zoo: ZooModel | None) -> str | None:
    """The licence's identifier as the Hub spells it.

    Raises:
        ConverterError: it is none, or not the publisher's.
    """
    if asked is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", asked):
        raise ConverterError(f"--license {asked}: not an identifier of a licence; apache-2.0 and mit are some")
    known = zoo.license.lower() if zoo else None
    if zoo and asked and known and asked.lower() != known:
        raise ConverterError(f"--license {asked}: {zoo.name} is published under {known}, and so are copies of it")
    return known or (asked.lower() if asked else None)


def _move(staged: Path, folder: Path) -> None:
    """Put staged files in place, provenance.json last; drop what an earlier package left unchanged.

    Raises:
        CannotWrite: that would overwrite what no package put there, or somebody has edited since.
    """
    files = sorted(path.relative_to(staged) for path in staged.rglob("*") if path.is_file())
    try:
        former = read_provenance(folder)
    except UnreadableFile:
        former = {}
    altered = changed(folder, former)
    interrupted = _interrupted(folder)
    for name in (file.as_posix() for file in files if file.name != PROVENANCE):
        there = folder / name
        strange = there.is_file() and (name not in former or name in altered)
        if strange and sha256(there) not in (sha256(staged / name), interrupted.get(name)):
            why = "was changed since it was packaged" if name in former else "is not of an earlier package"
            raise CannotWrite(f"{there}: {why}, and would be overwritten; move it, or name another folder")
    make_folder(folder)
    shutil.copyfile(staged / PROVENANCE, folder / NEXT)
    stale = [name for name in former if name not in altered and Path(name) not in files]
    for file in sorted(files, key=lambda file: file.name == PROVENANCE):
        make_folder((folder / file).parent)
        shutil.move(staged / file, folder / file)
    for name in stale:
        (folder / name).unlink()
        with suppress(OSError):
            (folder / name).parent.rmdir()
    (folder / NEXT).unlink()


def _interrupted(folder: Path) -> dict[str, str]:
    """SHA-256 of what a package that was killed while moving was about to put here."""
    with suppress(OSError, ValueError):
        return {name: recorded.sha256 for name, recorded in parse_provenance((folder / NEXT).read_bytes()).items()}
    return {}
