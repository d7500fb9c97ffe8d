"""index.html of a package: a page that classifies images in the browser, with ONNX Runtime Web and nothing else.

The page is one file.  What it loads, the model and the two files of ONNX Runtime Web, the browser itself holds against
hashes in it, and its policy lets it load and run nothing else.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from converter.core.errors import CannotExpress, ConverterError
from converter.core.model import Model, several
from converter.core.page import render
from converter.core.version import __version__
from converter.exporters.tap import class_maps
from converter.parity.proto import read_proto
from converter.publish.expectations import ONNX_FILES
from converter.publish.ort_web import FILES, RUNTIME, check_place
from converter.use.assumed import labels_for
from converter.use.cam import EXACT
from converter.use.overlay import COLOURS, STRONGEST, UNSEEN
from densenet.config import DenseNetConfig
from densenet.preprocess import MODES, Preprocess

TEMPLATES = Path(__file__).with_name("templates")
PRECISIONS = ("fp32", "int8", "fp16")
"""Which file a page loads, the first that is there: fp16 is computed in float32, on processors, with more steps."""
MEANINGS = {
    "softmax": "One of the classes is taken to be true.",
    "sigmoid": "Each class is a question of its own, and several can be true.",
    "none": "The outputs are numbers; no activation makes probabilities of them.",
}
DATA = re.compile(rb'<script type="application/json" id="facts">(.*?)</script>', re.DOTALL)


def check_page(config: DenseNetConfig, onnx_files: Sequence[str]) -> None:
    """Whether a network has a page.

    Raises:
        ConverterError: it classifies no images, or there is no ONNX file.
    """
    if not onnx_files:
        raise ConverterError("a page computes with an ONNX file of the package, and none is wanted")
    if config.heads:
        raise several(config, "a page is of one head")
    if not config.num_classes or config.spatial_dims != 2 or config.in_channels not in MODES:
        what = f"{config.num_classes} classes, {config.in_channels} channels and {config.spatial_dims} dimensions"
        raise ConverterError(f"a page is of a network that classifies images, grey or RGB, and not of one of {what}")


def page(model: Model, name: str, file: Path, *, place: str, notes: Sequence[str]) -> bytes:
    """index.html for one ONNX file of a package.

    Args:
        model: with what its images go through.
        name: the file's, from the page.
        file: where it is now.
        place: where ONNX Runtime Web is, from :func:`check_place`.
        notes: what is assumed of images and classes.

    Raises:
        UnreadableFile: it is no ONNX file.
    """
    steps = model.images.preprocess
    assert steps is not None
    data, more, why = file.read_bytes(), b"", ""
    config, activation = model.config, model.activation
    try:
        more = _maps(config, file)
    except CannotExpress as error:
        why = f"No class activation map: {error}."
    facts: dict[str, Any] = {
        "model": {"path": name, "integrity": _integrity(data)},
        "runtime": {"place": place, "files": FILES},
        "map": base64.b64encode(more).decode(),
        "noMap": why,
        "how": EXACT,
        "preprocess": steps.to_dict() | {"order": steps.order},
        "labels": labels_for(model.images, config.num_classes),
        "activation": activation,
        "thresholds": model.images.thresholds,
        "notes": list(notes),
        "colours": COLOURS,
        "strongest": STRONGEST,
        "unseen": UNSEEN,
    }
    script = "".join((TEMPLATES / name).read_text("utf-8") for name in ("prepare.js", "browser.js"))
    scale = ", ".join(f"rgb({r} {g} {b} / {at * STRONGEST:.0%}) {at:.0%}" for at, (r, g, b) in COLOURS)
    style = (TEMPLATES / "browser.css").read_text("utf-8").replace("{{COLOURS}}", scale)
    return render(
        "converter.publish",
        "browser.html.j2",
        title=f"{config.name}: {config.num_classes} {'class' if config.num_classes == 1 else 'classes'}",
        about=f"growth rate {config.growth_rate}, blocks of {', '.join(map(str, config.block_config))} layers, "
        f"{config.parameters():,} parameters",
        meaning=MEANINGS[activation],
        steps=_in_words(steps),
        facts=facts,
        # In a script nothing is escaped: no "<" may begin a tag there.
        data=json.dumps(facts).replace("<", "\\u003c"),
        script=script,
        style=style,
        policy=_policy(place, script, style),
        version=RUNTIME,
        tool=__version__,
    ).encode()


def why_other(text: bytes, model: Model, folder: Path) -> str:
    """Why index.html is not what this version makes for the files beside it; empty if it is."""
    found = DATA.search(text)
    try:
        facts = json.loads(found[1]) if found else {}
        name, place, notes = facts["model"]["path"], check_place(facts["runtime"]["place"]), facts["notes"]
        if name not in ONNX_FILES.values() or not all(isinstance(note, str) for note in notes):
            raise ValueError
        same = page(model, name, folder / name, place=place, notes=notes) == text
    except (ConverterError, KeyError, TypeError, ValueError, RecursionError, OSError):
        same = False
    return "" if same else "not the page that this version of densenet-converter makes for these weights"


def _maps(config: DenseNetConfig, file: Path) -> bytes:
    """What makes the graph give class activation maps.

    Raises:
        CannotExpress: that is not exact, or not in float32.
    """
    if config.global_pool != "avg" or config.head:
        what = "has layers before its classifier" if config.head else f"pools by {config.global_pool}"
        raise CannotExpress(f"the network {what}, and Grad-CAM needs PyTorch (densenet predict --cam)")
    return class_maps(read_proto(file))


def _integrity(data: bytes) -> str:
    return f"sha384-{base64.b64encode(hashlib.sha384(data).digest()).decode()}"


def _policy(place: str, script: str, style: str) -> str:
    """What the page may load and run: itself, the model beside it, and ONNX Runtime Web."""
    url = urlsplit(place)
    server = f" {url.scheme}://{url.netloc}" if url.netloc else ""
    return (
        f"default-src 'none'; script-src '{_integrity(script.encode())}' blob: 'wasm-unsafe-eval'; "
        f"style-src '{_integrity(style.encode())}'; connect-src 'self'{server}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _in_words(steps: Preprocess) -> str:
    """What images go through."""
    resizing = f" ({steps.interpolation}{'' if steps.antialias else ', not antialiased'})" if steps.resize else ""
    colours = "grey" if steps.channels == 1 else steps.order.upper()
    mean, std = (", ".join(map(str, values)) for values in (steps.mean, steps.std))
    return (
        f"Images go through: turned as their EXIF orientation says; {steps.sizes}{resizing}; {colours}, scaled to "
        f"0..1, less {mean}, divided by {std}."
    )
