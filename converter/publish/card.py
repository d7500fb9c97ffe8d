"""The model card: it says what is known and where from, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converter.core.errors import Unavailable
from converter.core.model import Model
from converter.core.page import cell
from converter.core.text import clean
from converter.exporters.graph import SPACE
from converter.parity.budget import BUDGETS, Judgement
from converter.parity.verdict import Verification
from converter.publish.expectations import PLACEHOLDER, Description, unknown_labels, unlike_timm
from converter.publish.recipe import Recipe
from converter.publish.results import Result
from densenet.module import COUNTER
from densenet.preprocess import Preprocess
from densenet.zoo import ZooModel

TEMPLATE = Path(__file__).with_name("card.md")
MEANINGS = {
    "sigmoid": "Each class is a question of its own: its logit's sigmoid is its probability, and several can be true.",
    "none": "The outputs are numbers; no activation makes probabilities of them.",
}
"""What logits are, by their activation; softmax is what readers of cards take for granted."""
ONE = "The one output is a logit: its sigmoid is the probability."
CALLS = {"sigmoid": ", top_k={}", "none": ', function_to_apply="none"'}
"""What transformers' pipeline is called with: all classes, 5 are usual; or no softmax of what are no logits."""

RGB = 3
"""Channels that transformers gives timm's networks, whatever their own number is."""
JS_DTYPES = {"fp32": "fp32", "fp16": "fp16", "int8": "q8"}
"""transformers.js' names of the files of :data:`ONNX_FILES`."""


@dataclass(frozen=True)
class OnnxFile:
    """One ONNX file of the repository, for the card's table."""

    path: str
    precision: str
    bytes: int
    error: float
    judgement: Judgement | None = None


@dataclass(frozen=True)
class RuntimeFile:
    """One float32 file of another runtime.

    Attributes:
        path, bytes: in the package; a folder's are those of all files in it.
        runtime, tag: for which, and what the Hub calls that.
        error: the largest, against the oracle.
        shape: of the images it takes; empty where it takes any.
        elsewhere: why it was not run; empty where it was.
    """

    path: str
    runtime: str
    tag: str
    bytes: int
    error: float
    shape: tuple[int, ...] = ()
    elsewhere: str = ""


@dataclass(frozen=True)
class CardFacts:
    """Everything a card is made of.

    Attributes:
        model: with what its images go through, if they are images.
        recipe: what was asked for; its licence in lower case, None if nobody says.
        recorded: whether the source said what images go through (else it is assumed).
        zoo: the published model this file is, if it is one.
        described: how the package says what the weights are.
        proof: that float32 equals the source.
        calibrated: the number of images that set the ranges of 8-bit numbers, beside synthetic ones.
    """

    model: Model
    recipe: Recipe
    recorded: bool
    zoo: ZooModel | None
    described: Description
    files: Sequence[OnnxFile]
    left_out: Mapping[str, str]
    results: Sequence[Result]
    proof: Verification
    others: Sequence[RuntimeFile] = ()
    calibrated: int = 0

    @property
    def preprocess(self) -> Preprocess | None:
        """What images go through, None for inputs that are no images."""
        steps = self.model.images.preprocess
        return steps if steps and not steps.of_volumes else None

    @property
    def timm(self) -> bool:
        """Whether timm can build the network."""
        return not self.described.why_not_timm


def model_card(facts: CardFacts) -> str:
    """README.md: metadata for the Hub, and the text.

    Raises:
        Unavailable: Jinja2 is not installed.
    """
    from huggingface_hub import ModelCard  # noqa: PLC0415 (slow to import)

    values = _values(facts)
    try:
        card = ModelCard.from_template(_metadata(facts), template_path=str(TEMPLATE), **values)
    except ImportError as error:
        raise Unavailable(f"the model card needs Jinja2 ({error}): pip install Jinja2") from error
    return clean(str(card).rstrip()) + "\n"


