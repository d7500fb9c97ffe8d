"""What the files of a package say, held against each other without computing.

The weights' own metadata is what the others are held against: it says which network, which
preprocessing and which classes; its tensors' names and shapes must agree with it.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile
from converter.core.metadata import ACTIVATION_KEY, CONFIG_KEY, FINGERPRINT_KEY, LABELS_KEY, PREPROCESS_KEY
from converter.core.model import Images, Model
from converter.core.source import Source
from converter.engines.runtimes import runtime_of
from converter.fetch.hub_files import SUFFIXES
from converter.fetch.place import Place
from converter.parity.artifact import Artifact
from converter.parity.checks import Check, own_metadata
from converter.parity.onnx_checks import onnx_checks
from converter.publish.expectations import (
    CARD,
    CONFIG,
    OURS,
    PAGE,
    PARITY,
    PREPROCESSOR,
    REQUIRED,
    describe,
)
from converter.publish.page import why_other
from converter.publish.provenance import PROVENANCE, Recorded
from converter.publish.transformers_code import CODE, code_of
from converter.reading.load import load
from densenet.config import DenseNetConfig
from densenet.topology import FEATURES, INPUT, LOGITS

UNREADABLE = Check("valid ONNX", False, "not an ONNX file, or damaged")
GIT = (".gitattributes", ".gitignore")
INSTEAD = ("processor_config.json", "adapter_config.json")
"""What transformers reads before a package's own files, where it is there."""


def listed(
    files: Mapping[str, Recorded], wrong: Mapping[str, str], present: Collection[str], *, published: bool
) -> list[Check]:
    """Each file against provenance.json (``wrong``: why it is not as recorded), and that against what is there.

    Before it is published the card is for people to edit; push records what it is then.
    """
    checks = [Check(name, name not in wrong, wrong.get(name, "")) for name in sorted(files)]
    if not published and CARD in wrong and CARD in present:
        edited = Check(CARD, None, "edited since it was packaged; densenet push publishes it as it is")
        checks = [edited if check.name == CARD else check for check in checks]
    missing = [name for name in REQUIRED if name not in files]
    checks += [Check(name, False, f"not in {PROVENANCE}: nothing vouches for it") for name in missing]
    strange = [name for name in sorted(set(files) - OURS) if name.endswith((*SUFFIXES, ".py", ".json"))]
    checks += [Check(name, False, "no package has it, and nothing proves what it says") for name in strange]
    extra = sorted(set(present) - set(files) - {PROVENANCE, *missing, *GIT})
    return checks + [
        Check(name, False if name in (*OURS, *INSTEAD) else None, f"not in {PROVENANCE}") for name in extra
    ]


def published_model(weights: Path) -> Model:
    """The published weights, described by nothing but their own metadata.

    Raises:
        ConverterError: they are not what a package has: safetensors, under the names that config.json's
            readers look for, with the config in its metadata.
    """
    model = load(weights)
    if model.origin.format != "safetensors" or CONFIG_KEY not in model.stated:
        raise UnreadableFile(f"{weights.name}: not a safetensors file that densenet package wrote")
    preprocess, labels = model.stated.get(PREPROCESS_KEY), model.stated.get(LABELS_KEY, [])
    if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
        raise UnreadableFile(f"{weights.name}: its metadata is damaged (class names that are none)")
    own = model.images.preprocess if preprocess else None  # and nothing that a config.json beside it says
    layout = describe(model.config, replace(model.images, preprocess=own)).layout
    try:
        model = load(weights, layout=layout)
    except NotADenseNet as error:
        raise UnreadableFile(f"{weights.name}: its tensors have other names than the {layout} layout's") from error
    if model.origin.prefix or model.origin.inside:
        raise UnreadableFile(f"{weights.name}: its names have {model.origin.prefix or model.origin.inside} before them")
    said, activation = model.images, model.stated.get(ACTIVATION_KEY, "")
    descriptions = said.descriptions if labels else ()
    images = Images(own, tuple(labels), activation, said.thresholds, said.heads, descriptions)
    return replace(model, images=images)


def weights_checks(model: Model) -> list[Check]:
    """The published weights against their own metadata."""
    checks = own_metadata(model.stated, model.config)
    if model.origin.layout == "timm" and model.config.eps != DenseNetConfig.eps:
        checks.append(Check("eps", False, f"{model.config.eps:g}; timm computes with {DenseNetConfig.eps:g}"))
    return checks


def json_checks(folder: Path, good: Collection[str], model: Model) -> dict[str, list[Check]]:
    """The JSON files of a folder, as far as their hash is right (``good``), against the published weights."""
    try:
        said = describe(model.config, model.images)
    except ConverterError as error:
        return {CONFIG: [Check("network", False, str(error))]}
    wanted: dict[str, Mapping[str, Any]] = {CONFIG: said.config}
    if said.preprocessor is not None:
        wanted[PREPROCESSOR] = said.preprocessor
    result = {}
    for name, values in wanted.items():
        if name in good:
            result[name] = _compared(folder / name, values)
        elif name not in REQUIRED:  # those are missed elsewhere
            result[name] = [Check("file", False, "missing")]
    if PREPROCESSOR in good and said.preprocessor is None:
        result[PREPROCESSOR] = [Check("file", False, "the weights say of no images how they are prepared")]
    if PARITY in good:
        passed = _read(folder / PARITY).get("passed")
        result[PARITY] = [Check("verdict", passed is True, "" if passed is True else f"says {json.dumps(passed)}")]
    result |= _code_checks(folder, good, said.code)
    if PAGE in good:
        why = why_other((folder / PAGE).read_bytes(), model, folder)
        result[PAGE] = [Check("page", not why, why)]
    record = _read(folder / PROVENANCE)
    recorded = record.get("config")
    # The source's own eps may be folded into the norms.
    same = isinstance(recorded, dict) and {**recorded, "eps": 0} == {**model.config.to_dict(), "eps": 0}
    result[PROVENANCE] = [Check("config", same, "" if same else "is another network's than the weights'")]
    made_of, says = model.stated.get(FINGERPRINT_KEY), record.get("fingerprint")
    if made_of or says:
        why = "" if says == made_of else f"{says}; the weights' file records {made_of}"
        result[PROVENANCE].append(Check("fingerprint", not why, why))
    return result


