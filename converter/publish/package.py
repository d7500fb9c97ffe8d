"""A checkpoint as the folder that becomes a Hugging Face repository.

Everything is written into a hidden folder and proved there; only then is it moved into
place, a new folder as a whole, else ``provenance.json`` last.  So the target is whole, or as
it was, or (killed while moving) does not match its own provenance, and packaging again mends it.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Unpack

from converter.core.checkpoint import Array
from converter.core.errors import CannotWrite, ConverterError, Unavailable, VerificationFailed
from converter.core.files import scratch, sweep, with_parents
from converter.core.memory import give_back
from converter.core.model import Images, Model, several
from converter.core.norms import missing_counters
from converter.core.progress import Progress, shown_in_notebooks
from converter.core.shorthand import Shorthand, records, taken
from converter.core.source import AnySource, Source
from converter.engines.runtime import Job, check_writers
from converter.engines.torch import has_torch
from converter.exporters.fp16 import to_half
from converter.exporters.onnx import lazy_onnx
from converter.layouts import layout_named
from converter.parity.budget import Judgement, judged, judges
from converter.parity.heads import of_head
from converter.parity.report import reason, to_html
from converter.parity.verdict import Verification
from converter.publish.card import CardFacts, OnnxFile, RuntimeFile, model_card
from converter.publish.expectations import (
    CARD,
    CONFIG,
    ONNX_FILES,
    PAGE,
    PARITY,
    PARITY_HTML,
    PREPROCESSOR,
    WEIGHTS,
    Description,
    describe,
)
from converter.publish.page import PRECISIONS, check_page, page
from converter.publish.programs import program_files, write_programs
from converter.publish.proof import prove_float
from converter.publish.provenance import PROVENANCE, provenance, rounded, to_text
from converter.publish.publisher import completed, is_as_published, license_of, zoo_entry
from converter.publish.recipe import Ingredients, Recipe
from converter.publish.results import Result, measured, published
from converter.publish.staging import move_into_place
from converter.publish.transformers_code import code_of
from converter.reading.load import load
from converter.use.assumed import assumed, assumed_activation
from converter.use.calibrate import (
    UNSEEN,
    calibrate,
    calibration_inputs,
    check_range,
    images_of,
    input_shape,
    typical,
)
from converter.use.evaluate import check, evaluate
from converter.use.evaluation.dataset import Dataset
from converter.use.network import names_of, onnx_logits
from converter.writing.convert import write
from converter.writing.in_layout import in_layout
from densenet.preprocess import Preprocess
from densenet.zoo import ZooModel


@dataclass(frozen=True)
class Package:
    """What :func:`package` wrote.

    Attributes:
        folder: where.
        model: the weights as read.
        layout: whose names the weights have: ``timm``, or ``library`` and ``why_not_timm``.
        why_not_transformers: why not even with the package's own code; empty if it loads the network.
        files: path in the repository to size in bytes, provenance.json included.
        proof: that the float32 files equal the source.
        judgements: reduced precisions that were written, by their path.
        left_out: files that were not, and why.
        results: figures the card states.
    """

    folder: Path
    model: Model
    layout: str
    why_not_timm: str
    why_not_transformers: str
    files: Mapping[str, int]
    proof: Verification
    judgements: Mapping[str, Judgement]
    left_out: Mapping[str, str]
    results: Sequence[Result]

    def __repr__(self) -> str:
        return f"Package({str(self.folder)!r}, {len(self.files)} files, {self.model!r})"

    def compared(self, name: str) -> str:
        """How a file of reduced precision compares with float32, in words; empty for others."""
        verdict = self.judgements.get(name)
        return f"error {verdict.error:.2%}, same top-1 on {verdict.top1:.1%}" if verdict else ""

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "folder": str(self.folder),
            "source": self.model.origin.name,
            "source_sha256": self.model.origin.sha256,
            "architecture": self.model.config.name,
            "layout": self.layout,
            "why_not_timm": self.why_not_timm,
            "why_not_transformers": self.why_not_transformers,
            "files": dict(self.files),
            "proof": self.proof.to_dict(),
            "judgements": {name: judgement.to_dict() for name, judgement in self.judgements.items()},
            "left_out": dict(self.left_out),
            "notes": list(self.model.notes),
        }


class Order(Shorthand, Ingredients, total=False):
    """The fields of a :class:`Recipe`, of the checkpoint's :class:`Source` and of its :class:`Images` as keywords."""