def _metadata(facts: CardFacts) -> Any:
    from huggingface_hub import EvalResult, ModelCardData  # noqa: PLC0415 (slow to import)

    config = facts.model.config
    task = "image-classification" if config.num_classes or config.heads else "image-feature-extraction"
    evaluations = [
        EvalResult(
            task_type=task,
            dataset_type=result.dataset_id,
            dataset_name=result.dataset,
            dataset_split=result.split,
            metric_type=figure.kind,
            metric_name=figure.name,
            metric_value=figure.value,
            source_name=result.who.removeprefix("published: ") if result.url else None,
            source_url=result.url,
        )
        for result in facts.results
        for figure in result.figures
    ]
    datasets = [*(["imagenet-1k"] if facts.zoo else []), *facts.recipe.datasets]
    return ModelCardData(
        library_name="timm" if facts.timm else "densenet-converter",
        pipeline_tag=task if config.spatial_dims == 2 else None,
        license=facts.recipe.license_id,
        tags=[task, "densenet", *_loaders(facts), "onnx", *(file.tag for file in facts.others), "safetensors"],
        datasets=datasets or None,
        base_model=facts.zoo.hub_id if facts.zoo else None,
        model_name=_title(facts) if evaluations else None,
        eval_results=evaluations or None,
    )


def _loaders(facts: CardFacts) -> list[str]:
    """The Hub's tags for who loads a package."""
    if facts.timm:
        return ["timm", "transformers"] if facts.model.config.in_channels == RGB else ["timm"]
    return ["transformers", "custom_code"] if facts.described.code else []


def _unlike(facts: CardFacts) -> list[str]:
    """What readers of the package do to images otherwise; the package's own code does all as the source did."""
    steps = facts.preprocess
    if steps is None:
        return []
    return unlike_timm(steps if facts.timm else Preprocess(antialias=steps.antialias))


def _title(facts: CardFacts) -> str:
    return facts.recipe.repo.partition("/")[2] if facts.recipe.repo != PLACEHOLDER else facts.model.config.name


def _values(facts: CardFacts) -> dict[str, Any]:
    model, config, labels = facts.model, facts.model.config, facts.model.images.labels
    size = (
        facts.preprocess.crop
        if facts.preprocess
        else {1: (256,), 2: (config.usual_size,) * 2, 3: (32,) * 3}[config.spatial_dims]
    )
    reduced = [file.judgement for file in facts.files if file.judgement]
    return {
        **_outputs(model),
        "heads": [{"name": head, **_of_head(one)} for head, one in model.branches().items() if head],
        "head_of_pipeline": f', model_kwargs={{"head": "{config.heads[0].name}"}}' if config.heads else "",
        "classifies": bool(config.num_classes or config.heads),
        "title": _title(facts),
        "config": config,
        "source": replace(model.origin, name=_inline(model.origin.name), layout=_inline(model.origin.layout)),
        "repo": facts.recipe.repo,
        "named": bool(labels) and labels != unknown_labels(config.num_classes),
        "parameters": config.parameters(),
        "fingerprint": model.fingerprint,
        "classes": [cell(name) for name in labels] if labels != unknown_labels(config.num_classes) else [],
        "flops": _readable(config.flops(size)),
        "macs": _readable(config.macs(size)).strip(),
        "size": " × ".join(map(str, size)),
        "license_text": facts.recipe.license_id or "not stated by the source; ask its authors before you use it",
        "about": facts.recipe.about,
        "timm": facts.timm,
        "page": facts.recipe.page,
        "described": facts.described,
        "pipeline": bool(config.num_classes or config.heads) and (config.in_channels == RGB or not facts.timm),
        "axes": list(SPACE[config.spatial_dims]),
        "volumes": facts.model.images.preprocess if config.spatial_dims == 3 else None,
        "pixels": facts.preprocess is not None,
        "preprocess": facts.preprocess,
        "preprocess_recorded": facts.recorded,
        "mode": "L" if config.in_channels == 1 else "RGB",
        "mean": list(facts.preprocess.mean) if facts.preprocess else [],
        "std": list(facts.preprocess.std) if facts.preprocess else [],
        "bgr": facts.preprocess is not None and facts.preprocess.order == "bgr",
        "unlike": _unlike(facts),
        "unlike_readers": "timm, transformers and transformers.js" if facts.timm else "transformers.js",
        "figures": list(dict.fromkeys(figure.column for result in facts.results for figure in result.figures)),
        "results": [_stated(result) for result in facts.results],
        "files": [_row(file) for file in facts.files],
        "others": [_row(OnnxFile(f.path, f"{f.runtime}, fp32", f.bytes, f.error)) for f in facts.others],
        "fixed": {f.path: " × ".join(map(str, f.shape)) for f in facts.others if f.shape},
        "run": [f.path for f in facts.others if not f.elsewhere],
        "elsewhere": {f.path: f.elsewhere for f in facts.others if f.elsewhere},
        "proof": facts.proof,
        "rests_on": cell(facts.proof.rests_on),
        "judged": _kinds(reduced[0]) if reduced else "",
        "budgets": ", ".join(f"{name} {BUDGETS[name].error:.0%}" for name in sorted({j.precision for j in reduced})),
        "js_dtype": JS_DTYPES[facts.files[-1].precision] if facts.files else "",
        "left_out": facts.left_out,
        "limitations": _limitations(facts),
    }