def _code_checks(folder: Path, good: Collection[str], wanted: Collection[str]) -> dict[str, list[Check]]:
    """The files that transformers runs: those that this version ships, byte for byte, and only where they are named."""
    result = {name: [Check("file", False, "missing")] for name in wanted if name not in good}
    for name in (name for name in CODE if name in good):
        same = (folder / name).read_bytes() == code_of(name)
        why = "" if same else "not the code that this version of densenet-converter ships; read it before you run it"
        if same and name not in wanted:
            same, why = False, "code of which these weights have no need"
        result[name] = [Check("code", same, why)]
    return result


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty if it is none."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _compared(path: Path, wanted: Mapping[str, Any]) -> list[Check]:
    """Every field, and no other; the licence is free, since no weight shows it."""
    have, want = _fields(_read(path)), _fields(wanted)
    return [
        Check(
            ".".join(key),
            have.get(key) == want.get(key),
            "" if have.get(key) == want.get(key) else f"says {_short(have, key)}, the weights {_short(want, key)}",
        )
        for key in {**want, **have}
        if key != ("pretrained_cfg", "license")
    ]


def _fields(values: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """``pretrained_cfg``'s fields one by one, beside the others."""
    result: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        if key == "pretrained_cfg" and isinstance(value, dict):
            result |= {(key, inner): field for inner, field in value.items()}
        else:
            result[(key,)] = value
    return result


def _short(fields: Mapping[tuple[str, ...], Any], key: tuple[str, ...]) -> str:
    if key not in fields:
        return "nothing"
    text = json.dumps(fields[key])
    return text if len(text) < 60 else f"{text[:57]}..."


def graph_checks(path: Path, precision: str, model: Model) -> list[Check]:
    """An ONNX file of a package: what every reader of one relies on, and what any ONNX file is checked for."""
    try:
        file = Artifact.of_onnx(path.name, Place(path, path.name), Source(path))
    except UnreadableFile:
        return [UNREADABLE]
    assert file.given is not None
    found = file.precision()
    checks = [
        Check("precision", found == precision, "" if found == precision else f"{found}, {precision} expected"),
        _interface(file.given, model.config),
    ]
    said = any(prop.key == CONFIG_KEY for prop in file.given.metadata_props)
    checks.append(Check("own metadata", said, "" if said else f"no {CONFIG_KEY}"))
    known = {check.name for check in checks}
    for head, own in model.branches().items():
        try:
            others = onnx_checks(file.of(head) if head else file, own.config, own.images, own, promised=True)
        except ConverterError as error:  # it has other heads
            others = [Check("heads", False, str(error))]
        named = f" of {head}" if head else ""
        checks += [replace(check, name=check.name + named) for check in others if check.name not in known]
    return checks


def runs_here(path: Path) -> bool:
    """Whether another runtime's file can be compared: its engine is installed and loads it, or it is read instead."""
    runtime = runtime_of(path)
    able = runtime is not None and not runtime.lacks(runtime.runs)
    return able and all(check.ok is not False for check in program_checks(path))


def program_checks(path: Path) -> list[Check]:
    """A file of another runtime: float32, made by this tool; what it computes is compared where it can be run."""
    runtime = runtime_of(path)
    if runtime is None:
        return [Check("program", False, "not a file of the runtime whose name it has")]
    if lacks := runtime.lacks(runtime.runs):
        return [Check("program", None, f"not run in {runtime.name}: {lacks}")]
    if runtime.elsewhere:
        return [Check("engine", None, runtime.elsewhere)]
    try:
        declared = runtime.declared(path)
    except ConverterError as error:
        return [Check("program", False, str(error).removeprefix(f"{path}: "))]
    right, said = declared.precision == "fp32", CONFIG_KEY in declared.metadata
    return [
        Check("precision", right, "" if right else f"{declared.precision}, fp32 expected"),
        Check("own metadata", said, "" if said else f"no {CONFIG_KEY}"),
    ]


def _interface(proto: onnx.ModelProto, config: DenseNetConfig) -> Check:
    """One input and one output (of several heads one each), of the usual names, with axes of their own."""
    taken = [value.name for value in proto.graph.input]
    given = [value.name for value in proto.graph.output]
    expected = [head.name for head in config.heads] or [LOGITS if config.num_classes else FEATURES]
    if taken != [INPUT] or given != expected:
        return Check("interface", False, f"{', '.join(taken)} -> {', '.join(given)}")
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    names = [dim.dim_param for i, dim in enumerate(dims) if i != 1]
    good = all(names) and len(set(names)) == len(names)
    return Check("interface", good, "" if good else "batch and size must be axes of their own, of any length")