def package(
    source: AnySource,
    folder: str | Path,
    *,
    recipe: Recipe | None = None,
    images: Images | None = None,
    repo: str | None = None,
    force: bool = False,
    progress: Progress = shown_in_notebooks,
    **order: Unpack[Order],
) -> Package:
    """Write the repository of a checkpoint: weights, config, ONNX files, card, proofs, provenance.

    Args:
        source: a checkpoint, as for :func:`converter.load`.
        folder: where; files in it that are none of a package's are left alone.
        recipe: what goes into it.
        images: what its images and classes are, where the source does not say.
        repo: ``owner/name`` on the Hub, instead of the recipe's.
        force: whether files in it may be replaced that no package put there, or that were edited since.
        progress: called with a line before each step.
        order: the fields of these records as keywords.

    Raises:
        VerificationFailed: what was written does not compute what the source computes.
        ConverterError: one of its kinds.  The folder is then as it was before.

    Example:
        >>> from converter import package
        >>> done = package("digits.pth", "repository", onnx=["fp32"])
        >>> done.proof.passed
        True
    """
    folder = Path(folder)
    recipe = replace(recipe or Recipe(), **taken(order, Ingredients))
    recipe = replace(recipe, repo=repo) if repo is not None else recipe
    wanted, said = records(source, images, order)
    if recipe.original is not None and not has_torch():
        raise Unavailable("an original is judged in PyTorch: pip install 'densenet-converter[torch]'")
    check_writers(recipe.runtimes, folder)
    if folder.exists() and not folder.is_dir():
        raise CannotWrite(f"{folder}: is a file; name a folder")
    progress(f"reading {wanted}")
    model = load(wanted)
    if model.config.heads and recipe.runtimes:
        raise several(model.config, f"a file for {recipe.runtimes[0].name} gives the logits of one head")
    zoo = zoo_entry(wanted.address, model)
    recipe = replace(recipe, license_id=license_of(recipe.license_id, zoo))
    model = completed(model, zoo, said)
    heads: list[str] = []
    if recipe.page:
        check_page(model.config, list(recipe.onnx))
    if recipe.evaluation is not None:
        if not (model.config.num_classes or model.config.heads):
            raise ConverterError(f"{wanted}: has no classifier, so there is no accuracy to evaluate")
        heads = check(Dataset.of(recipe.evaluation), model)
    target = Path(os.path.realpath(folder))
    sweep(target.parent)
    try:
        # Inside a folder that is there: what is beside it may be read-only, or another file system.
        inside = target if target.is_dir() else target.parent
        with with_parents(target), scratch(inside) as temporary:
            done = _Builder(wanted, model, zoo, temporary, progress).build(recipe, heads)
            move_into_place(temporary, target, force=force)
    except OSError as error:
        raise CannotWrite(f"{folder}: cannot be written ({error.strerror or error})") from error
    return replace(done, folder=folder)