def _stated(result: Result) -> Result:
    """With names given by others as text."""
    notes = tuple(map(cell, result.notes))
    return replace(result, dataset=cell(result.dataset), detail=cell(result.detail), notes=notes)


def _of_head(model: Model) -> dict[str, Any]:
    """What is said of one of several heads."""
    said, classes = _outputs(model), model.config.num_classes
    labels, layers = [cell(name) for name in model.images.labels], ", ".join(model.config.head)
    return said | {"classes": classes, "layers": layers, "labels": labels, "stated": bool(model.images.activation)}


def _outputs(model: Model) -> dict[str, Any]:
    """What the outputs mean: of a network with classes, where it is not the usual softmax."""
    images, single = model.images, model.config.num_classes == 1
    activation = model.activation if model.config.num_classes else ""
    meaning = ONE if single and activation == "sigmoid" else MEANINGS.get(activation, "")
    if meaning and not images.activation:
        meaning += " The source does not say so: it is assumed."
    names = images.labels or [str(i) for i in range(len(images.thresholds))]
    thresholds = [(cell(name), "" if t is None else f"{t:.4g}") for name, t in zip(names, images.thresholds)]
    return {
        "activation": activation,
        "meaning": meaning,
        "thresholds": thresholds,
        "call": CALLS.get(activation, "").format(model.config.num_classes),
    }


def _readable(count: int) -> str:
    """A count with three digits and its unit: ``2.88 G``."""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} "


def _inline(text: str) -> str:
    """A name given by others, which may not become Markdown of its own."""
    return "".join(c for c in " ".join(text.split()) if c not in "`|<>[]")


def _row(file: OnnxFile) -> dict[str, str]:
    judged = file.judgement
    decided = "" if judged is None else "none is" if judged.top1_decided is None else f"{judged.top1_decided:.1%}"
    return {
        "path": file.path,
        "precision": file.precision,
        "size": f"{file.bytes / 1e6:.2f} MB",
        "error": f"{file.error:.1e}" if judged is None else f"{judged.error:.2%}",
        "top1": f"{judged.top1:.1%}" if judged else "",
        "decided": f"{decided} of {judged.decided}" if judged and judged.decided else decided,
    }


def _kinds(judged: Judgement) -> str:
    names = {"natural": "synthetic images with natural spectra", "noise": "of noise", "images": "real images"}
    return " and ".join(f"{count} {names.get(kind, kind)}" for kind, count in judged.kinds.items())


def _calibration(facts: CardFacts) -> str:
    """What set the ranges of 8-bit numbers."""
    if facts.recipe.calibration is None:
        return "synthetic images only, which costs accuracy on real ones"
    count, name = facts.calibrated, cell(Path(facts.recipe.calibration).name)
    return f"{count} image{'s' if count != 1 else ''} of its publisher's ({name}), beside synthetic ones"


def _limitations(facts: CardFacts) -> list[str]:
    lines = ["What the source has learned, and from what, is the source's; converting adds and removes nothing."]
    if not facts.zoo and not facts.results:
        lines.append("Whether and on what these weights were trained is not recorded here.")
    if facts.preprocess and not facts.recorded:
        lines.append("The preprocessing is assumed, and a wrong one costs accuracy without any error message.")
    if facts.timm and not any(name.endswith(COUNTER) for name in facts.model.tensors):
        lines.append(
            f"`{COUNTER}`, which the source does not have, is 0 everywhere: these counters matter in training only, "
            "not to the logits."
        )
    if any(file.precision == "int8" for file in facts.files):
        lines.append(
            f"The 8-bit file was calibrated with {_calibration(facts)}; it is right for inputs like those: measure on "
            "your own images."
        )
    if any(file.precision == "fp16" for file in facts.files):
        lines.append("fp16 halves the file; it is faster only where the runtime has float16 kernels (GPUs; not x86).")
    lines += [f"On conversion: {cell(note)}." for note in facts.model.notes]
    return lines
