"""Core ML's models: Model in Protocol Buffers (coremltools: mlmodel/format/Model.proto), alone or in a package."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from converter.core import bounds
from converter.core.checkpoint import Checkpoint
from converter.core.errors import UnreadableFile
from converter.core.metadata import to_json
from converter.formats.coreml.mil import program_of
from converter.formats.coreml.neural_network import BGR, labels_of, network_of
from converter.formats.coreml.program import Program
from converter.formats.damage import naming
from converter.formats.protobuf import mapped, message, messages, number, string, text

NAME = "Core ML"
HEAD = re.compile(rb"\x08[\x01-\x14]\x12[\x80-\xff]{0,4}[\x00-\x7f]\x0a", re.DOTALL)
"""{1: specificationVersion, 2: description {1: input}}."""
CLASSIFIER, REGRESSOR, NETWORK, PROGRAM = 403, 303, 500, 502
OTHERS = {
    **dict.fromkeys((200, 201, 202), "a pipeline of several models"),
    **dict.fromkeys((300, 301, 302, 304, 400, 401, 402, 404), "no neural network"),
    555: "a custom model",
    3000: "an encrypted or serialised model",
}


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file is a Core ML model."""
    return HEAD.match(head) is not None


def model_beside(path: Path) -> Path | None:
    """The model that a ``weight.bin`` in a folder below it belongs to; None where there is none."""
    if path.name != "weight.bin":
        return None
    found = list(islice(path.parent.parent.glob("*.mlmodel"), 2))
    return found[0] if len(found) == 1 else None


def open_weights(path: Path) -> Checkpoint:
    """Open the model that a ``weight.bin`` belongs to; errors as for :func:`open_coreml`."""
    return open_coreml(model_beside(path) or path)


def open_coreml(path: Path) -> Checkpoint:
    """Open a ``.mlmodel``, which may have its weights beside it.

    Raises:
        UnreadableFile: damaged, no network, its weights are compressed, or a file of weights is missing.
        UnsafeFile: it names a file elsewhere.
    """
    with naming(path):
        data = mapped(path)
        kinds = {n: next(messages(data, n)) for n in (CLASSIFIER, REGRESSOR, NETWORK, PROGRAM) if _has(data, n)}
        if not kinds:
            what = next((what for n, what in OTHERS.items() if _has(data, n)), "no network")
            raise UnreadableFile(f"a Core ML model that is {what}, which is not read")
        kind, inner = next(iter(kinds.items()))
        description, files = message(data, 2), list[Path]()
        if kind == PROGRAM:
            program, files = program_of(inner, path)
            labels = _classes(program)
        else:
            program, labels = network_of(inner, description), labels_of(inner) if kind == CLASSIFIER else []
        images = _images(description)
        blue = [
            f"Core ML gives its input {name} the image's channels blue first, and so its preprocessing does here"
            for name, space in images.items()
            if space == BGR
        ]
        order = "bgr" if blue else "rgb" if images else ""
        program = Program(program.inputs, program.operations, program.outputs, (*program.notes, *blue), order)
        said = _said(description)
    metadata = {**({"labels": to_json(labels)} if labels else {}), **said}
    return Checkpoint(path, NAME, {}, metadata, (path, *files), graph=program)


def _has(data: memoryview, n: int) -> bool:
    return next(messages(data, n), None) is not None


def _said(description: memoryview) -> dict[str, str]:
    """What its makers say of it, by key: ModelDescription {100: Metadata {100: userDefined {1: key, 2: value}}}."""
    entries = islice(messages(message(description, 100), 100), bounds.ENTRIES)
    return {text(entry, 1): string(message(entry, 2), "replace") for entry in entries}


def _classes(program: Program) -> list[str]:
    """The classes of a program's ``classify``."""
    for operation in program.operations:
        if operation.kind == "classify":
            return [name for each in operation.inputs.get("classes", ()) if isinstance(each, tuple) for name in each]
    return []


def _images(description: memoryview) -> dict[str, int]:
    """The inputs that are images, of 0 to 255, and their colour spaces.

    FeatureDescription {1: name, 3: FeatureType {4: imageType {3: colorSpace}}}.
    """
    found = {}
    for feature in islice(messages(description, 1), bounds.OUTPUTS):
        image = next(messages(message(feature, 3), 4), None)
        if image is not None:
            found[text(feature, 1)] = number(image, 3)
    return found