class _Builder:
    """Writes the files of one package, in the order in which they need each other."""

    def __init__(self, source: Source, model: Model, zoo: ZooModel | None, folder: Path, progress: Progress) -> None:
        self.source = source
        self.model = model = model.fingerprinted()
        self.folder = folder
        self.progress = progress
        self.zoo = zoo
        self.recorded = model.images.preprocess is not None
        self.assumed: tuple[str, ...] = ()
        with suppress(ValueError):  # a network that takes no ordinary images
            usual = Images(Preprocess.usual(model.config))
            notes = (*assumed(model.config, model.images), *assumed_activation(model.config, model.images))
            self.assumed = (*notes, *model.unsaid.values())  # as predict says them
            # Every file of the package says the same of its images; the card says that it is assumed.
            self.model = replace(model, images=model.images.or_else(usual))
        self.files: dict[str, OnnxFile] = {}
        self.left_out: dict[str, str] = {}
        self.others: list[RuntimeFile] = []
        self.used = ["torch"] if has_torch() else []

    def build(self, recipe: Recipe, heads: Sequence[str]) -> Package:
        """All of it; ``heads`` are those that are evaluated."""
        model, wanted = self.model, set(recipe.onnx)
        images = images_of(model, recipe.calibration) if recipe.calibration else []
        described = self.weights_and_config(recipe.license_id)
        proof = self.float32("fp32" in wanted, recipe)
        if wanted & {"fp16", "int8"}:
            self.reduced(wanted, images)
        if "fp32" not in wanted:
            self.path.unlink()
        with suppress(OSError):
            (self.folder / "onnx").rmdir()  # nothing is in it
        results = published(self.zoo) if self.zoo and is_as_published(model, self.zoo) else []
        if recipe.evaluation is not None:
            dataset = Dataset.of(recipe.evaluation)
            self.progress(f"evaluating on {dataset.title}")
            results += [measured(evaluate(self.folder / WEIGHTS, dataset, head=head)) for head in heads]
        facts = CardFacts(
            model,
            recipe,
            self.recorded,
            self.zoo,
            described,
            list(self.files.values()),
            self.left_out,
            results,
            proof,
            self.others,
            len(typical(images[::2])),
        )
        self.put(CARD, model_card(facts).encode())
        if recipe.page:
            self.page(recipe.runtime)
        judgements = {name: file.judgement for name, file in self.files.items() if file.judgement}
        unseen = [UNSEEN] if ONNX_FILES["int8"] in self.files and not images else []
        notes = (*proof.notes, *unseen, *(f"{name} is left out: {why}" for name, why in self.left_out.items()))
        proof = replace(proof, budgets=judgements, notes=notes)
        self.put(PARITY, to_text(rounded(proof.to_dict())))
        self.put(PARITY_HTML, to_html(proof).encode())
        paths = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        record = provenance(model, paths, repo=recipe.repo, used=self.used, added=len(self.added))
        self.put(PROVENANCE, to_text(record))
        paths[PROVENANCE] = self.folder / PROVENANCE
        return Package(
            self.folder,
            model,
            described.layout,
            described.why_not_timm,
            described.why_not_transformers,
            {name: path.stat().st_size for name, path in sorted(paths.items())},
            proof,
            judgements,
            self.left_out,
            results,
        )

    def page(self, runtime: str) -> None:
        """index.html, for the most exact of the ONNX files.

        Raises:
            ConverterError: none was written.
        """
        name = next((ONNX_FILES[one] for one in PRECISIONS if ONNX_FILES[one] in self.files), None)
        if name is None:
            raise ConverterError(f"the page has no ONNX file to compute with: {'; '.join(self.left_out.values())}")
        self.progress("writing the page")
        self.put(PAGE, page(self.model, name, self.folder / name, place=runtime, notes=self.assumed))

    def put(self, name: str, data: bytes | Callable[[IO[bytes]], None]) -> Path:
        """Write a file: its bytes, or what writes them."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                data(file)
        return path

    def weights_and_config(self, license_id: str | None) -> Description:
        """model.safetensors, the JSON files beside it, and the code that these name; returns what they say."""
        self.progress("writing the weights")
        said = describe(self.model.config, self.model.images, license_id)
        # Without them transformers, which takes nothing for granted, says that it made up weights.
        self.added = missing_counters(self.model.config, self.model.tensors) if said.layout == "timm" else {}
        whole = replace(self.model, tensors={**self.model.tensors, **self.added})
        write(self.folder / WEIGHTS, in_layout(whole, layout_named(said.layout)), lambda: self.model.fingerprint)
        self.put(CONFIG, to_text(said.config))
        if said.preprocessor:
            self.put(PREPROCESSOR, to_text(said.preprocessor))
        for name in said.code:
            self.put(name, code_of(name))
        return said

    def float32(self, keep: bool, recipe: Recipe) -> Verification:
        """The float32 graph and other runtimes' programs, and the proof that they and the weights equal the source.

        It is made even if it is not wanted: the reduced precisions are made from it and judged by it.
        """
        self.progress("writing the ONNX file")
        self.made = lazy_onnx(self.model)
        self.path = self.put(ONNX_FILES["fp32"], self.made.write)
        job = Job(self.model, "fp32", input_shape(self.model, 1), lambda: self.made)
        programs, self.left_out = write_programs(recipe.runtimes, job, self.folder, self.progress)
        self.used += [name for runtime in programs for name in runtime.writes if name not in self.used]
        files = (self.folder / WEIGHTS, self.path, *programs.values())
        proof = prove_float(self.source, self.model, files, self.progress, original=recipe.original)
        if not proof.passed:
            raise VerificationFailed(f"{self.source}: what was written does not compute the same ({reason(proof)})")
        self.others = program_files(programs, job, self.folder, proof)
        if keep:
            size = self.path.stat().st_size
            runs = (f"ONNX Runtime, {self.path.name}{of_head(head)}" for head in names_of(self.model.config))
            error = max(c.error for name in runs for c in proof.results[name])
            self.files[ONNX_FILES["fp32"]] = OnnxFile(ONNX_FILES["fp32"], "fp32", size, error)
        return proof

    def reduced(self, wanted: Collection[str], images: Sequence[Array]) -> None:
        """fp16 and 8 bits, each kept if it stays within its budget."""
        batches = judges(self.model, images[1::2])
        config = self.model.config
        run = onnx_logits(self.path, config)
        self.progress("float32 on the images that judge")
        truths = [run(batch.array) for batch in batches]
        del run
        for precision in (name for name in ("fp16", "int8") if name in wanted):
            give_back()
            name = ONNX_FILES[precision]
            self.progress(f"making {precision}")
            try:
                if precision == "fp16":
                    made = to_half(self.made)
                    check_range(self.made, batches[-4:])
                else:
                    made = calibrate(self.made, calibration_inputs(self.model, images[::2]), self.progress)
                path = self.put(name, made.write)
                verdict = judged(precision, onnx_logits(path, config), batches, truths, config)
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
